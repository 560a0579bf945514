"""What a user gives a topology to do, `task=`, becomes one thing that travels, whatever kind it is.

A plain function of one item keeps the light way: its task's payload is the item, and nothing of what stands here is
loaded where it runs. All else (a model, an agent, a program, a function by name, or one that is given what others gave,
or that flags cases) is sent a `Call`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from epsilon_lab.agents.entry_point import find_function
from epsilon_lab.agents.flagging import takes_flag
from epsilon_lab.agents.function import is_async, load_function, pack_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.request import Request
from epsilon_lab.arguments import function
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import CALL, CALL_ASYNC, Call, Feedback, Form, call_of
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.messages.values import Value, as_json, pack, restored, stored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.workspace.layout import RunDirectory

_CALLED_WITH: Mapping[Form, str] = {
    "item": "item",
    "inputs": "inputs",
    "outputs": "outputs",
    "last": "output",
    "record": "record",
    "request": "task",
}


@runtime_checkable
class Performer(Protocol):
    """What is more than a function: an agent, a program. It holds no key and no live thing, and can be pickled.

    Where it has them, its attributes count too: `time_limit_s` (seconds that one attempt may take), `asks_model`, and
    `is_function`: whether it gives the same for the same, and asks nobody.
    """

    @property
    def name(self) -> str:
        """What rows call it."""
        ...

    @property
    def lane(self) -> Lane:
        """Where it runs; in `async`, `perform` is a coroutine function."""
        ...

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what can be known to fail before anything is spent.

        Raises:
            InvalidInput: Naming what is missing.
        """
        ...

    def perform(self, request: Request, leaf: Leaf) -> Any:
        """Do what is asked, and give the output.

        Raises:
            LeafFailed: It could not be done; the message goes into the task's row.
        """
        ...


Task = Callable[..., Any] | str | LLM | Performer
"""What a topology takes as `task=`."""


@dataclass(frozen=True)
class Work:
    """What tasks run, ready to travel."""

    name: str
    """For people."""

    lane: Lane
    entry: str
    sha256: str
    """Of what it is; it lies in the run directory as `code/<sha256>.pkl`."""

    blob: bytes
    form: Form
    asks_model: bool = False
    time_limit_s: float | None = None
    """Seconds one attempt may take where the user says nothing; None for no limit."""

    checked: LLM | Performer | None = None
    """What is asked, before anything is spent, whether it can be done."""

    @property
    def code_ref(self) -> str:
        """Where it lies in the run directory."""
        return f"code/{self.sha256}.pkl"

    @property
    def is_light(self) -> bool:
        """Whether its tasks' payload is the item itself."""
        return self.entry not in (CALL, CALL_ASYNC)

    def save(self, run: RunDirectory) -> ArtifactSaved:
        """Write it into a run directory."""
        return run.save(self.code_ref, self.blob, kind="code")

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what can be known to fail before anything is spent.

        Raises:
            InvalidInput: A model cannot be called or its price is not known, a program is not there.
        """
        if self.checked is not None:
            self.checked.validate(budget)

    def call(
        self,
        *,
        argument: Any = None,
        instructions: str = "",
        about: Mapping[str, Any] | None = None,
        feedback: Sequence[Feedback] = (),
        layers: Sequence[str] = (),
        needs_files: Sequence[str] = (),
        takes_tasks: bool = False,
    ) -> Value:
        """Make a task's payload: for a light one, the argument, and nothing else is heard of.

        Inputs are put in by the engine, once they are there.

        Raises:
            InvalidInput: The argument cannot travel.
        """
        packed = pack(argument)
        if self.is_light:
            return packed
        return as_json(
            Call(
                code=self.sha256,
                form=self.form,
                argument=None if argument is None else stored(packed),
                instructions=instructions,
                about=dict(about or {}),
                feedback=tuple(feedback),
                layers=tuple(layers),
                needs_files=tuple(needs_files),
                takes_tasks=takes_tasks,
            )
        )

    def keep(self, run: RunDirectory, payload: Value, task_id: str) -> tuple[Value, list[ArtifactSaved]]:
        """Put what is too large for a journal into a file: of a call its argument, so that rules can read the rest.

        Raises:
            DiskFull: There is no room for it.
        """
        stem = f"inputs/{task_id}"
        if self.is_light or len(payload.data) <= INLINE_LIMIT:
            return run.keep(payload, stem, kind="input", task_id=task_id)
        called = call_of(payload)
        if called.argument is None:
            return payload, []
        kept, saved = run.keep(restored(called.argument), stem, kind="input", task_id=task_id)
        return as_json(msgspec.structs.replace(called, argument=stored(kept))), saved


def work_of(what: str, task: Task, *, form: Form = "item") -> Work:
    """Make what a user gave into something that travels.

    Args:
        what: The argument, for messages: `WorkQueue task`.
        task: A function (plain or async, also one defined in a cell), its name as `module:function` or
            `file.py:function`, an `LLM`, an `Agent`, a `Command`.
        form: How a function is called; one that is named is always called with the request, as a dict.

    Raises:
        InvalidInput: It is none of these, takes other arguments, or cannot travel.
    """
    if isinstance(task, str):
        task, form = find_function(what, task), "request"
    checked: LLM | Performer | None = None
    lane: Lane
    if isinstance(task, LLM):
        checked, lane = task, "async"
    elif isinstance(task, Performer) and not isinstance(task, type):
        checked, lane = task, task.lane
    else:
        _check_function(what, task, form)
        lane = "async" if is_async(task) else "process"
    packed = pack_function(cast("Callable[..., Any]", task))
    is_light = checked is None and form == "item" and not takes_flag(task)
    return Work(
        name=packed.name if checked is None else checked.name,
        lane=lane,
        entry=f"code:{packed.sha256}" if is_light else CALL if lane == "process" else CALL_ASYNC,
        sha256=packed.sha256,
        blob=packed.blob,
        form=form,
        asks_model=isinstance(task, LLM) or bool(getattr(checked, "asks_model", False)),
        time_limit_s=getattr(checked, "time_limit_s", None),
        checked=checked,
    )


def _check_function(what: str, task: object, form: Form) -> None:
    if isinstance(task, type) and isinstance(task, Performer | type) and hasattr(task, "perform"):
        raise InvalidInput(what, f"is the class {task.__name__}", f"give one of its kind: {task.__name__}(...)")
    function(what, task, (_CALLED_WITH[form],), awaited=True, named=("flag",) if takes_flag(task) else ())


def validate_saved(run: RunDirectory, code_ref: str, budget: Budget | None) -> None:
    """Ask what lies in a run directory whether it can be done, before the run goes on. Unpickles it.

    Raises:
        InvalidInput: It cannot.
        LabError: It cannot be unpickled.
    """
    found: object = load_function(run, code_ref.removeprefix("code/").removesuffix(".pkl"))
    if isinstance(found, LLM | Performer):
        found.validate(budget)


def is_function(run: RunDirectory, sha256: str) -> bool:
    """Tell whether what lies in a run directory is a function, and no model, agent or program. Unpickles it.

    Raises:
        LabError: It cannot be unpickled.
    """
    found: object = load_function(run, sha256)
    return bool(getattr(found, "is_function", False)) or not isinstance(found, LLM | Performer)


def code_refs(payloads: Sequence[Value]) -> list[str]:
    """What these calls perform, each once, in order: `code/<sha256>.pkl`."""
    codes = (msgspec.json.decode(payload.data, type=_Code).code for payload in payloads)
    return [f"code/{code}.pkl" for code in dict.fromkeys(codes)]


class _Code(msgspec.Struct, frozen=True):
    code: str
