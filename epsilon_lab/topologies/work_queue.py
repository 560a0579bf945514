"""One task an item: the flat queue, for work whose parts know nothing of each other."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from epsilon_lab.agents.function import PackedFunction, is_async, pack_function
from epsilon_lab.arguments import function, number, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body, TasksSubmitted, task_spec
from epsilon_lab.messages.tasks import Lane, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, pack
from epsilon_lab.topologies.plan import Add, Finish, PlanEffect
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory


def item_task_id(index: int) -> str:
    """The task id of an item, by its place."""
    return f"item-{index:06d}"


class WorkQueue:
    """Run a function on every item.

    Args:
        items: Anything picklable, in the order in which `run.results()` answers.
        task: `task(item) -> output`, plain or async, also one defined in a cell. Plain functions run in child
            processes, async ones on the lab's loop for leaves.
        retries: How often an item that raised is tried again.
        time_limit_s: Seconds one attempt may take; None for no limit.

    Raises:
        InvalidInput: An argument has a wrong type or value, or the function or an item cannot travel.
    """

    topology = "work_queue"
    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        items: Iterable[Any],
        task: Callable[[Any], Any],
        *,
        retries: int = 0,
        time_limit_s: float | None = None,
    ) -> None:
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise InvalidInput("WorkQueue items", f"must be an iterable of items, got {type(items).__name__}")
        function("WorkQueue task", task, ("item",), awaited=True)
        self.items: Sequence[Any] = list(items)
        self.retries = whole("WorkQueue retries", retries, least=0)
        self.time_limit_s = time_limit_s
        if time_limit_s is not None:
            self.time_limit_s = number("WorkQueue time_limit_s", time_limit_s, least=0, above=True)
        self.lane: Lane = "async" if is_async(task) else "process"
        self._code: PackedFunction = pack_function(task)
        self._payloads = [_payload(index, item) for index, item in enumerate(self.items)]

    def __repr__(self) -> str:
        return f"<WorkQueue {self._code.name}: {len(self.items)} items>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def title(self) -> str:
        """The function's name."""
        return self._code.name

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "task": self._code.name,
            "items": len(self.items),
            "retries": self.retries,
            "time_limit_s": self.time_limit_s,
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Nothing beyond what the constructor refused."""

    def prepare(self, run: RunDirectory) -> tuple[WorkQueuePlan, Sequence[Body]]:
        """Write the function into the run directory."""
        events: list[Body] = [run.save(f"code/{self._code.sha256}.pkl", self._code.blob, kind="code")]
        payloads: list[Value] = []
        for index, payload in enumerate(self._payloads):
            kept, saved = run.keep(payload, f"inputs/{item_task_id(index)}", kind="input", task_id=item_task_id(index))
            payloads.append(kept)
            events += saved
        tasks = tuple(
            TaskSpec(
                task_id=item_task_id(index),
                kind="item",
                lane=self.lane,
                entry=f"code:{self._code.sha256}",
                payload=payload,
                retries=self.retries,
                time_limit_s=self.time_limit_s,
            )
            for index, payload in enumerate(payloads)
        )
        return WorkQueuePlan(tasks), events

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> WorkQueuePlan:  # noqa: ARG004 - the journal has it all
        """Make the rules of a queue again: its tasks, as they were submitted."""
        lines = [
            line
            for record in records
            if record.type == "task.submitted"
            for line in msgspec.json.decode(record.body, type=TasksSubmitted).tasks
        ]
        return WorkQueuePlan(tuple(map(task_spec, lines)))


def _payload(index: int, item: Any) -> Value:
    try:
        return pack(item)
    except InvalidInput as error:
        raise InvalidInput(f"WorkQueue item {index}", str(error)) from error


class WorkQueuePlan:
    """The rules of a work queue: all at once, over when all are settled."""

    def __init__(self, tasks: tuple[TaskSpec, ...]) -> None:
        self.limits: dict[str, int] = {}
        self.reads_outputs = False
        self._tasks = tasks
        self._open = {task.task_id for task in tasks}
        self._completed = 0
        self._first_error = ""

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Submit every item."""
        return [Add(self._tasks)] if self._tasks else [Finish("completed", "there were no items")]

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Count, and finish with the last."""
        self._open.discard(outcome.task_id)
        if outcome.status == "completed":
            self._completed += 1
        elif not self._first_error and outcome.failure is not None:
            self._first_error = f"{outcome.task_id}: {outcome.failure.error}"
        if self._open:
            return []
        total = len(self._tasks)
        if not self._completed:
            return [Finish("failed", f"none of {total} items completed; first failure: {self._first_error}")]
        failed = total - self._completed
        return [
            Finish("completed", f"{self._completed} of {total} items completed" + (f", {failed} failed" * bool(failed)))
        ]

    def tick(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Time means nothing here."""
        return []

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """There is nothing to be told."""
        return []

    def news_in(self, line: Body) -> None:
        """Nobody was told anything."""

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """End with the items that are done."""
        done = f"{self._completed} of {len(self._tasks)} items were completed"
        return [Finish("completed" if self._completed else "failed", f"{reason}; {done}")]

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Give up what is not done."""
        return [Finish("stopped", f"{reason}; {self._completed} of {len(self._tasks)} items were completed")]
