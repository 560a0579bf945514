"""Children at work: real processes, the real transport, and nothing left of them in the end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.frames import Bye, Cancel, Done, Interrupt, Kill, Lost, Renew
from epsilon_lab.messages.tasks import Failure, Result
from epsilon_lab.messages.values import unpack
from epsilon_lab.processes import tree
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from tests.workers.conftest import Desk

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def supervised(desk: Desk, workers: int = 1, **options: Any) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(desk.address, "s1", workers, **options)
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.serve)
        yield supervisor
        group.cancel_scope.cancel()


def _result(answer: Result | Failure) -> Any:
    assert isinstance(answer, Result), answer
    return unpack(answer.output)


async def test_tasks_are_done_in_order_and_answered(desk: Desk) -> None:
    async with supervised(desk):
        peer, hello = await desk.child()
        assert peer == "s1/w1"
        assert (hello.slots, hello.lanes) == (1, ("process",))
        square = lambda item: item * item  # noqa: E731
        desk.assign(peer, *(desk.assignment(square, n) for n in range(500)))
        assert [_result(answer) for answer in await desk.answers(500)] == [n * n for n in range(500)]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
async def test_the_guardian_keeps_the_lock_and_the_child_does_not_get_it(desk: Desk, tmp_path: Any) -> None:
    with (tmp_path / "lock").open("w") as lock:
        async with supervised(desk, lock=lock.fileno()):
            peer, hello = await desk.child()
            desk.assign(peer, desk.assignment(lambda _: os.getppid()))
            (answer,) = await desk.answers(1)

            def opened(pid: int) -> set[str]:
                return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}

            assert lock.name in opened(_result(answer))
            assert lock.name not in opened(hello.pid)


async def test_short_tasks_are_answered_together(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        desk.assign(peer, *(desk.assignment(abs, n) for n in range(256)))
        frames, answers = 0, 0
        while answers < 256:
            _, done = await desk.hear(Done)
            frames, answers = frames + 1, answers + len(done.results)
        assert frames < 128


async def test_a_finished_task_does_not_wait_for_the_one_behind_it(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(abs, -1), desk.assignment(lambda _: time.sleep(1000)))
        (answer,) = await desk.answers(1)
        assert _result(answer) == 1


def _quick_and_then(long: Callable[[], object]) -> Callable[[int], int]:
    """A function that takes next to no time for many items in a row, and then does something else."""

    def work(n: int) -> int:
        if n == 40:
            long()
        return n

    return work


async def test_answers_held_back_are_sent_when_the_next_task_takes_long(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        work = _quick_and_then(lambda: time.sleep(1000))
        desk.assign(peer, *(desk.assignment(work, n) for n in range(60)))
        assert [_result(answer) for answer in await desk.answers(40)] == list(range(40))


async def test_no_answer_is_held_back_behind_a_time_limit(desk: Desk) -> None:
    """Whoever holds the interpreter for ever is the first without an answer: the one whose limit is over."""
    async with supervised(desk):
        peer, _ = await desk.child()
        work = _quick_and_then(lambda: sum(range(10**13)))
        limited = [desk.assignment(work, n, time_limit_s=60.0) for n in range(60)]
        desk.assign(peer, *limited)
        assert [_result(answer) for answer in await desk.answers(40)] == list(range(40))
        desk.say(f"{peer.partition('/')[0]}/boss", Kill(member=peer, reason="its limit is over"))
        _, lost = await desk.hear(Lost)
        assert lost.fence == limited[40].fence


async def test_a_fork_that_comes_back_from_its_task_ends_there(desk: Desk) -> None:
    def work(_: object) -> tuple[int, int]:
        fork = os.fork()
        return os.getpid(), os.waitpid(fork, 0)[1] if fork else -1

    async with supervised(desk):
        peer, hello = await desk.child()
        desk.assign(peer, desk.assignment(work))
        (answer,) = await desk.answers(1)
        assert _result(answer) == (hello.pid, 0)


async def test_the_broker_can_take_back_what_has_not_begun(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        gate = desk.run.path / "gate"
        os.mkfifo(gate)
        first = desk.assignment(lambda path: path.read_text(), gate)
        second, third = desk.assignment(abs, -2), desk.assignment(abs, -3)
        desk.assign(peer, first, second, third)
        desk.say(peer, Cancel(fences=(second.fence,)))
        async with await anyio.open_file(gate, "w") as file:
            await file.write("go")
        assert [answer.fence for answer in await desk.answers(2)] == [first.fence, third.fence]


async def test_a_task_nobody_wants_is_asked_to_stop_and_its_process_goes_on(desk: Desk) -> None:
    def sleeper(path: Any) -> None:
        try:
            (path / "begun").write_text("yes")
            time.sleep(1000)
        except Exception:
            time.sleep(1000)
        finally:
            (path / "tidied").touch()

    async with supervised(desk):
        peer, _ = await desk.child()
        begun = desk.run.path / "begun"
        os.mkfifo(begun)
        unwanted, pid = desk.assignment(sleeper, desk.run.path), desk.assignment(lambda _: os.getpid())
        desk.assign(peer, pid, unwanted, desk.assignment(lambda _: os.getpid()))
        (first,) = await desk.answers(1)
        assert await anyio.Path(begun).read_text() == "yes"
        desk.say("s1/boss", Interrupt(member=peer, fence=unwanted.fence))
        stopped, last = await desk.answers(2)
        assert isinstance(stopped, Failure)
        assert stopped.error.startswith("Interrupted")
        assert (desk.run.path / "tidied").exists()
        assert _result(first) == _result(last), "the same process"


async def test_only_the_task_that_was_named_is_asked_to_stop(desk: Desk) -> None:
    """It was over already, or has not begun: whoever is at work meanwhile is not hit."""
    async with supervised(desk, settings=BrokerSettings(beat_s=0.05)):
        peer, _ = await desk.child()
        gate = desk.run.path / "gate"
        os.mkfifo(gate)
        before, during = desk.assignment(abs, -1), desk.assignment(lambda path: path.read_text(), gate)
        after = desk.assignment(abs, -2)
        desk.assign(peer, before, during, after)
        await desk.answers(1)
        for fence in (before.fence, after.fence, 10**6):
            desk.say("s1/boss", Interrupt(member=peer, fence=fence))
        desk.say("s1/boss", Interrupt(member="s1/w77", fence=during.fence))
        desk.heard.clear()
        for _ in range(3):
            await desk.hear(Renew)  # by then the supervisor has passed everything on
        file = os.open(gate, os.O_RDWR)  # does not wait for a reader, who may have been hit
        os.write(file, b"go")
        os.close(file)
        assert [_result(answer) for answer in await desk.answers(2)] == ["go", 2]


async def test_a_child_sees_what_the_kernel_sees_and_no_secrets(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("MY_API_KEY", "s3cr3t")
    monkeypatch.setenv("MY_OTHER_KEY", "named")
    monkeypatch.setenv("MY_SETTING", "plain")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def look(_: object) -> tuple[Any, ...]:
        try:
            said = input()
        except EOFError:
            said = "nothing"
        environment = (os.environ.get(name) for name in ("MY_API_KEY", "MY_OTHER_KEY", "MY_SETTING"))
        return os.getcwd(), sys.path[0], sys.modules["__main__"].__name__, *environment, said

    async with supervised(desk, env=["MY_OTHER_KEY"]):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(look))
        (answer,) = await desk.answers(1)
        assert _result(answer) == (str(tmp_path), str(tmp_path), "__main__", None, "named", "plain", "nothing")


async def test_a_task_changes_nothing_for_the_next(desk: Desk) -> None:
    def wander(_: object) -> None:
        os.chdir("/")
        sys.exit(3)

    async with supervised(desk):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(wander), desk.assignment(lambda _: os.getcwd()))
        first, second = await desk.answers(2)
        assert isinstance(first, Failure)
        assert first.error == "SystemExit: 3"
        assert _result(second) == os.getcwd()


async def test_what_a_task_leaves_running_is_ended_with_it(desk: Desk, ended: Callable[..., bool]) -> None:
    def leave(_: object) -> int:
        started = subprocess.Popen(
            ["setsid", "--fork", "sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE, text=True
        )
        assert started.stdout is not None
        return int(started.stdout.readline())

    async with supervised(desk):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(leave))
        (answer,) = await desk.answers(1)
        assert ended(_result(answer))


# -- death ---------------------------------------------------------------------------------------------------------


def _exit(_: object) -> None:
    os._exit(3)


def _exit_well(_: object) -> None:
    os._exit(0)


def _crash(_: object) -> None:
    print("last words", flush=True)
    ctypes.string_at(0)


def _kill(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("task", "reason"),
    [(_exit, "exit code 3"), (_exit_well, "exit code 0"), (_crash, "killed by SIGSEGV"), (_kill, "killed by SIGKILL")],
)
async def test_a_death_names_its_cause_and_its_task(desk: Desk, task: Callable[..., Any], reason: str) -> None:
    """Prefetched neighbours, and the one that was done just before, are not to blame."""
    async with supervised(desk):
        peer, _ = await desk.child()
        before, guilty, after = desk.assignment(abs, 1), desk.assignment(task), desk.assignment(abs, 2)
        desk.assign(peer, before, guilty, after)
        boss, lost = await desk.hear(Lost)
        assert boss == "s1/boss"
        assert (lost.member, lost.fence, lost.outcome) == (peer, guilty.fence, "crashed")
        assert lost.reason.startswith(reason)
        if task is _crash:
            assert lost.stdout_tail == "last words\n"
            assert "Segmentation fault" in lost.stderr_tail
        successor, _ = await desk.child()
        assert successor == "s1/w2"
        again = desk.assignment(abs, -3)
        desk.assign(successor, again)
        await desk.hear(Done, where=lambda done: done.results[0].fence == again.fence)


async def test_a_task_after_which_its_process_cannot_answer_is_to_blame(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        task = desk.assignment(lambda _: os.closerange(0, 20))
        desk.assign(peer, task)
        _, lost = await desk.hear(Lost)
        assert (lost.member, lost.fence) == (peer, task.fence)


async def test_an_idle_child_that_is_killed_blames_nobody(desk: Desk) -> None:
    async with supervised(desk):
        peer, hello = await desk.child()
        done = desk.assignment(abs, -1)
        desk.assign(peer, done)
        await desk.answers(1)
        os.kill(hello.pid, signal.SIGKILL)
        _, lost = await desk.hear(Lost)
        assert lost.member == peer
        assert lost.fence in (0, done.fence), "or one that was answered, and is charged to nobody"


async def test_what_a_dead_child_left_dies_with_it(desk: Desk, ended: Callable[..., bool]) -> None:
    def spread(path: Any) -> None:
        escaped = subprocess.Popen(
            ["setsid", "--fork", "sh", "-c", "echo $$; exec sleep 1000"], stdout=subprocess.PIPE, text=True
        )
        assert escaped.stdout is not None
        pids = [os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1000"), int(escaped.stdout.readline())]
        path.write_text(" ".join(map(str, pids)))
        os.kill(os.getpid(), signal.SIGKILL)

    async with supervised(desk):
        peer, _ = await desk.child()
        pids = desk.run.path / "pids"
        desk.assign(peer, desk.assignment(spread, pids))
        await desk.hear(Lost)
        assert len(pids.read_text().split()) == 2
        assert ended(*map(int, pids.read_text().split()))


@pytest.mark.parametrize("what", ["sleeps", "loops", "holds the GIL", "stops itself"])
async def test_the_broker_can_have_a_child_killed(desk: Desk, what: str, ended: Callable[..., bool]) -> None:
    def hang(what: str) -> None:
        match what:
            case "sleeps":
                time.sleep(1000)
            case "loops":
                while True:
                    pass
            case "holds the GIL":
                sum(range(10**13))
            case "stops itself":
                os.kill(os.getppid(), signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)

    async with supervised(desk):
        peer, hello = await desk.child()
        task = desk.assignment(hang, what)
        desk.assign(peer, task)
        desk.say("s1/boss", Kill(member=peer, reason="took longer than 0.1 s"))
        _, lost = await desk.hear(Lost)
        assert (lost.member, lost.outcome, lost.reason) == (peer, "timeout", "took longer than 0.1 s")
        assert ended(hello.pid)
        await desk.child()


async def test_beats_go_out_whatever_the_children_do(desk: Desk) -> None:
    async with supervised(desk):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(lambda _: sum(range(10**13))))
        for _ in range(3):
            assert (await desk.hear(Renew))[0] == "s1/boss"


async def test_children_that_do_not_start_are_a_readable_failure(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "broken").mkdir()
    monkeypatch.chdir(tmp_path / "broken")
    starts = []

    async with supervised(desk) as supervisor:
        await desk.child()
        supervisor._start = _counting(supervisor._start, starts)  # type: ignore[method-assign]
        monkeypatch.setattr("epsilon_lab.workers.member._BOOT", "raise RuntimeError('no such interpreter {root}')")
        with anyio.fail_after(60):
            while not supervisor.failure:
                for member in [each for each in supervisor._members if each.is_ready]:
                    await member.kill("make way")
                await desk.listen_for(0.05)
        assert "no such interpreter" in supervisor.failure
        assert "did not start (exit code 1)" in supervisor.failure
        assert len(starts) < 10


def _counting(start: Callable[..., Any], starts: list[float]) -> Callable[..., Any]:
    def counted() -> Any:
        starts.append(time.monotonic())
        return start()

    return counted


async def test_the_first_spare_is_started_with_the_first_beat(desk: Desk) -> None:
    before = set(_below(os.getpid()))  # Python's own among them, which it starts once

    def started() -> set[int]:
        return set(_below(os.getpid())) - before

    async with supervised(desk, settings=BrokerSettings(beat_s=1000.0)):
        peer, _ = await desk.child()
        desk.assign(peer, desk.assignment(abs, -1))
        await desk.answers(1)
        assert len(started()) == 2, "a child and its guardian"
    async with supervised(desk, settings=BrokerSettings(beat_s=0.05)):
        with anyio.fail_after(60):
            while len(started()) < 4:
                await desk.listen_for(0.02)


async def test_closing_says_goodbye_and_leaves_nobody(desk: Desk, ended: Callable[..., bool]) -> None:
    async with supervised(desk, workers=2):
        hellos = [await desk.child() for _ in range(2)]
        desk.assign(hellos[0][0], desk.assignment(lambda _: sum(range(10**13))))
    boss, _ = await desk.hear(Bye)
    assert boss == "s1/boss"
    assert ended(*(hello.pid for _, hello in hellos))


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
async def test_a_wrong_number_of_workers_is_refused(workers: Any) -> None:
    with pytest.raises(InvalidInput, match="workers"):
        Supervisor("ipc:///nowhere", "s1", workers)


# -- the kernel is killed --------------------------------------------------------------------------------------------

KERNEL = """
import anyio, sys
from epsilon_lab.workers.supervisor import Supervisor
anyio.run(Supervisor(sys.argv[1], "s1", 3).serve)
"""


async def test_when_the_kernel_is_killed_nobody_is_left(desk: Desk, ended: Callable[..., bool]) -> None:
    """Children that sleep, loop, hold the GIL in C, and have started others; and the spare."""

    def loop(_: object) -> None:
        while True:
            pass

    def hold(_: object) -> None:
        sum(range(10**13))

    def spread(path: Any) -> None:
        subprocess.run(["setsid", "--fork", "sh", "-c", f"echo $$ > {path}; exec sleep 1000"], check=True)
        time.sleep(1000)

    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, desk.address])  # noqa: ASYNC220 - it is there at once
    try:
        children = [await desk.child() for _ in range(3)]
        path = desk.run.path / "pid"
        for (peer, _), task in zip(children, (loop, hold, spread), strict=True):
            desk.assign(peer, desk.assignment(task, path))
        with anyio.fail_after(60):
            # four guardians with a child each, the spare's too
            while not (path.exists() and path.read_text().strip() and len(_below(kernel.pid)) >= 8):
                await desk.listen_for(0.02)
        everyone = _below(kernel.pid)
    finally:
        kernel.kill()
        kernel.wait()
    assert ended(*everyone, int(path.read_text()))


def _below(pid: int) -> list[int]:
    found = tree.children(pid)
    for child in list(found):
        found += _below(child)
    return found
