"""The async lane: many leaves on one loop, none of which another notices."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.errors import LeafFailed
from epsilon_lab.messages.frames import Cancel, Denied, Done, Hello, Note, Recorded
from epsilon_lab.messages.tasks import Failure, Result
from epsilon_lab.messages.values import unpack
from epsilon_lab.workers.leaves import AsyncLane

if TYPE_CHECKING:
    from tests.workers.conftest import Desk

pytestmark = pytest.mark.anyio
LANE = "s1/leaves"


@asynccontextmanager
async def lane_at(desk: Desk, **options: Any) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(AsyncLane(desk.address, LANE, **options).serve)
        _, hello = await desk.hear(Hello)
        assert hello.lanes == ("async",)
        assert hello.slots == options.get("slots", 256)
        yield
        group.cancel_scope.cancel()


def outputs(answers: list[Result | Failure]) -> dict[str, Any]:
    assert all(isinstance(answer, Result) for answer in answers), answers
    return {answer.task_id: unpack(answer.output) for answer in answers if isinstance(answer, Result)}


async def test_leaves_run_at_once(desk: Desk) -> None:
    """The first waits for the last: one after another they would never end."""
    arrived: list[int] = []
    all_here = anyio.Event()

    async def meet(payload: int, leaf: Leaf) -> int:
        arrived.append(payload)
        if len(arrived) == 100:
            all_here.set()
        await all_here.wait()
        return payload

    _leaves["meet"] = meet
    async with lane_at(desk):
        desk.assign(LANE, *(desk.assignment(entry("meet"), n, lane="async") for n in range(100)))
        assert sorted(outputs(await desk.answers(100)).values()) == list(range(100))


async def test_a_users_async_function_is_called_with_the_item_alone(desk: Desk) -> None:
    async def double(item: int) -> int:
        return 2 * item

    async with lane_at(desk, slots=3):
        desk.assign(LANE, desk.assignment(double, 4, lane="async"))
        assert list(outputs(await desk.answers(1)).values()) == [8]


async def test_what_one_leaf_raises_no_other_notices(desk: Desk) -> None:
    async def work(item: str) -> str:
        match item:
            case "exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "cancel":
                raise asyncio.CancelledError
            case "value":
                raise ValueError("no good")
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(work("value"))
        return item

    items = ["fine", "exit", "interrupt", "cancel", "value", "group", "well"]
    async with lane_at(desk):
        desk.assign(LANE, *(desk.assignment(work, item, lane="async") for item in items))
        answers = await desk.answers(len(items))
        assert sorted(outputs([a for a in answers if isinstance(a, Result)]).values()) == ["fine", "well"]
        assert {answer.error for answer in answers if isinstance(answer, Failure)} == {
            "SystemExit: 3",
            "KeyboardInterrupt",
            "CancelledError",
            "ValueError: no good",
            "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)",
        }


async def test_what_a_leaf_raises_tells_no_key_of_the_process_it_runs_in(desk: Desk, monkeypatch) -> None:
    monkeypatch.setenv("LAB_TEST_API_KEY", "sk-kernels-own-0123")

    async def fetch(item: str) -> str:
        raise ConnectionError(f"GET https://127.0.0.1/{item}?key={os.environ['LAB_TEST_API_KEY']}")

    async with lane_at(desk):
        desk.assign(LANE, desk.assignment(fetch, "x", lane="async"))
        [answer] = await desk.answers(1)
        assert answer.error == "ConnectionError: GET https://127.0.0.1/x?key=[LAB_TEST_API_KEY]"
        assert "sk-kernels-own" not in answer.traceback


async def test_a_plain_function_is_refused_unrun(desk: Desk) -> None:
    async with lane_at(desk):
        desk.assign(LANE, desk.assignment(lambda _: 1 / 0, lane="async"))
        (answer,) = await desk.answers(1)
        assert isinstance(answer, Failure)
        assert "is a plain function" in answer.error


MOOD: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="fresh")


async def test_context_variables_are_a_leafs_own(desk: Desk) -> None:
    async def set_mood(payload: str, leaf: Leaf) -> str:
        before = MOOD.get()
        MOOD.set(payload)
        await asyncio.sleep(0)
        assert MOOD.get() == payload
        return before

    _leaves["set_mood"] = set_mood
    async with lane_at(desk):
        for n in range(3):
            desk.assign(LANE, desk.assignment(entry("set_mood"), f"mood {n}", lane="async"))
            assert list(outputs(await desk.answers(1)).values()) == ["fresh"]


async def test_a_leaf_waits_until_its_events_are_on_record(desk: Desk) -> None:
    async def pay(payload: None, leaf: Leaf) -> str:
        leaf.save("replies/r.md", "paid for", kind="reply")
        await leaf.record()
        leaf.save("replies/s.md", "after", kind="reply")
        return "used"

    _leaves["pay"] = pay
    async with lane_at(desk):
        desk.assign(LANE, desk.assignment(entry("pay"), lane="async"))
        _, note = await desk.hear(Note)
        assert [event.body["path"] for event in note.events] == ["replies/r.md"]
        await desk.listen_for(0.05)
        assert not any(isinstance(message, Done) for _, message in desk.heard)
        desk.record(LANE, note.note_id)
        (answer,) = await desk.answers(1)
        assert [event.body["path"] for event in answer.events] == ["replies/s.md"]


async def test_a_leaf_is_told_what_its_request_may_cost_or_that_it_must_not_go_out(desk: Desk) -> None:
    async def ask(payload: str, leaf: Leaf) -> int | None:
        leaf.save(f"replies/{payload}.md", "asked", kind="reply")
        return await leaf.record()

    _leaves["ask"] = ask
    async with lane_at(desk):
        for item in ("granted", "denied"):
            desk.assign(LANE, desk.assignment(entry("ask"), item, lane="async"))
        notes = [(await desk.hear(Note))[1] for _ in range(2)]
        assert [note.fence for note in notes] == [1, 2]
        desk.say(LANE, Recorded(note_id=notes[0].note_id, reply_tokens=77))
        desk.say(LANE, Denied(note_id=notes[1].note_id, reason="budget: it was used up"))
        granted, denied = sorted(await desk.answers(2), key=lambda answer: answer.task_id)
    assert outputs([granted]) == {"item-1": 77}
    assert isinstance(denied, Failure)
    assert (denied.error, denied.retryable) == ("budget: it was used up", False)


async def test_a_cancelled_leaf_ends_and_the_others_go_on(desk: Desk) -> None:
    started, ended = anyio.Event(), anyio.Event()

    async def hang(payload: None, leaf: Leaf) -> None:
        started.set()
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    async def work(payload: None, leaf: Leaf) -> str:
        await ended.wait()
        return "done"

    _leaves["hang"], _leaves["work"] = hang, work
    async with lane_at(desk):
        first, second = desk.assignment(entry("hang"), lane="async"), desk.assignment(entry("work"), lane="async")
        desk.assign(LANE, first, second)
        await started.wait()
        desk.say(LANE, Cancel(fences=(first.fence,)))
        (answer,) = await desk.answers(1)
        assert answer.fence == second.fence


async def test_an_answer_to_a_leaf_that_was_cancelled_meanwhile_is_passed_over(desk: Desk) -> None:
    async def ask(payload: None, leaf: Leaf) -> str:
        leaf.save("replies/r.md", "asked", kind="reply")
        await leaf.record()
        return "answered"

    _leaves["ask"] = ask
    async with lane_at(desk):
        first, second = (desk.assignment(entry("ask"), lane="async") for _ in range(2))
        desk.assign(LANE, first, second)
        notes = [(await desk.hear(Note))[1] for _ in range(2)]
        desk.say(LANE, Cancel(fences=(first.fence,)))
        for note in notes:
            desk.record(LANE, note.note_id)
        (answer,) = await desk.answers(1)
        assert outputs([answer]) == {"item-2": "answered"}


async def test_what_a_cancelled_leaf_paid_for_is_reported(desk: Desk) -> None:
    """Its answer is stale by then; the broker records such events all the same."""
    started = anyio.Event()

    async def pay(payload: None, leaf: Leaf) -> None:
        leaf.save("replies/r.md", "paid for", kind="reply")
        started.set()
        await asyncio.sleep(1000)

    _leaves["pay"] = pay
    async with lane_at(desk):
        task = desk.assignment(entry("pay"), lane="async")
        desk.assign(LANE, task)
        await started.wait()
        desk.say(LANE, Cancel(fences=(task.fence,)))
        (answer,) = await desk.answers(1)
        assert isinstance(answer, Failure)
        assert (answer.outcome, len(answer.events)) == ("cancelled", 1)


async def test_a_leafs_failure_carries_its_words_and_events(desk: Desk) -> None:
    async def refuse(payload: None, leaf: Leaf) -> None:
        leaf.save("replies/r.md", "nonsense", kind="reply")
        raise LeafFailed("the reply has no program")

    _leaves["refuse"] = refuse
    async with lane_at(desk):
        desk.assign(LANE, desk.assignment(entry("refuse"), lane="async"))
        (answer,) = await desk.answers(1)
        assert isinstance(answer, Failure)
        assert (answer.error, len(answer.events)) == ("the reply has no program", 1)


async def test_closing_the_lane_ends_what_runs(desk: Desk) -> None:
    ended = []

    async def hang(payload: None, leaf: Leaf) -> None:
        try:
            started.set()
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    started = anyio.Event()
    _leaves["hang"] = hang
    async with lane_at(desk):
        desk.assign(LANE, desk.assignment(entry("hang"), lane="async"))
        await started.wait()
    assert ended == [True]


# -- leaves of our own are found by name: tests put theirs where such names are looked up ------------------------------

_leaves: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _own_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    import epsilon_lab.agents.leaf as home
    from epsilon_lab.agents.function import resolve

    resolve.cache_clear()
    _leaves.clear()
    monkeypatch.setattr(home, "__getattr__", _leaves.__getitem__, raising=False)


def entry(name: str) -> str:
    return f"epsilon_lab.agents.leaf:{name}"
