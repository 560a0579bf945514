"""Whatever comes in at a lab's own address while a run is going on is answered by name, and touches nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.messages.frames import (
    MAX_FRAME,
    PROTOCOL_VERSION,
    Done,
    Hello,
    Lost,
    Note,
    Refused,
    Renew,
    Stale,
    ToPeer,
    Welcome,
    decode_from_broker,
    encode,
)
from epsilon_lab.messages.tasks import Failure, Result
from epsilon_lab.messages.values import pack
from epsilon_lab.runs import Run
from epsilon_lab.testing.census import wait_until
from epsilon_lab.transport.zeromq import ZeroMQDialer, dial

ITEMS = 300


class Stranger:
    """A process that speaks to the broker as it likes; it may have said hello, and is then given nothing to do."""

    def __init__(self, dialer: ZeroMQDialer) -> None:
        self._dialer = dialer

    def says(self, frame: bytes) -> ToPeer:
        """Send a frame, and hear the answer."""
        self._dialer.send(frame)
        assert self._dialer.poll(20), "no answer"
        [answer] = self._dialer.receive(1)
        return decode_from_broker(answer)


@pytest.fixture
def going(tmp_path: Path) -> Iterator[tuple[Lab, Run]]:
    """A lab with a run that goes on until the file `go` is there."""
    go = str(tmp_path / "go")

    def work(item: int) -> int:
        import os
        import time

        while item % 50 == 7 and not os.path.exists(go):
            time.sleep(0.01)
        return -item

    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.start(WorkQueue(range(ITEMS), work))
        assert wait_until(lambda: (run.frame("tasks")["status"] == "running").sum() >= 2, within_s=60)
        yield lab, run
        Path(go).touch()
        assert run.wait(60).results() == [-item for item in range(ITEMS)]
        attempts = run.frame("attempts")
        assert set(attempts["outcome"]) <= {"completed", "lost", "stale"}
        assert attempts[attempts["outcome"] == "completed"]["task_id"].is_unique
        assert not attempts["worker_id"].str.startswith("stranger").any()


@pytest.fixture
def stranger(going: tuple[Lab, Run]) -> Iterator[Stranger]:
    with dial(going[0].endpoint, "stranger/w1") as dialer:
        yield Stranger(dialer)


@pytest.fixture
def guest(stranger: Stranger) -> Stranger:
    """One that said hello, and takes nothing."""
    assert isinstance(stranger.says(encode(Hello(pid=1, host="elsewhere"))), Welcome)
    return stranger


def _body(value: Any) -> bytes:
    return bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(value)


WHOLE = encode(Done(failures=(Failure(task_id="t", run_id="r", fence=1, outcome="failed", error="no"),)))


BAD = {
    "nothing": (b"", "empty frame"),
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "protocol version 71"),
    "version": (bytes([PROTOCOL_VERSION + 1]) + WHOLE[1:], f"speaks version {PROTOCOL_VERSION}"),
    "garbage": (bytes([PROTOCOL_VERSION]) + b"\xc1" * 100, "not a message to a broker"),
    "truncated": (WHOLE[:-3], "not a message to a broker"),
    "more than a message": (WHOLE + b"\0", "not a message to a broker"),
    "unknown kind": (_body(["nonsense", 1]), "nonsense"),
    "wrong type": (_body(["hello", "one", "host"]), r"Expected `int`, got `str`"),
    "unknown lane": (_body(["hello", 1, "host", ["gpu"], 1]), "gpu"),
    "nested too deep": (bytes([PROTOCOL_VERSION]) + b"\x91" * 100_000, "not a message to a broker"),
    "too many slots": (encode(Hello(pid=1, host="h", lanes=("process",), slots=10**9)), "slots"),
    "no hello": (encode(Renew()), "say hello first"),
    "an answer before hello": (WHOLE, "say hello first"),
}
"""Frames, and what the answer says."""


def test_what_is_no_message_is_refused_with_what_is_wrong(stranger: Stranger) -> None:
    for what, (frame, said) in BAD.items():
        answer = stranger.says(frame)
        assert isinstance(answer, Refused), what
        assert said in answer.problem, what
    assert isinstance(stranger.says(encode(Hello(pid=1, host="elsewhere"))), Welcome), "the same peer is heard again"


def _running(run: Run) -> tuple[str, int, str]:
    """A task that is under way: its id, fence and worker."""
    attempts = run.frame("attempts")
    row = attempts[attempts["outcome"].isna()].iloc[0]
    return row["task_id"], int(row["fence"]), row["worker_id"]


def _result(run: Run, task_id: str, fence: int) -> Result:
    return Result(task_id=task_id, run_id=run.run_id, fence=fence, output=pack("a lie"), started_at=1.0, ended_at=2.0)


def test_an_answer_that_nobody_is_owed_is_stale_and_never_applied(going: tuple[Lab, Run], guest: Stranger) -> None:
    """A fence of the past, of the future, of another worker's task; a task that does not exist; another run."""
    _, run = going
    task_id, fence, _ = _running(run)
    lies = [
        _result(run, task_id, fence),
        _result(run, task_id, fence - 1),
        _result(run, task_id, fence + 10**6),
        _result(run, task_id, 0),
        _result(run, "item-999999", fence),
        msgspec.structs.replace(_result(run, task_id, fence), run_id="no-such-run"),
    ]
    for lie in lies:
        assert guest.says(encode(Done(results=(lie,)))) == Stale(fences=(lie.fence,))
        failure = Failure(task_id=lie.task_id, run_id=lie.run_id, fence=lie.fence, outcome="failed", error="a lie")
        assert guest.says(encode(Done(failures=(failure,)))) == Stale(fences=(lie.fence,))


def test_nobody_speaks_for_another_session(going: tuple[Lab, Run], guest: Stranger) -> None:
    _, run = going
    task_id, fence, worker_id = _running(run)
    answer = guest.says(encode(Lost(member=worker_id, reason="a lie", fence=fence)))
    assert isinstance(answer, Refused)
    assert f"does not supervise {worker_id}" in answer.problem
    answer = guest.says(encode(Note(run_id="no-such-run", task_id=task_id, note_id=1, events=())))
    assert isinstance(answer, Refused)
    assert "run no-such-run is not open" in answer.problem


def test_a_frame_that_is_too_large_ends_its_own_connection_alone(going: tuple[Lab, Run], guest: Stranger) -> None:
    """It is never taken in: its sender is cut off by the transport, which says so to nobody but a monitor."""
    lab, _ = going
    with zmq.Context() as context, context.socket(zmq.DEALER) as large:
        large.setsockopt(zmq.LINGER, 0)
        large.setsockopt(zmq.ROUTING_ID, b"stranger/w2")
        events = large.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
        large.connect(lab.endpoint)
        large.send(bytes(MAX_FRAME + 1))
        seen = []
        while zmq.EVENT_DISCONNECTED not in seen:
            assert events.poll(20_000), seen
            seen.append(recv_monitor_message(events)["event"])
        large.disable_monitor()
        events.close()
    assert isinstance(guest.says(encode(Hello(pid=1, host="elsewhere"))), Welcome)
