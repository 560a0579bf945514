"""The broker against a model that is a dictionary: whatever peers, submitters and time do, in any order.

The model knows the tasks' states, what each member was given last and what was accepted. The laws: every submitted task
is in exactly one state; it is settled at most once, by the latest assignment only; nobody holds more than its credit;
a task is dead after exactly `poison_limit` losses, failed after its own tries, and once peers behave nothing is left.
"""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stimuli import (
    Assign,
    CancelTasks,
    OpenRun,
    PauseRun,
    Received,
    Record,
    ResumeRun,
    Send,
    Settle,
    Stalled,
    Submit,
    Tick,
    Undelivered,
)
from epsilon_lab.messages.events import (
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksFailed,
    TasksReleased,
    TasksSubmitted,
)
from epsilon_lab.messages.frames import Bye, Done, Hello, Kill, Lost, Renew, Tasks
from epsilon_lab.messages.tasks import Failure, Result, Retry, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings

SETTINGS = BrokerSettings(lease_s=10.0, poison_limit=2, prefetch=2, credit_max=6, grace_s=1.0)
CHILDREN = ("s/w1", "s/w2", "t/w1")
LANE = "t/leaves"
SLOTS = {LANE: 3} | dict.fromkeys(CHILDREN, 1)
RUNS = ("p", "q")


class Fact:
    """What the model knows of a task."""

    def __init__(self, spec):
        self.spec = spec
        self.retries = spec.retry.limit if spec.retry else 0
        self.state = "queued"
        self.holder = None
        self.fence = 0
        self.lost = self.failed = self.attempt = 0


class BrokerMachine(RuleBasedStateMachine):
    answers = Bundle("answers")

    def __init__(self):
        super().__init__()
        self.state = BrokerState(SETTINGS, epoch=1)
        self.now = 0.0
        self.facts = {}
        self.settled = {}
        self.fences = set()
        self.last_turn = 0
        self.pids = {}
        self.condemned = set()
        self.pending = []
        self.counter = 0
        for run_id in RUNS:
            self.step(OpenRun(run_id, f"/runs/{run_id}"))

    # -- carrying effects over into the model -------------------------------------------------------------------------

    def step(self, stimulus):
        self.last_turn = max(self.fences, default=0)
        effects = self.state.step(stimulus, self.now)
        for effect in effects:
            match effect:
                case Record(run_id=run_id, body=body) if run_id is not None:
                    self.follow(run_id, body)
                case Settle(outcome=outcome):
                    key = (outcome.run_id, outcome.task_id)
                    assert key not in self.settled, f"{key} was settled twice"
                    assert self.facts[key].state == outcome.status, "the journal said so before"
                    self.settled[key] = outcome
                case Send(peer=peer, message=Tasks(assignments=assignments)):
                    for each in assignments:
                        fact = self.facts[each.run_id, each.task.task_id]
                        assert (fact.state, fact.holder, fact.fence) == ("assigned", peer, each.fence)
                        self.pending.append((peer, each))
                case Send(message=Kill(member=member)):
                    self.condemned.add(member)
        return effects

    def follow(self, run_id, body):
        """Apply a journal line, as a reader of the journal would."""
        match body:
            case TasksSubmitted(tasks=tasks):
                assert all(self.facts[run_id, line.task_id].state == "queued" for line in tasks)
            case TasksAssigned(worker_id=worker, tasks=tasks):
                for task_id, attempt, fence in tasks:
                    fact = self.facts[run_id, task_id]
                    assert fact.state == "queued"
                    assert fence > self.last_turn, "larger than any of an earlier turn"
                    assert fence not in self.fences
                    self.fences.add(fence)
                    fact.attempt += 1
                    assert attempt == fact.attempt
                    fact.state, fact.holder, fact.fence = "assigned", worker, fence
            case TasksCompleted(worker_id=worker, tasks=tasks):
                for line in tasks:
                    fact = self.facts[run_id, line.task_id]
                    assert (fact.state, fact.holder, fact.fence) == ("assigned", worker, line.fence)
                    fact.state, fact.holder = "completed", None
            case TasksReleased(worker_id=worker, tasks=tasks):
                for task_id, _, fence in tasks:
                    fact = self.facts[run_id, task_id]
                    assert (fact.state, fact.holder, fact.fence) == ("assigned", worker, fence)
                    fact.state, fact.holder = "queued", None
            case TasksFailed(worker_id=worker, tasks=tasks):
                for line in tasks:
                    fact = self.facts[run_id, line.task_id]
                    assert (fact.state, fact.holder, fact.fence) == ("assigned", worker, line.fence)
                    fact.holder = None
                    fact.state = line.then
                    if line.outcome in ("crashed", "lost", "expired"):
                        fact.lost += 1
                        assert line.then == ("dead" if fact.lost == SETTINGS.poison_limit else "queued")
                    else:
                        fact.failed += 1
                        assert line.then == ("failed" if fact.failed > fact.retries else "queued")
            case TasksCancelled(task_ids=task_ids):
                for task_id in task_ids:
                    fact = self.facts[run_id, task_id]
                    assert fact.state in ("queued", "assigned")
                    fact.state, fact.holder = "cancelled", None

    def hello(self, peer):
        self.pids[peer] = self.pids.get(peer, 0) + 1
        lanes = ("async",) if peer == LANE else () if peer.endswith("boss") else ("process",)
        self.say(peer, Hello(pid=self.pids[peer], host="h", lanes=lanes, slots=SLOTS.get(peer, 0)))

    def say(self, peer, message):
        return self.step(Received(peer, message))

    def known(self):
        return {row.worker_id for row in self.state.workers()}

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(
        run_id=st.sampled_from(RUNS),
        count=st.integers(1, 5),
        lane=st.sampled_from(["process", "process", "async"]),
        priority=st.integers(0, 1),
        retries=st.integers(0, 1),
        prefetch=st.booleans(),
        limit=st.sampled_from([None, 3.0]),
    )
    def submit(self, run_id, count, lane, priority, retries, prefetch, limit):
        specs = []
        for _ in range(count):
            self.counter += 1
            spec = TaskSpec(
                task_id=f"t{self.counter}",
                kind=f"k{self.counter % 2}",
                lane=lane,
                entry="m:f",
                payload=pack(None),
                priority=priority,
                retry=Retry(limit=retries, base_s=0) if retries else None,
                prefetch=prefetch,
                time_limit_s=limit,
            )
            self.facts[run_id, spec.task_id] = Fact(spec)
            specs.append(spec)
        self.step(Submit(run_id, tuple(specs)))

    @rule(peer=st.sampled_from([*CHILDREN, LANE, "s/boss", "t/boss"]))
    def join(self, peer):
        self.condemned.discard(peer)
        self.hello(peer)

    @rule(target=answers)
    def turn(self):
        self.step(Assign())
        given, self.pending = self.pending, []
        return given

    @rule(target=answers, given=consumes(answers), count=st.integers(1, 9), seconds=st.sampled_from([0.0, 0.004, 5.0]))
    def finish(self, given, count, seconds):
        for peer, each in given[:count]:
            result = Result(
                task_id=each.task.task_id,
                run_id=each.run_id,
                fence=each.fence,
                output=pack(each.fence),
                started_at=10.0,
                ended_at=10.0 + seconds,
            )
            self.say(peer, Done(results=(result,)))
        return given[count:]

    @rule(given=answers)
    def answer_again(self, given):
        """What was answered before, or is still open: old, doubled, out of order."""
        for peer, each in reversed(given):
            failure = Failure(
                task_id=each.task.task_id, run_id=each.run_id, fence=each.fence, outcome="failed", error="no"
            )
            self.say(peer, Done(failures=(failure,)))

    @rule(given=answers, thief=st.sampled_from(CHILDREN))
    def steal(self, given, thief):
        for peer, each in given[:2]:
            if peer != thief:
                before = dict(self.settled)
                failure = Failure(
                    task_id=each.task.task_id, run_id=each.run_id, fence=each.fence, outcome="failed", error="no"
                )
                self.say(thief, Done(failures=(failure,)))
                assert self.settled == before

    @rule(given=answers)
    def never_arrived(self, given):
        for peer in {peer for peer, _ in given}:
            theirs = tuple(each for name, each in given if name == peer)
            self.step(Undelivered(peer, Tasks(assignments=theirs)))

    @rule(member=st.sampled_from([*CHILDREN, LANE]))
    def die(self, member):
        if f"{member[0]}/boss" in self.pids:
            self.say(f"{member[0]}/boss", Lost(member=member, reason="died"))

    @rule(peer=st.sampled_from([*CHILDREN, LANE, "t/boss"]))
    def leave(self, peer):
        self.say(peer, Bye())

    @rule(run_id=st.sampled_from(RUNS), everything=st.booleans())
    def cancel(self, run_id, everything):
        ids = tuple(task_id for run, task_id in self.facts if run == run_id)
        self.step(CancelTasks(run_id, None if everything else ids[-2:], "enough"))

    @rule(run_id=st.sampled_from(RUNS))
    def pause(self, run_id):
        self.step(PauseRun(run_id))

    @rule(run_id=st.sampled_from(RUNS))
    def resume(self, run_id):
        self.step(ResumeRun(run_id))

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.5, 4.0, 11.0]))
    def wait(self, seconds):
        self.now += seconds
        self.step(Tick())

    @rule(seconds=st.sampled_from([5.0, 60.0]))
    def stall(self, seconds):
        """Being late changes nothing but deadlines, and expires nobody who was not late himself."""
        before = self.known()
        self.now += seconds
        assert self.step(Stalled(seconds)) == []
        for peer in list(before):
            self.say(peer, Renew())
        assert self.known() == before

    @precondition(lambda self: self.facts)
    @rule()
    def everything_ends_well(self):
        """Peers that behave bring whatever is left to its end: nothing is lost."""
        for run_id in RUNS:
            self.step(ResumeRun(run_id))
        for peer in ("s/boss", "t/boss", *CHILDREN, LANE):
            self.join(peer)
        for _ in range(3 * len(self.facts) + 3):
            for peer in CHILDREN:
                if peer in self.condemned:
                    self.die(peer)
                    self.join(peer)
            for peer, each in self.turn_quietly():
                result = Result(
                    task_id=each.task.task_id,
                    run_id=each.run_id,
                    fence=each.fence,
                    output=pack(None),
                    started_at=1.0,
                    ended_at=1.0,
                )
                self.say(peer, Done(results=(result,)))
        unsettled = {key: fact.state for key, fact in self.facts.items() if key not in self.settled}
        assert unsettled == {}

    def turn_quietly(self):
        self.step(Assign())
        given, self.pending = self.pending, []
        return given

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def every_task_is_in_one_state(self):
        held = {}
        for member in self.state.board.members():
            for fence, place in member.held.items():
                if place.task is not None:
                    held[place.task.run.run_id, place.task.spec.task_id] = (member.peer, fence)
        queued = 0
        for key, fact in self.facts.items():
            assert (key in self.settled) == (fact.state in ("completed", "failed", "dead", "cancelled"))
            assert held.get(key) == ((fact.holder, fact.fence) if fact.state == "assigned" else None)
            assert (fact.spec.task_id in self.state.board.runs[key[0]].tasks) == (key not in self.settled)
            queued += fact.state == "queued"
        assert len(self.state.board.queue) == queued

    @invariant()
    def nobody_holds_more_than_its_credit(self):
        for member in self.state.board.members():
            slots = member.hello.slots
            assert len(member.held) <= (slots if member.peer == LANE else max(SETTINGS.credit_max, slots))
            assert abs(member.backlog - sum(place.estimate for place in member.held.values())) < 1e-6
            working = list(member.held.values())[:slots]
            assert all(place.started is not None for place in working)
            if len(member.held) > slots:
                assert all(p.task is None or p.task.spec.prefetch for p in list(member.held.values())[slots:])

    @invariant()
    def tries_stay_within_their_limits(self):
        for fact in self.facts.values():
            assert fact.lost <= SETTINGS.poison_limit
            assert fact.failed <= fact.retries + 1


BrokerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestBroker = BrokerMachine.TestCase
