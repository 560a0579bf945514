"""The broker against a model that is a dictionary: whatever peers, submitters, time and crashes do, in any order.

The model knows the tasks' states, what each member was given last and what was accepted, from the journal lines alone.
The laws: each submitted task is in exactly one state; it is settled at most once, by the latest assignment only, unless
someone requeues it; nobody holds more than its credit, nobody is given what its run's order puts behind another; a task
is dead after exactly `poison_limit` losses, failed after its own tries; it is never begun before its time nor after it;
a broker that begins anew knows all that is on record, and leaves workers what they still hold; and once peers behave
nothing is left.
"""

from collections import defaultdict

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stimuli import (
    Accepted,
    Assign,
    CancelTasks,
    OpenRun,
    OpenTask,
    PauseRun,
    Received,
    Record,
    Reprioritise,
    Requeue,
    ResumeRun,
    Send,
    Settle,
    Stalled,
    Submit,
    Tick,
    Undelivered,
)
from epsilon_lab.errors import InvalidInput, QueueFull
from epsilon_lab.messages.events import (
    TasksAdopted,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksExpired,
    TasksFailed,
    TasksReleased,
    TasksRequeued,
    TasksSubmitted,
)
from epsilon_lab.messages.frames import Beat, Bye, Cancel, Done, Hello, Kill, Lost, Recall, Renew, Tasks
from epsilon_lab.messages.tasks import Failure, Result, Retry, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings

SETTINGS = BrokerSettings(
    lease_s=10.0, poison_limit=2, prefetch=2, credit_max=6, grace_s=1.0, adoption_grace_s=5.0, queue_tasks=20
)
CHILDREN = ("s/w1", "s/w2", "t/w1")
LANE = "t/leaves"
SLOTS = {LANE: 3} | dict.fromkeys(CHILDREN, 1)
RUNS = ("p", "q")
SETTLED = ("completed", "failed", "dead", "cancelled")


class Fact:
    """What the model knows of a task."""

    def __init__(self, spec, now, stalled):
        self.spec = spec
        self.retries = spec.retry.limit if spec.retry else 0
        self.priority = spec.priority
        self.state = "queued"
        self.holder = None
        self.fence = 0
        self.lost = self.failed = self.attempt = 0
        self.begin(now, stalled)
        self.not_before = now + spec.delay_s

    def begin(self, now, stalled):
        """Its deadlines run from here."""
        self.submitted, self.stalled, self.not_before = now, stalled, now

    def latest(self, stalled):
        """When it may be handed out at the latest, all stalls since forgiven."""
        within = min(self.spec.finish_within_s or 1e9, 1e9 if self.attempt else self.spec.start_within_s or 1e9)
        return self.submitted + within + stalled - self.stalled


class BrokerMachine(RuleBasedStateMachine):
    answers = Bundle("answers")

    def __init__(self):
        super().__init__()
        self.state = BrokerState(SETTINGS, epoch=1)
        self.now = 0.0
        self.facts = {}
        self.settled = {}
        self.remembered = set()
        self.fences = set()
        self.last_turn = 0
        self.pids = {}
        self.stalled = 0.0
        self.ready_before = {}
        self.cancelled = defaultdict(set)
        self.condemned = set()
        self.pending = []
        self.counter = 0
        for run_id in RUNS:
            self.step(OpenRun(run_id, f"/runs/{run_id}"))

    # -- carrying effects over into the model -------------------------------------------------------------------------

    def step(self, stimulus):
        self.last_turn = max(self.fences, default=0)
        self.ready_before = self.ready()
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
                    self.remembered.add(key)
                case Send(peer=peer, message=Tasks(assignments=assignments)):
                    for each in assignments:
                        fact = self.facts[each.run_id, each.task.task_id]
                        assert (fact.state, fact.holder, fact.fence) == ("assigned", peer, each.fence)
                        self.pending.append((peer, each))
                case Send(message=Kill(member=member)):
                    self.condemned.add(member)
                case Send(peer=peer, message=Cancel(fences=fences) | Recall(fences=fences)):
                    self.cancelled[peer] |= set(fences)
        return effects

    def ready(self):
        """The queued tasks whose time has come, by run and lane, and the rank of each."""
        ready = defaultdict(dict)
        for (run_id, task_id), fact in self.facts.items():
            if fact.state == "queued" and fact.not_before <= self.now:
                rank = SETTINGS.aging * fact.submitted - fact.priority
                ready[run_id, fact.spec.lane][task_id] = rank
        return ready

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
                    assert fact.not_before <= self.now, "before its time"
                    assert self.now <= fact.latest(self.stalled), "after its time"
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
                    fact.not_before = self.now + line.delay_s
                    if line.outcome in ("crashed", "lost", "expired"):
                        fact.lost += 1
                        assert line.then == ("dead" if fact.lost == SETTINGS.poison_limit else "queued")
                    else:
                        fact.failed += 1
                        assert fact.failed <= fact.retries or line.then == "failed"
                        assert 0 <= line.delay_s <= 2 ** (fact.failed - 1)
                        if line.then == "failed" and fact.failed <= fact.retries:
                            assert fact.spec.finish_within_s is not None, "it had a try left"
            case TasksExpired(tasks=tasks):
                for task_id, _ in tasks:
                    fact = self.facts[run_id, task_id]
                    assert fact.state == "queued"
                    assert self.now > fact.submitted + min(
                        fact.spec.finish_within_s or 1e9, fact.spec.start_within_s or 1e9
                    )
                    fact.state = "failed"
            case TasksRequeued(task_ids=task_ids):
                for task_id in task_ids:
                    fact = self.facts[run_id, task_id]
                    assert fact.state == "dead"
                    del self.settled[run_id, task_id]
                    fact.state, fact.lost, fact.failed = "queued", 0, 0
                    fact.begin(self.now, self.stalled)
            case TasksAdopted(worker_id=worker, tasks=tasks):
                for task_id, attempt, fence in tasks:
                    fact = self.facts[run_id, task_id]
                    assert (fact.state, fact.attempt, fact.fence) == ("queued", attempt, fence)
                    fact.state, fact.holder = "assigned", worker
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
        base=st.sampled_from([0.0, 1.0]),
        times=st.sampled_from(
            [{}, {}, {}, {"delay_s": 2.0}, {"start_within_s": 3.0}, {"finish_within_s": 6.0}, {"beat_within_s": 1.5}]
        ),
    )
    def submit(self, run_id, count, lane, priority, retries, prefetch, limit, base, times):
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
                retry=Retry(limit=retries, base_s=base) if retries else None,
                prefetch=prefetch,
                time_limit_s=limit,
                **times,
            )
            specs.append(spec)
        room = SETTINGS.queue_tasks - sum(key not in self.settled for key in self.facts)
        assert self.state.room.tasks == max(0, room), "what is settled takes no room"
        if count > room:
            with pytest.raises(QueueFull):
                self.state.step(Submit(run_id, tuple(specs)), self.now)
            return
        self.facts |= {(run_id, spec.task_id): Fact(spec, self.now, self.stalled) for spec in specs}
        *_, accepted = self.step(Submit(run_id, tuple(specs)))
        assert [receipt.task_id for receipt in accepted.receipts] == [spec.task_id for spec in specs]

    @precondition(lambda self: self.facts)
    @rule(data=st.data(), same=st.booleans())
    def submit_again(self, data, same):
        """The same task under the same key is answered again and changes nothing; another one is refused.

        Keys of settled tasks are remembered for a while, and not beyond a crash.
        """
        known = {key: fact for key, fact in self.facts.items() if key not in self.settled or key in self.remembered}
        if not known:
            return
        (run_id, _), fact = data.draw(st.sampled_from(sorted(known.items(), key=lambda item: item[0])))
        if same:
            [accepted] = self.step(Submit(run_id, (fact.spec,)))
            assert isinstance(accepted, Accepted)
        else:
            other = msgspec.structs.replace(fact.spec, kind="other")
            with pytest.raises(InvalidInput):
                self.state.step(Submit(run_id, (other,)), self.now)

    @precondition(lambda self: self.facts)
    @rule(data=st.data(), priority=st.integers(-1, 2))
    def reprioritise(self, data, priority):
        (run_id, task_id), fact = data.draw(st.sampled_from(sorted(self.facts.items(), key=lambda item: item[0])))
        assert self.step(Reprioritise(run_id, task_id, priority)) == []
        if fact.state not in SETTLED:
            fact.priority = priority

    @rule(run_id=st.sampled_from(RUNS))
    def requeue(self, run_id):
        """Dead letters are tried again with nothing behind them; nothing else can be."""
        by_state = defaultdict(list)
        for (run, task_id), fact in self.facts.items():
            if run == run_id:
                by_state[fact.state].append(task_id)
        self.step(Requeue(run_id, tuple(by_state["dead"])))
        for task_id in by_state["completed"][:1] + by_state["queued"][:1]:
            with pytest.raises(InvalidInput):
                self.state.step(Requeue(run_id, (task_id,)), self.now)

    @rule(given=answers)
    def show_progress(self, given):
        for peer, each in given:
            self.say(peer, Beat(fences=(each.fence,)))

    @rule(peer=st.sampled_from(CHILDREN))
    def confirm(self, peer):
        """A process says that it did not begin what was taken from it."""
        self.drop_cancelled(peer)

    def drop_cancelled(self, peer):
        if fences := self.cancelled.pop(peer, None):
            self.say(peer, Done(dropped=tuple(sorted(fences))))

    @rule(hold=st.booleans())
    def crash(self, hold):
        """A broker begins anew with what is on record; peers come back with what they hold, or with nothing."""
        held = defaultdict(list)
        for (run_id, task_id), fact in self.facts.items():
            if fact.state == "assigned":
                held[fact.holder].append((run_id, task_id, fact.fence))
                fact.state, fact.holder = "queued", None
                fact.not_before = self.now + SETTINGS.adoption_grace_s
        self.state = BrokerState(SETTINGS, epoch=1)
        self.pending, self.condemned, self.remembered = [], set(), set()
        self.cancelled.clear()
        epoch = max(self.fences, default=1 << 40) >> 40
        assigned = {each[:2] for peer in held.values() for each in peer}
        for run_id in RUNS:
            left, dead = [], []
            for (run, task_id), fact in self.facts.items():
                if run == run_id and fact.state in ("queued", "dead"):
                    waits = fact.state == "queued" and (run, task_id) not in assigned
                    (left if fact.state == "queued" else dead).append(
                        OpenTask(
                            spec=fact.spec,
                            attempt=fact.attempt,
                            lost=fact.lost,
                            failed=fact.failed,
                            age_s=self.now - fact.submitted,
                            delay_s=max(0.0, fact.not_before - self.now) if waits else 0.0,
                            fence=fact.fence if (run, task_id) in assigned else 0,
                            priority=fact.priority,
                        )
                    )
                    fact.stalled = self.stalled
            self.step(OpenRun(run_id, f"/runs/{run_id}", tuple(left), epoch, dead=tuple(dead)))
        assert self.state.epoch > epoch
        if hold:
            for peer, holds in held.items():
                self.come_back(peer, tuple(holds))
                assert all(self.facts[run_id, task_id].holder == peer for run_id, task_id, _ in holds)

    def come_back(self, peer, holds):
        lanes = ("async",) if peer == LANE else ("process",)
        hello = Hello(pid=self.pids[peer], host="h", lanes=lanes, slots=SLOTS[peer], held=holds)
        self.say(peer, hello)

    @rule(peer=st.sampled_from([*CHILDREN, LANE, "s/boss", "t/boss"]))
    def join(self, peer):
        self.condemned.discard(peer)
        self.cancelled.pop(peer, None)
        self.hello(peer)

    @rule(target=answers)
    def turn(self):
        return self.turn_quietly()

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
        if self.now > SETTINGS.key_lifetime_s:
            self.remembered.clear()

    @rule(seconds=st.sampled_from([5.0, 60.0]))
    def stall(self, seconds):
        """Being late changes nothing but deadlines, and expires nobody who was not late himself."""
        before = self.known()
        self.now += seconds
        self.stalled += seconds
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
        for _ in range(3 * len(self.facts) + 20):
            self.now += 0.5
            for peer in ("s/boss", "t/boss"):
                self.say(peer, Renew())
            self.step(Tick())
            for peer in CHILDREN:
                self.drop_cancelled(peer)
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
        left = self.ready()
        for place, before in self.ready_before.items():
            handed = {each.task.task_id for _, each in given if (each.run_id, each.task.lane) == place}
            still = [rank for task_id, rank in left[place].items() if task_id in before]
            for task_id in handed & before.keys():
                assert before[task_id] <= min(still, default=1e9) + 1e-9, "what comes first in its run was left behind"
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
            assert (key in self.settled) == (fact.state in SETTLED)
            assert held.get(key) == ((fact.holder, fact.fence) if fact.state == "assigned" else None)
            assert (fact.spec.task_id in self.state.board.runs[key[0]].tasks) == (key not in self.settled)
            queued += fact.state == "queued"
        assert len(self.state.board.queue) + len(self.state.board.delayed) == queued
        assert self.state.board.tasks == sum(key not in self.settled for key in self.facts)

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
