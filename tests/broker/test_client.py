"""A peer's end, against a listener that says what a broker may say."""

import threading

import anyio
import pytest

from epsilon_lab.broker.client import Peer
from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.events import RunBorn, event
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Bye,
    Cancel,
    Done,
    Hello,
    Lost,
    Note,
    Recall,
    Recorded,
    Refused,
    Renew,
    Stale,
    Tasks,
    Welcome,
    decode_from_peer,
    encode,
)
from epsilon_lab.messages.tasks import Assignment, Failure
from epsilon_lab.transport import memory

HELLO = Hello(pid=1, host="h", lanes=("process",), slots=1)
WELCOME = Welcome(epoch=1, lease_s=10.0, beat_s=2.0)


class Broker:
    """The other end, played by hand."""

    def __init__(self, listener):
        self._listener = listener

    def says(self, *messages):
        for message in messages:
            assert self._listener.send("s/w1", encode(message))

    def heard(self):
        return [decode_from_peer(frame) for _, frame in self._listener.receive()]


@pytest.fixture
def broker():
    with memory.private_address() as address, memory.listen(address) as listener:
        broker = Broker(listener)
        broker.address = address
        yield broker


@pytest.fixture
def peer(broker):
    with memory.dial(broker.address, "s/w1") as dialer:
        yield Peer(dialer, HELLO)


def tasks(make_spec, *fences):
    return Tasks(
        assignments=tuple(
            Assignment(run_id="r", run_dir="/r", task=make_spec(f"t{fence}"), attempt=1, fence=fence)
            for fence in fences
        )
    )


def test_it_says_what_it_is_asked_to(peer, broker):
    peer.greet()
    peer.done()
    peer.renew()
    peer.lost("s/w2", "exit code 3", fence=9, stderr_tail="oh")
    peer.bye()
    assert broker.heard() == [
        HELLO,
        Done(),
        Renew(),
        Lost(member="s/w2", reason="exit code 3", fence=9, stderr_tail="oh"),
        Bye(),
    ]


def test_assignments_line_up_until_they_are_cancelled(peer, broker, make_spec):
    broker.says(WELCOME, tasks(make_spec, 1, 2), tasks(make_spec, 3, 4), Cancel(fences=(2, 4, 9)))
    assert peer.poll(0)
    assert len(peer.receive()) == 4
    assert [task.fence for task in peer.tasks] == [1, 3]
    assert peer.welcome == WELCOME


def test_what_is_cancelled_before_it_is_begun_is_said_to_be_dropped(peer, broker, make_spec):
    broker.says(WELCOME, tasks(make_spec, 1, 2, 3), Cancel(fences=(2, 3, 9)), Cancel(fences=(9,)))
    peer.receive()
    assert broker.heard() == [Done(dropped=(2, 3))]


def test_what_never_came_is_said_to_be_dropped_where_connections_can_be_lost(broker, make_spec):
    with memory.dial(broker.address, "s/w1") as dialer:
        dialer.is_lossy = True
        peer = Peer(dialer, HELLO)
        broker.says(WELCOME, tasks(make_spec, 1))
        peer.receive()
        peer.tasks.popleft()  # it is being worked on
        broker.says(Cancel(fences=(1, 2)))
        peer.receive()
        assert broker.heard() == [Done(dropped=(2,))]


def test_what_is_recalled_while_a_task_runs_is_given_back_at_once(peer, broker, make_spec):
    """By another thread; what the first one has taken goes on, and what that one waits for is left to it."""
    peer.greet()
    broker.says(WELCOME, tasks(make_spec, 7, 8))
    peer.receive()
    assert peer.take().fence == 7
    broker.says(tasks(make_spec, 9), Recorded(note_id=5), Recall(fences=(7, 9)))
    broker.heard()
    other = threading.Thread(target=peer.tend)
    other.start()
    other.join()
    assert broker.heard() == [Done(dropped=(9,))]
    assert [each.fence for each in peer.tasks] == [8]
    assert peer.poll(None), "what another thread has heard is not waited for"
    assert Recorded(note_id=5) in peer.receive()
    assert peer.poll(0.0) is False


def test_what_was_answered_is_not_given_back_where_connections_can_be_lost(broker, make_spec):
    with memory.dial(broker.address, "s/w1") as dialer:
        dialer.is_lossy = True
        peer = Peer(dialer, HELLO)
        peer.greet()
        broker.says(WELCOME, tasks(make_spec, 7))
        peer.receive()
        assignment = peer.take()
        peer.done(failures=(Failure(task_id="t7", run_id="r", fence=assignment.fence, outcome="failed", error="e"),))
        broker.heard()
        broker.says(Recall(fences=(7, 8)))
        peer.receive()
        assert broker.heard() == [Done(dropped=(8,))], "the other one never came"


def test_a_forgotten_peer_greets_once_and_drops_what_it_was_given(peer, broker, make_spec):
    forgotten = Refused(problem=f"{UNKNOWN_PEER} 's/w1'")
    broker.says(WELCOME, tasks(make_spec, 1, 2), forgotten, forgotten, forgotten)
    peer.receive()
    assert not peer.tasks
    assert broker.heard() == [HELLO]
    broker.says(WELCOME, forgotten)
    peer.receive()
    assert broker.heard() == [HELLO]


def test_notes_are_sent_again_until_they_are_recorded(peer, broker):
    events = (event(RunBorn(run_id="x")),)
    first, second = peer.note("r", "t", events), peer.note("r", "t", events)
    broker.heard()
    broker.says(Recorded(note_id=first), Refused(problem=UNKNOWN_PEER))
    peer.receive()
    assert broker.heard() == [HELLO, Note(run_id="r", task_id="t", note_id=second, events=events)]


def test_deaths_are_told_again_to_a_broker_that_does_not_know_their_teller(peer, broker):
    """Its member may have said hello to a broker that began anew, and died, before it had done so itself."""
    peer.lost("s/w2", "exit code 3", fence=7)
    broker.heard()
    broker.says(Refused(problem=UNKNOWN_PEER))
    peer.receive()
    assert broker.heard() == [HELLO, Lost(member="s/w2", reason="exit code 3", fence=7)]


def test_other_refusals_are_kept_for_whoever_asks(peer, broker):
    broker.says(Refused(problem="an event was not recorded"), Stale(fences=(3,)))
    assert peer.receive() == [Refused(problem="an event was not recorded"), Stale(fences=(3,))]
    assert list(peer.refusals) == ["an event was not recorded"]
    assert broker.heard() == []


def test_a_loop_can_read_the_messages_themselves(peer, broker):
    async def main():
        broker.says(WELCOME, Stale(fences=(1,)))
        got = []
        with anyio.fail_after(60):
            async for message in peer:
                got.append(message)
                if len(got) == 2:
                    break
        return got

    assert anyio.run(main) == [WELCOME, Stale(fences=(1,))]


def test_another_protocol_is_an_error(peer, broker):
    broker._listener.send("s/w1", b"\x63hello")
    with pytest.raises(BadFrame, match="version"):
        peer.receive()
