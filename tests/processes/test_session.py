"""A program that is asked: one question at a time, no answer that was not asked for, and an end to every kind of it."""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cloudpickle
import pytest

from epsilon_lab.processes import tree
from epsilon_lab.processes.data import decode, encode
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.spawner import RunReport, Spawner, SpawnerFailed, Unanswered
from epsilon_lab.testing.census import wait_until

LIMITS = Limits(timeout_s=60, memory_mb=256, output_mb=1)
"""Time enough on a busy machine."""

ADDS = "total = 0\ndef solve(x):\n    global total\n    total += x\n    return total\n"


@pytest.fixture(scope="module")
def lasting() -> Iterator[Spawner]:
    with Spawner(None, {"numbers.txt": b"1 2 3\n"}, LIMITS) as spawner:
        spawner.start()
        yield spawner


@pytest.fixture
def spawner(lasting: Spawner) -> Iterator[Spawner]:
    """A sandbox that others used; whatever the test did in it, the next program is asked and run as the first was."""
    before = lasting.pid
    yield lasting
    assert answers(lasting, ADDS, 1, 2, 3) == [1, 3, 6]
    report = lasting.run("def solve(): return open('numbers.txt').read()", seed=1)
    assert decode(report.output or b"") == "1 2 3\n"
    assert lasting.pid == before


@pytest.fixture(scope="module")
def hasty() -> Iterator[Spawner]:
    """A sandbox that gives no program time."""
    with Spawner(None, {}, replace(LIMITS, timeout_s=1)) as spawner:
        spawner.start()
        yield spawner


def answers(spawner: Spawner, source: str, *questions: Any, seed: int = 1) -> list[Any]:
    with spawner.session(source, seed=seed) as ask:
        return [decode(ask(encode((question,)))) for question in questions]


def is_right_again(spawner: Spawner) -> bool:
    """Whether it answers as ever, though a busy machine may keep it for longer than a hasty sandbox waits."""
    with suppress(Unanswered):
        return answers(spawner, ADDS, 1, 2, 3) == [1, 3, 6]
    return False


def failure(spawner: Spawner, source: str, *questions: Any) -> RunReport:
    with pytest.raises(Unanswered) as caught:
        answers(spawner, source, *(questions or (1,)))
    return caught.value.report


def solve(body: str) -> str:
    return "import os, time\ndef solve(x):\n" + "".join(f"    {line}\n" for line in body.splitlines())


def test_a_program_remembers_within_a_session_and_no_longer(spawner: Spawner) -> None:
    assert answers(spawner, ADDS, 5, 5) == [5, 10]
    assert answers(spawner, ADDS, 5, 5) == [5, 10]


def test_questions_and_answers_are_any_data(spawner: Spawner) -> None:
    large = "x" * 300_000  # more than a socket holds
    assert answers(spawner, solve("return (x, len(x))"), large, b"", [None, 1.5]) == [
        (large, 300_000),
        (b"", 0),
        ([None, 1.5], 2),
    ]


def test_the_seed_decides_the_dice(spawner: Spawner) -> None:
    program = "import random\ndef solve(x): return random.random()"
    one, again, other = (answers(spawner, program, 0, 0, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_a_session_without_a_question_starts_nothing() -> None:
    with Spawner(None, {}, LIMITS) as spawner:
        assert answers(spawner, ADDS) == []
        assert spawner.pid is None


def test_where_programs_are_asked_neither_run_nor_inputs_are() -> None:
    """The same hunt for objects finds the inputs where they are, and nothing where they are not."""
    hunt = """
import gc
def solve(*given):
    gc.unfreeze()
    return sum(1 for one in gc.get_objects() if type(one) is list and one and one[0] == 'needle')
"""
    inputs = (["needle", [1, 2]],)
    with Spawner(pickle.dumps(functools.partial(tuple, (None, inputs))), {}, LIMITS) as holding:
        assert decode(holding.run(hunt, seed=1).output or b"") > 0
    with Spawner(None, {}, LIMITS) as bare:
        assert answers(bare, hunt, 1) == [0]


def test_a_sandbox_with_a_run_of_its_own_still_asks_the_entry() -> None:
    side = cloudpickle.dumps(functools.partial(tuple, (lambda program: "run", ())))
    with Spawner(side, {}, LIMITS) as spawner:
        assert answers(spawner, ADDS, 4) == [4]
        assert decode(spawner.run(ADDS, seed=1).output or b"") == "run"


@pytest.mark.parametrize(
    ("source", "outcome", "said"),
    [
        (solve("return 1 / 0"), "crashed", "ZeroDivisionError"),
        ("def solve(x) return", "crashed", "SyntaxError"),
        ("raise ValueError('at once')", "crashed", "at once"),
        ("x = 1", "crashed", "defines no function 'solve'"),
        ("def solve(): return 1", "crashed", "TypeError"),
        (solve("raise SystemExit"), "crashed", "sys.exit"),
        (solve("os._exit(0)"), "crashed", "before it returned"),
        (solve("os._exit(3)"), "crashed", "exit code 3"),
        (solve("os.kill(os.getpid(), 11)"), "crashed", "SIGSEGV"),
        (solve("return object()"), "bad_type", "object"),
        (solve("return 'x' * 2_000_000"), "too_large", "1,048,576"),
        (solve("return bytearray(1 << 30)"), "memory", "256 MiB"),
        # forged bytes: a length without end, a body without an end, an answer nobody can read, and one out of turn
        (solve("os.write(3, b'\\xff' * 8)\ntime.sleep(1000)"), "too_large", "1,048,576"),
        (solve("os.write(3, b'\\x09' + bytes(7) + b'o123')\nos._exit(0)"), "crashed", "before it returned"),
        (solve("os.write(3, b'\\x02' + bytes(7) + b'zz')\nos._exit(0)"), "crashed", "before it returned"),
        (solve("os.write(3, 2 * (b'\\x02' + bytes(7) + b'oN'))\nreturn 1"), "crashed", "without being asked"),
    ],
)
def test_every_way_not_to_answer_has_its_name(spawner: Spawner, source: str, outcome: str, said: str) -> None:
    report = failure(spawner, source, 1, 2)
    assert (report.outcome, report.output) == (outcome, None)
    assert said in report.error


@pytest.mark.parametrize(
    "source", [solve("while True: pass"), "while True: pass", solve("os.close(3)\ntime.sleep(1000)")]
)
def test_who_does_not_answer_in_time_is_ended(hasty: Spawner, source: str) -> None:
    before = hasty.pid
    report = failure(hasty, source, 1, 2)
    assert (report.outcome, report.output) == ("timeout", None)
    assert "1 s" in report.error
    assert hasty.pid == before, "the program alone was ended"


def test_a_traceback_and_the_prints_come_with_a_failure(spawner: Spawner) -> None:
    report = failure(spawner, solve("print('got', x)\nassert x < 3"), 1, 2, 3, 4)
    assert report.outcome == "crashed"
    assert report.stdout == "got 1\ngot 2\ngot 3\n"
    assert "assert x < 3" in report.traceback


def test_what_failed_is_not_asked_again(spawner: Spawner) -> None:
    with spawner.session(solve("return 1 // x"), seed=1) as ask:
        assert decode(ask(encode((1,)))) == 1
        for question in (0, 1):
            with pytest.raises(Unanswered, match="ZeroDivisionError"):
                ask(encode((question,)))


def test_the_caps_are_for_all_answers_together(spawner: Spawner) -> None:
    source = solve("return 'x' * 400_000")
    assert len(answers(spawner, source, 1, 2)) == 2
    assert failure(spawner, source, 1, 2, 3).outcome == "too_large"


def test_the_time_is_for_all_answers_together_and_not_for_the_askers_thought(hasty: Spawner) -> None:
    """A thinking asker is a stopped clock: here the asker takes more than the whole limit."""
    assert failure(hasty, solve("time.sleep(x)\nreturn 1"), 0.4, 0.4, 0.4).outcome == "timeout"
    with hasty.session(ADDS, seed=1) as ask:
        ask(encode((1,)))
        time.sleep(1.1)  # the time itself is what is tested
        assert decode(ask(encode((1,)))) == 2


@pytest.mark.parametrize("source", [solve("time.sleep(1000)"), solve("os._exit(0)"), solve("return 1"), solve("1/0")])
@pytest.mark.parametrize("tier", ["namespaces", "limits"])  # where a program may start another
def test_leaving_early_leaves_nothing_behind(tier: str, source: str) -> None:
    """Whatever the program does, it is dead when the session is over, and so is what it started."""
    started = "import os\nif not os.fork():\n    os.setsid()\n    while True: pass\n" + source
    given = replace(LIMITS, timeout_s=0.5) if "sleep" in source else LIMITS
    with Spawner(None, {}, given, tier=tier) as spawner:
        with spawner.session(started, seed=1) as ask, suppress(Unanswered):
            ask(encode((1,)))
        assert spawner.pid is not None
        warm = tree.children(spawner.pid)[0] if "namespaces" in spawner.isolation else spawner.pid
        assert tree.children(warm) == []
        assert wait_until(lambda: is_right_again(spawner), within_s=60)


def test_the_asker_may_give_up_in_the_middle(spawner: Spawner) -> None:
    class GivenUpError(Exception):
        pass

    def give_up() -> None:
        with spawner.session(ADDS, seed=1) as ask:
            ask(encode((1,)))
            raise GivenUpError

    with pytest.raises(GivenUpError):
        give_up()


def test_a_lost_sandbox_is_one_failed_program() -> None:
    with Spawner(None, {}, LIMITS) as spawner:
        with spawner.session(ADDS, seed=1) as ask:
            ask(encode((1,)))
            assert spawner.pid is not None
            tree.kill_tree(spawner.pid)
            with pytest.raises(Unanswered, match="the sandbox was replaced"):
                ask(encode((1,)))
        assert answers(spawner, ADDS, 1, 2, 3) == [1, 3, 6]


def test_a_side_that_cannot_be_loaded_is_said_so() -> None:
    with Spawner(b"no pickle", {}, LIMITS) as spawner, pytest.raises(SpawnerFailed, match="cannot be loaded"):
        answers(spawner, ADDS, 1)
