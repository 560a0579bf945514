"""What a topology is to the engine: pure rules that grow a task graph.

A plan sees outcomes and the time, and answers with effects; it never waits, reads or writes. Replaying a run's recorded
outcomes through a fresh plan therefore leads to the same state, which is what resuming a run means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from epsilon_lab.cases.case import Case
from epsilon_lab.errors import LabError, UpToDate
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.cases import Decide, Finalise, Unsure
from epsilon_lab.messages.events import ArtifactSaved, Body, TasksRequeued, TasksRevised
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value
from epsilon_lab.topologies.rulings import Rule
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import PLAN, RunDirectory

T = TypeVar("T", bound=msgspec.Struct)


class Condition(msgspec.Struct, frozen=True):
    """Holds where the JSON value at `path` in the output of a dependency equals this one."""

    task_id: str
    path: tuple[str | int, ...] = ()
    """Keys and places from the output inwards; none for the output itself."""

    equals: Any = True


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose start takes more than that all it depends on is completed."""

    task: TaskSpec
    binds: bool = False
    """Whether it is given outputs: its payload, the JSON of a `Call`, is completed with `inputs` and `failed` once it
    is ready. One that grows beyond what a journal holds lies in the file `inputs/<task_id>.json`."""

    quorum: float | None = None
    """Share of its dependencies, 0 to 1, that must be completed, and never fewer than one: it waits until all are
    settled, or too many have failed. Skipped ones do not count; where all are skipped, so is it. None: all must."""

    when: tuple[Condition, ...] = ()
    """All must hold, or it is skipped: cancelled with the reason, and those without a quorum that depend on it too."""


class Add(msgspec.Struct, frozen=True):
    """New nodes of the graph; a plain task runs once what it depends on is completed."""

    tasks: tuple[TaskSpec | Node, ...]
    final: bool = False
    """Nothing that is added later depends on these: each is forgotten when it is settled, with its output, so that
    memory holds only what is open. Their ids are not told from later ones any more."""


class Emit(msgspec.Struct, frozen=True):
    """A line for the run's journal."""

    body: Body


class Write(msgspec.Struct, frozen=True):
    """A file of the run directory, replaced as a whole."""

    ref: str
    text: str
    kind: str


class Copy(msgspec.Struct, frozen=True):
    """A file of the run directory, made from another of its files."""

    source: str
    ref: str
    kind: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """A file outside the run directory, replaced as a whole: a copy for whoever asked for one, never the truth."""

    root: str
    """The directory that the user named, as an absolute path."""

    ref: str
    """Where below it."""

    source: str | None = None
    """A file of the run directory, or"""

    value: Value | None = None
    """a task's output: a text as it is, all else as JSON."""


class Deliver(msgspec.Struct, frozen=True):
    """What is said about a case of another run of the workspace, whether that is live, over or left. It is delivered at
    least once: it is on disk there before a later end of this run is on record, and delivered again whenever this one
    is resumed.
    """

    run_id: str
    decision: Decide | Unsure


class Requeue(msgspec.Struct, frozen=True, tag=True):
    """Dead letters are tried again. A plan is told so, and answers with the same as far as it can use their outputs."""

    task_ids: tuple[str, ...]


class Revise(msgspec.Struct, frozen=True, tag=True):
    """Tasks are to be done again, and what depends on them. A plan is told so, and answers with the line
    `TasksRevised` and then the revisions.
    """

    feedback: dict[str, tuple[Feedback, ...]]
    """Why, by task (the first of its revisions); no reason is needed."""

    verdicts: str = ""
    """The file of verdicts that these and all later tasks go by; empty where they go by those that they went by."""


class Prioritise(msgspec.Struct, frozen=True, tag=True):
    """A person puts a task before or behind others; one that is settled or unknown is passed over. A plan is told of
    what it has on record as waiting and has not added; it answers with the line `TaskPrioritised`.
    """

    task_id: str
    priority: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """A person does not want these tasks any more; settled and unknown ones are passed over. A plan is told of those
    that it has on record as waiting and has not added; it answers with the line `TasksCancelled` and what follows.
    As a plan's own effect, the same of tasks that it has added: it is told of each end, as of any other.
    """

    task_ids: tuple[str, ...]
    reason: str


class Finish(msgspec.Struct, frozen=True):
    """The run ends; what is still queued or running is cancelled."""

    status: str
    reason: str
    output: Value | None = None


PlanEffect = Add | Emit | Write | Copy | Export | Deliver | Requeue | Cancel | Finish


class Plan(ABC):
    """The rules of one run. Times are seconds on the run's own clock, which stands still while the run is paused."""

    limits: Mapping[str, int] = {}
    """Most tasks of a kind in the broker's hands at once; kinds not named are unlimited."""

    reads_outputs: bool = False
    """Whether the rules look into outputs, as conditions do: then those in files are read before they see them."""

    runs_strangers: bool = False
    """Whether programs run that nobody has read."""

    models: Sequence[str] = ()
    """References, `code/<sha256>.pkl`, of what may be a model that tasks ask."""

    @abstractmethod
    def start(self, now: float) -> list[PlanEffect]:
        """Begin."""

    @abstractmethod
    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """A task was settled: completed, failed, dead or cancelled."""

    def reads(self, task_id: str) -> bool:  # noqa: ARG002
        """Where they do: whether into this task's."""
        return True

    def tick(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Time went by. It may end the run and nothing else: ticks are not on record, so no one could repeat them."""
        return []

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Someone says something that plans of this topology may understand, such as an edited brief."""
        return []

    def rulings(self, cases: Iterable[Case]) -> Rule | None:  # noqa: ARG002
        """What it has to be told for what it ranks to be made of the verdicts on these cases, all of the run; None
        where that is made of them already, or will only be once the run is over.
        """
        return None

    def news_in(self, line: Body) -> object | None:
        """What must have been `told` for the rules to write this line; None where they wrote it by themselves.

        Every told thing that changes anything writes one such line, or it would be forgotten when the run is resumed.
        """
        match line:
            case TasksRequeued(task_ids=task_ids):
                return Requeue(task_ids)
            case TasksRevised(feedback=feedback, verdicts=verdicts):
                return Revise(feedback, verdicts)
            case _:
                return None

    def again(self, names: Iterable[str]) -> dict[str, str]:  # noqa: ARG002
        """What would be done again if these tasks were (first revisions), with them and behind them; those that cannot
        be are left out. The SHA-256 of who does it, by task; empty where a person is asked.
        """
        return {}

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """The budget of seconds was used up: begin nothing more, use what is paid for, and end."""
        return [Finish("failed", reason)]

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """End early with what there is; the effects end in a `Finish`."""
        return [Finish("stopped", reason)]


class Topology(Protocol):
    """What a user hands to `lab.start`: arguments, already validated, that can prepare a run directory."""

    @property
    def topology(self) -> str:
        """The topology's name in the tables."""
        ...

    @property
    def title(self) -> str:
        """A name for the run where the user gives none."""
        ...

    @property
    def seed(self) -> int | None:
        """The seed of the run's dice."""
        ...

    @property
    def parent_run_id(self) -> str | None:
        """The run that this one belongs to, as controls belong to a search."""
        ...

    def config(self) -> dict[str, object]:
        """The arguments, as JSON-able values for the `runs` table."""
        ...

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what can be known to fail before anything is spent.

        Args:
            budget: What the run may spend.

        Raises:
            InvalidInput: Naming the argument and the remedy.
        """
        ...

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write what the run's tasks need into its directory; return its rules, and events to begin with."""
        ...

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:
        """Make the rules again that `prepare` gave, from the directory and the journal alone. Unpickles nothing.

        Raises:
            LabError: They are not there, or cannot be read.
        """
        ...


def unheard(run_id: str, news: Requeue | Revise | Finalise) -> LabError:
    """What a person is told of whom a plan has no use for what they said."""
    match news:
        case Finalise():
            return UpToDate(f"run {run_id} goes by all verdicts that there are")
        case Requeue():
            return LabError(f"run {run_id} has no use for late outputs; its topology goes on without them")
        case Revise(feedback=feedback):
            names = ", ".join(feedback)
            return LabError(
                f"run {run_id} does not do {names} again: its topology has no revisions of such tasks, or they are at "
                f"work already; start a new run instead, or wait for them"
            )


def save_rules(rules: msgspec.Struct, run: RunDirectory) -> ArtifactSaved:
    """Keep what a plan is played by in its run directory, for whoever makes it again."""
    return run.save(PLAN, msgspec.json.format(msgspec.json.encode(rules)), kind="plan")


def read_rules(run: RunDirectory, rules: type[T]) -> T:
    """Take back what `save_rules` kept.

    Raises:
        LabError: It is missing, or cannot be read.
    """
    try:
        return msgspec.json.decode(run.read_bytes(PLAN), type=rules)
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(f"{PLAN} of run {run.run_id}, which says how to go on, cannot be read ({error})") from error
