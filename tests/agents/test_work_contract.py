"""The contract of work: what every kind of `task=` does alike, from its argument to its row.

A new kind adds a `Filling` here and has to keep to all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab import LLM, Command, Lab, WorkQueue
from epsilon_lab.agents.work import Task, work_of
from epsilon_lab.errors import InvalidInput
from epsilon_lab.testing.model_server import ModelServer, Request, Status, Text

NAMED = """
from epsilon_lab.workers.current import current_task

def shout(request):
    return refusing(request["item"])

async def shout_async(request):
    return refusing(request["item"])

def refusing(text):
    if text == "bad":
        raise ValueError("that is bad")
    return text.upper()
"""


LOUD = """
from epsilon_lab.agent_sdk import AgentSession

with AgentSession.from_stdio() as session:
    if session.item == "bad":
        raise ValueError("that is bad")
    session.done(session.item.upper())
"""


def shout(item: str) -> str:
    if item == "bad":
        raise ValueError("that is bad")
    return item.upper()


async def shout_async(item: str) -> str:
    return shout(item)


def _reply(request: Request) -> Text | Status:
    return Status(400, "that is bad") if request.prompt == "bad" else Text(request.prompt.upper())


@contextmanager
def a_model(_: Path) -> Iterator[Task]:
    with ModelServer(_reply) as server:
        yield LLM("http/loud", api_base=server.url, retries=0)


@contextmanager
def by_name(folder: Path, name: str) -> Iterator[Task]:
    (folder / "loud.py").write_text(NAMED)
    yield f"{folder / 'loud.py'}:{name}"


@contextmanager
def given(task: Task) -> Iterator[Task]:
    yield task


@dataclass(frozen=True)
class Filling:
    """A kind of task that answers a text with the same in capitals, and fails at the text `bad`."""

    make: Callable[[Path], Any]
    lane: str
    name: str


FILLINGS = {
    "function": Filling(lambda _: given(shout), "process", "shout"),
    "async function": Filling(lambda _: given(shout_async), "async", "shout_async"),
    "entry point": Filling(lambda folder: by_name(folder, "shout"), "process", "shout"),
    "async entry point": Filling(lambda folder: by_name(folder, "shout_async"), "async", "shout_async"),
    "program": Filling(lambda _: given(Command(["python", "-c", LOUD])), "process", "python"),
    "model": Filling(a_model, "async", "http/loud"),
}


@pytest.fixture(params=FILLINGS)
def filling(request: pytest.FixtureRequest) -> Filling:
    return FILLINGS[request.param]


def test_work_says_what_it_is_before_anything_runs(filling: Filling, tmp_path: Path) -> None:
    with filling.make(tmp_path) as task:
        work = work_of("the task", task)
        assert (work.lane, work.name) == (filling.lane, filling.name)
        assert work.sha256 == work_of("the task", task).sha256
        work.validate()


def test_outputs_come_in_item_order_and_one_failure_stays_its_own(tmp_path: Path) -> None:
    with ExitStack() as stack:
        tasks = {kind: stack.enter_context(filling.make(tmp_path)) for kind, filling in FILLINGS.items()}
        lab = stack.enter_context(Lab(tmp_path / "runs", workers=2))
        runs = {kind: lab.start(WorkQueue(["a", "bad", "c"], task), name=kind) for kind, task in tasks.items()}
        results = {kind: run.wait(60).results(failed="none") for kind, run in runs.items()}
        assert results == {kind: ["A", None, "C"] for kind in FILLINGS}
        for run in runs.values():
            [failure] = run.failures.itertuples()
            assert failure.task_id == "item-000001"
            assert "that is bad" in failure.error


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (7, "must be a function called with"),
        ("nothing", "must name a function as 'module:function' or 'file.py:function'"),
        ("json:nothing", "json has no function nothing"),
        ("no_such_module_at_all:f", "cannot be imported"),
        ("no_such_file.py:f", "there is no file"),
        ("json:dump", "must be a function called with"),
    ],
)
def test_what_is_no_work_is_refused_by_the_name_of_its_argument(task: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=r"^MapReduce map: ") as refused:
        work_of("MapReduce map", task)
    assert said in str(refused.value)
