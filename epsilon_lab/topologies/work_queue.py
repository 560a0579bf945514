"""One task an item: the flat queue, for work whose parts know nothing of each other."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab import ids
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer, Task, Work, code_refs, work_of
from epsilon_lab.arguments import above_zero, text, whole
from epsilon_lab.errors import InvalidInput, ends_run
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import CALL, CALL_ASYNC, call_of, code_of
from epsilon_lab.messages.events import Body, TaskLine, TasksRevised, TasksSubmitted, task_spec
from epsilon_lab.messages.tasks import Retry, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, as_json, stored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.manifest import make_root
from epsilon_lab.topologies.plan import (
    Add,
    Emit,
    Export,
    Finish,
    Plan,
    PlanEffect,
    Requeue,
    Revise,
    read_rules,
    save_rules,
)
from epsilon_lab.topologies.quality import Checkable, Inspection, Product, QualityRules, checked
from epsilon_lab.topologies.queue_manifest import read_queue
from epsilon_lab.topologies.revision import revise
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import PLAN, RunDirectory


def item_task_id(index: int, name: str = "") -> str:
    """The task id of an item, by its place, and its own id where it has one."""
    return f"item-{index:06d}" + (f"-{name}" if name else "")


def item_name(task_id: str) -> str:
    """The item's own id; empty where it has none."""
    return "".join(task_id.split("-", 2)[2:])


class QueueRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue is played by beside its tasks, where there is anything."""

    root: str = ""
    """Where outputs are also put, outside the run directory; empty for nowhere."""

    refs: dict[str, str] = {}
    """Task id -> file below the root."""

    quality: QualityRules | None = None


class WorkQueue:
    """Do the same with every item.

    Args:
        items: Anything picklable, in the order in which `run.results()` answers.
        task: `task(item) -> output`, plain or async, also one defined in a cell. Plain functions run in child
            processes, async ones on the lab's loop for leaves. Or a function's name, `module:function` or
            `file.py:function`, which is called with `{"item": ..., "workspace": ..., ...}`. Or an `LLM`: items are
            prompts then, outputs its replies, each on record before it counts. Or an `Agent`, or a `Command`. All but
            functions and models may ask for further items; what those give stands behind what their item gave.
        retries: How often an item that raised is tried again: after a wait of up to 1 s, the next time of up to 2 s,
            and so on. Or a `Retry`, which sets the waits (`base_s=0` for none) and says which exceptions are final.
        time_limit_s: Seconds one attempt may take; None for no limit.
        start_within_s: Seconds in which an item must have begun, from the start of the run, or it fails unbegun.
        finish_within_s: Seconds in which an item must be done, from the start of the run, all attempts included.
        beat_within_s: Seconds an attempt may go on without a sign of progress.
        memory_mb: MiB that an attempt may take on top of what its worker has; one that wants more fails with outcome
            `memory`. For plain functions alone: async ones share one process. Not held on macOS.
        qa: Looks at all outputs, `qa({task id: output})`, as it does for `Dag`; what it finds goes back to the items
            that it names in `node`, or else to all. They are told in `current_task().feedback`.
        fix_waves: As for `Dag`.
        assign: As for `Dag`.

    Raises:
        InvalidInput: An argument has a wrong type or value, or the function or an item cannot travel.
    """

    topology = "work_queue"
    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        items: Iterable[Any],
        task: Task,
        *,
        retries: int | Retry = 0,
        time_limit_s: float | None = None,
        start_within_s: float | None = None,
        finish_within_s: float | None = None,
        beat_within_s: float | None = None,
        memory_mb: float | None = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
    ) -> None:
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise InvalidInput("WorkQueue items", f"must be an iterable of items, got {type(items).__name__}")
        self.items: Sequence[Any] = list(items)
        self._work = work_of("WorkQueue task", task)
        if isinstance(task, LLM):
            for index, item in enumerate(self.items):
                text(f"WorkQueue item {index}", item)
        if not isinstance(retries, Retry):
            retries = Retry(limit=whole("WorkQueue retries", retries, least=0))
        self.retry = retries
        self.time_limit_s = above_zero("WorkQueue time_limit_s", time_limit_s) or self._work.time_limit_s
        self.start_within_s = above_zero("WorkQueue start_within_s", start_within_s)
        self.finish_within_s = above_zero("WorkQueue finish_within_s", finish_within_s)
        self.beat_within_s = above_zero("WorkQueue beat_within_s", beat_within_s)
        self.memory_mb = above_zero("WorkQueue memory_mb", memory_mb)
        if memory_mb is not None and self._work.lane != "process":
            raise InvalidInput(
                "WorkQueue memory_mb",
                "bounds a process, and async tasks share one",
                "leave it out, or use a plain function",
            )
        self._payloads = [self._payload(index, item) for index, item in enumerate(self.items)]
        self._title = self._work.name
        self._ids: Sequence[str] = [item_task_id(index) for index in range(len(self.items))]
        self._qa = Inspection.of("WorkQueue", qa, assign, fix_waves)
        self._rules = QueueRules(quality=self._qa.rules() if self._qa else None)

    @classmethod
    def from_manifest(
        cls,
        path: str | Path,
        *,
        model: LLM | Performer | None = None,
        retries: int = 1,
        time_limit_s: float | None = None,
    ) -> WorkQueue:
        """Read a queue from a manifest: a JSON document with Epsilon's fields, as far as they concern the map.

        `items`: what to map, each with `id` (taken once; letters, digits, `.`, `_`, `-`), and as wanted `input_ref` (a
        file), `input_text`, `payload` (an object), `output_ref` (a file below `output_root`; by default
        `maps/<id>.json` there).

        `output_root`: where outputs are put besides the run directory: a text as it is, all else as JSON.

        `map_task_template`: what to do with an item, with the placeholders `{item_id}`, `{input_ref}`, `{input_text}`
        (the item's, or else what is in its `input_ref`), `{output_ref}`, `{payload_json}`, `{task_type}` and
        `{payload_<name>}` for a number or text of the payload. There is no `{shard_id}`, since nothing is sharded.

        `map_executor`: `agent` (the default): one request to `model`, the filled template; the output is the reply.
        `python_handler`: `map_payload.handler` names a function `module:function` or `file.py:function`, which is
        called in a child process with `task_id`, `task_payload` (the item's fields, `instructions`, and `map_payload`)
        and `task_root` (the manifest's directory); its output is what it returns, plain data, not what it writes.
        `local_reduce`: counts the words of `input_text` and keeps the first 24. `direct_wiki` needs the network and is
        refused.

        `map_payload`: see there. `task_type`: a word for the template. The fields of reducers are refused.

        All paths are below the manifest's directory. `run.output` gives the outputs by item id, `run.results()` in the
        order of `items`; the task of an item is `item-<place>-<id>`.

        Args:
            path: The manifest.
            model: Who answers where the executor is `agent`.
            retries: How often an item that failed is tried again; Epsilon's own is 1.
            time_limit_s: Seconds one attempt may take; None for no limit.

        Raises:
            InvalidInput: Naming the place in the document, such as `$.items[3].id`. Nothing has run by then, but the
                top level of the handler's module.
        """
        queue = read_queue(path, model)
        made = cls(queue.items, queue.task, retries=retries, time_limit_s=time_limit_s)
        made._ids = [item_task_id(index, name) for index, name in enumerate(queue.ids)]
        made._payloads = [made._work.call(argument=item) for item in made.items]
        refs = dict(zip(made._ids, queue.output_refs, strict=True))
        made._rules = msgspec.structs.replace(made._rules, root=queue.output_root, refs=refs)
        made._title = Path(path).stem
        return made

    def _payload(self, index: int, item: Any) -> Value:
        try:
            return self._work.call(argument=item, takes_tasks=True)
        except InvalidInput as error:
            raise InvalidInput(f"WorkQueue item {index}", str(error)) from error

    def __repr__(self) -> str:
        return f"<WorkQueue {self._title}: {len(self.items)} items>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def title(self) -> str:
        """The function's name, the model's, or the manifest's."""
        return self._title

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "task": self._work.name,
            "items": len(self.items),
            "retries": self.retry.limit,
            "time_limit_s": self.time_limit_s,
            **{name: value for name in _BOUNDS if (value := getattr(self, name)) is not None},
            **(self._qa.config() if self._qa else {}),
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what cannot be done, such as to ask a model whose key is missing, before anything is spent.

        Raises:
            InvalidInput: A key is missing, a model's name is not one, or its price is unknown.
        """
        for work in self._works:
            work.validate(budget)

    @property
    def _works(self) -> list[Work]:
        return [self._work, *(self._qa.works if self._qa else ())]

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write the function into the run directory.

        Raises:
            InvalidInput: The directory for outputs cannot be made.
        """
        events: list[Body] = [work.save(run) for work in self._works]
        if self._rules.root:
            make_root(self._rules.root)
        if self._rules != QueueRules():
            events.append(save_rules(self._rules, run))
        payloads: list[Value] = []
        for task_id, payload in zip(self._ids, self._payloads, strict=True):
            if len(payload.data) > INLINE_LIMIT:
                payload, saved = self._work.keep(run, payload, task_id)
                events += saved
            payloads.append(payload)
        tasks = tuple(
            TaskSpec(
                task_id=task_id,
                kind="item",
                lane=self._work.lane,
                entry=self._work.entry,
                payload=payload,
                retry=self.retry if self.retry.limit else None,
                time_limit_s=self.time_limit_s,
                start_within_s=self.start_within_s,
                finish_within_s=self.finish_within_s,
                beat_within_s=self.beat_within_s,
                memory_mb=self.memory_mb,
            )
            for task_id, payload in zip(self._ids, payloads, strict=True)
        )
        return _plan(tasks, self._rules, [] if self._work.is_light else [self._work.code_ref]), events

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:
        """Make the rules of a queue again: its tasks, as they were submitted.

        Raises:
            LabError: It had a manifest or QA, and its rules cannot be read.
        """
        lines: dict[str, TaskLine] = {}
        for record in records:
            if record.type in ("task.submitted", "task.waiting"):  # waiting: for room in a broker that is full
                for line in msgspec.json.decode(record.body, type=TasksSubmitted).tasks:
                    if line.kind == "item" and ids.revision(line.task_id) == 1:
                        lines.setdefault(line.task_id, line)
        tasks = tuple(task_spec(line) for line in lines.values() if line.task_id.rpartition(".")[0] not in lines)
        rules = read_rules(run, QueueRules) if run.exists(PLAN) else QueueRules()
        asking = next((task for task in tasks if task.entry in (CALL, CALL_ASYNC)), None)  # all ask the same
        return _plan(tasks, rules, [] if asking is None else code_refs([run.fetch(asking.payload)]))


_BOUNDS = ("start_within_s", "finish_within_s", "beat_within_s", "memory_mb")


def _plan(tasks: tuple[TaskSpec, ...], rules: QueueRules, models: Sequence[str]) -> Plan:
    return checked(WorkQueuePlan(tasks, rules, models), rules.quality)


class WorkQueuePlan(Checkable):
    """The rules of a work queue: all at once, over when all are settled, or when the model refuses them all."""

    def __init__(
        self, tasks: tuple[TaskSpec, ...], rules: QueueRules | None = None, models: Sequence[str] = ()
    ) -> None:
        self.models = models
        self._rules = rules or QueueRules()
        self._is_final = self._rules.quality is None
        """Whether nobody will ask for its outputs."""

        self._files: dict[str, str] = {}
        """References of what items have published, the last settled last."""

        self._items = {task.task_id: task for task in tasks}
        self._revisions: dict[str, int] = {}
        """The latest of each item that has been revised."""

        self._open = set(self._items)
        """Tasks that are not settled: of each item its latest revision, if that."""

        self._without: set[str] = set()
        """Items whose latest revision gave no output."""

        self._dead: set[str] = set()
        self._first_error = ""
        self._verdicts = ""
        """The file of verdicts that items go by which flag cases."""

    @property
    def _completed(self) -> int:
        return len(self._items) - len(self._open) - len(self._without)

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Submit every item."""
        tasks = tuple(self._items.values())
        return [Add(tasks, final=self._is_final)] if tasks else [Finish("completed", "there were no items")]

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Count, and finish with the last."""
        self._open.discard(outcome.task_id)
        effects: list[PlanEffect] = []
        if outcome.status == "completed":
            if self._rules.root:
                ref = self._rules.refs[ids.origin(outcome.task_id)]
                effects.append(Export(root=self._rules.root, ref=ref, value=outcome.output))
            if outcome.files:
                item = ids.origin(outcome.task_id)
                self._files.pop(item, None)
                self._files[item] = outcome.files
            if outcome.further:
                effects += self._take_further(outcome)
        else:
            error = outcome.failure.error if outcome.failure else f"it was {outcome.status}"
            self._without.add(ids.origin(outcome.task_id))
            if self.models and ends_run(error):
                return self.exhausted(error, now)
            if outcome.status == "dead":
                self._dead.add(outcome.task_id)
            self._first_error = self._first_error or f"{outcome.task_id}: {error}"
        if self._open:
            return effects
        if not self._completed:
            return [Finish("failed", f"none of {len(self._items)} items completed; first failure: {self._first_error}")]
        failed = f", {len(self._without)} failed" * bool(self._without)
        return [*effects, Finish("completed", f"{self._completed} of {len(self._items)} items completed{failed}")]

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Dead letters are tried again, or items done again: they are open once more."""
        match news:
            case Requeue(task_ids=task_ids):
                again = tuple(filter(self._dead.__contains__, task_ids))
                self._dead.difference_update(again)
                self._reopen(again)
                return [Requeue(again)] if again else []
            case Revise(feedback=feedback):
                known = {name: why for name, why in feedback.items() if self._is_settled(name)}
                return self._revise(msgspec.structs.replace(news, feedback=known)) if known else []
            case _:
                return []

    def _take_further(self, outcome: TaskOutcome) -> list[PlanEffect]:
        """Do the same with further items that a task asked for."""
        parent = self._items[ids.origin(outcome.task_id)]
        tasks: list[TaskSpec] = []
        for place, item in enumerate(outcome.further, 1):
            asked = msgspec.structs.replace(call_of(parent.payload), argument=stored(item), verdicts=self._verdicts)
            task_id = ids.further(outcome.task_id, place)
            tasks.append(msgspec.structs.replace(parent, task_id=task_id, payload=as_json(asked)))
        self._items |= {task.task_id: task for task in tasks}
        self._open.update(task.task_id for task in tasks)
        return [Add(tuple(tasks), final=self._is_final)]

    def _is_settled(self, item: str) -> bool:
        return item in self._items and self._latest(item) not in self._open

    def _latest(self, item: str) -> str:
        """The task that is an item's latest revision."""
        number = self._revisions.get(item, 1)
        return ids.revised(item, number) if number > 1 else item

    def _revise(self, news: Revise) -> list[PlanEffect]:
        """Do these items again, whatever came of them."""
        self._verdicts = news.verdicts or self._verdicts
        for item in news.feedback:
            self._revisions[item] = self._revisions.get(item, 1) + 1
        tasks = tuple(
            revise(self._items[item], self._revisions[item], why, self._verdicts) for item, why in news.feedback.items()
        )
        self._reopen([task.task_id for task in tasks])
        line = TasksRevised(feedback=news.feedback, verdicts=news.verdicts)
        return [Emit(line), Add(tasks, final=self._is_final)]

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """Items are done again for themselves alone."""
        found = {name: self._items[name] for name in names if self._is_settled(name)}
        return {name: code_of(task.entry, task.payload) for name, task in found.items()}

    def product(self) -> Product:
        """The outputs of all items; each answers for itself, and all for what is nobody's."""
        latest = {item: self._latest(item) for item in self._items}
        return Product(
            tasks=tuple(latest.values()),
            layers=tuple(self._files.values()),
            nodes={item: {} for item in self._items},
            final=tuple(self._items),
            failures={},
        )

    def _reopen(self, task_ids: Sequence[str]) -> None:
        self._open.update(task_ids)
        self._without.difference_update(map(ids.origin, task_ids))

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """End with the items that are done."""
        done = self._give_up()
        return [Finish("completed" if self._completed else "failed", f"{reason}; {done}")]

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Give up what is not done."""
        return [Finish("stopped", f"{reason}; {self._give_up()}")]

    def _give_up(self) -> str:
        """Take what is open for lost, and say how far it came."""
        self._without.update(map(ids.origin, self._open))
        self._open.clear()
        return f"{self._completed} of {len(self._items)} items were completed"
