"""A broker's rules on a table: say something to them, look at what they answer; time moves when told."""

from collections import defaultdict

import pytest

from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stimuli import Accepted, Assign, OpenRun, Received, Record, Send, Settle, Submit, Tick
from epsilon_lab.messages.frames import Done, Hello, Kill, Lost, Tasks
from epsilon_lab.messages.tasks import Failure, Result, Retry, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport import memory, zeromq
from tests.broker.scene import perform


def spec(task_id, *, retries=0, **fields):
    """A task; its `retries` follow at once."""
    if retries:
        fields["retry"] = Retry(limit=retries, base_s=0)
    return TaskSpec(
        **{"task_id": task_id, "kind": "item", "lane": "process", "entry": "m:f", "payload": pack(task_id)} | fields
    )


class Answer(list):
    """Effects, and the ways to look at them."""

    def sent(self, kind=None, to=None):
        return [
            e.message
            for e in self
            if isinstance(e, Send) and to in (None, e.peer) and isinstance(e.message, kind or object)
        ]

    def records(self, run_id="r"):
        return [e.body for e in self if isinstance(e, Record) and e.run_id == run_id]

    @property
    def outcomes(self):
        return [e.outcome for e in self if isinstance(e, Settle)]

    @property
    def receipts(self):
        return [receipt for e in self if isinstance(e, Accepted) for receipt in e.receipts]

    @property
    def kills(self):
        return [message.member for message in self.sent(Kill)]


class Table:
    """State, time, and what each member was given last."""

    def __init__(self, **settings):
        self.settings = BrokerSettings(**settings)
        self.state = BrokerState(self.settings, epoch=3)
        self.now = 100.0
        self.given = defaultdict(dict)
        self.step(OpenRun("r", "/runs/r"))

    def step(self, stimulus):
        answer = Answer(self.state.step(stimulus, self.now))
        for effect in answer:
            if isinstance(effect, Send) and isinstance(effect.message, Tasks):
                for each in effect.message.assignments:
                    self.given[effect.peer][each.task.task_id] = each
        return answer

    def submit(self, *tasks, run_id="r", **fields):
        return self.step(Submit(run_id, tuple(t if isinstance(t, TaskSpec) else spec(t, **fields) for t in tasks)))

    def join(self, peer="s/w1", *, lanes=("process",), slots=1, pid=7):
        return self.say(peer, Hello(pid=pid, host="h", lanes=lanes, slots=slots if lanes else 0))

    def boss(self, session="s"):
        return self.join(f"{session}/boss", lanes=())

    def say(self, peer, message):
        return self.step(Received(peer, message))

    def turn(self):
        return self.step(Assign())

    def assigned(self):
        """Run a turn; who got what."""
        return {
            e.peer: [each.task.task_id for each in e.message.assignments]
            for e in self.turn()
            if isinstance(e, Send) and isinstance(e.message, Tasks)
        }

    def later(self, seconds):
        """Let time pass, then tick."""
        self.now += seconds
        return self.step(Tick())

    def result(self, peer, task_id, /, **fields):
        held = self.given[peer][task_id]
        return Result(
            **{
                "task_id": task_id,
                "run_id": held.run_id,
                "fence": held.fence,
                "output": pack(f"{task_id} done"),
                "started_at": 1.0,
                "ended_at": 2.0,
            }
            | fields
        )

    def failure(self, peer, task_id, /, **fields):
        held = self.given[peer][task_id]
        return Failure(
            **{
                "task_id": task_id,
                "run_id": held.run_id,
                "fence": held.fence,
                "outcome": "failed",
                "error": "ValueError: no",
            }
            | fields
        )

    def done(self, peer, /, *task_ids, **fields):
        return self.say(peer, Done(results=tuple(self.result(peer, task_id, **fields) for task_id in task_ids)))

    def fail(self, peer, /, *task_ids, **fields):
        return self.say(peer, Done(failures=tuple(self.failure(peer, task_id, **fields) for task_id in task_ids)))

    def drop(self, peer, /, *task_ids):
        """Say of what was cancelled that it is never begun."""
        return self.say(peer, Done(dropped=tuple(self.given[peer][task_id].fence for task_id in task_ids)))

    def lose(self, member="s/w1", **fields):
        return self.say("s/boss", Lost(**{"member": member, "reason": "killed by SIGSEGV"} | fields))


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def make_table():
    return Table


@pytest.fixture
def make_spec():
    return spec


@pytest.fixture(params=[memory, zeromq], ids=["memory", "zeromq"])
def transport(request):
    return request.param


@pytest.fixture
def play(transport, tmp_path):
    """Run a scene on a host of its own, over either transport."""
    return lambda scene, **options: perform(scene, transport, tmp_path, **options)


@pytest.fixture
def play_at_once(tmp_path):
    """Run a scene over memory, where all that was sent has arrived when the next turn begins."""
    return lambda scene, **options: perform(scene, memory, tmp_path, **options)


@pytest.fixture
def specs(make_spec):
    return lambda count, **fields: [make_spec(f"t{n}", **fields) for n in range(count)]
