"""A run without a lab: its rules, a journal in memory, tasks answered when told, and a cut wherever a test likes."""

import itertools

import msgspec

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.messages.events import (
    TYPES,
    CompletedLine,
    FailedLine,
    RunAdopted,
    RunStarted,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksFailed,
    TasksRequeued,
    TasksSubmitted,
    TasksWaiting,
    task_line,
)
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import stored
from epsilon_lab.topologies.engine import (
    CancelAll,
    CancelTasks,
    End,
    Resume,
    RunState,
    Settled,
    Start,
    Submit,
    cancelled_outcome,
)
from epsilon_lab.topologies.plan import Emit, Requeue, Write
from epsilon_lab.topologies.recovery import recover
from epsilon_lab.workspace.journal import Record


class Rehearsal:
    """A run and its journal, without processes: tasks are answered when told, lines are committed in groups."""

    def __init__(self, groups=(), epoch=1, room=10**9):
        self.groups = [list(group) for group in groups]
        self.epoch = epoch
        self.now = 100.0 + (self.groups[-1][-1].ts if self.groups else 0.0)
        self.group, self.open, self.attempts, self.executed = [], {}, {}, []
        self.fences = itertools.count(1)
        self.ended = None
        self.room = room
        self.untaken, self.dead, self.files = {}, {}, {}

    @property
    def exhausted(self):
        return any(record.type == "run.exhausted" for record in self.records)

    @property
    def records(self):
        return [record for group in self.groups for record in group]

    def write(self, body):
        seq = len(self.records) + len(self.group) + 1
        self.group.append(Record(seq, self.now, TYPES[type(body)], msgspec.Raw(msgspec.json.encode(body))))

    def commit(self):
        if self.group:
            self.groups.append(self.group)
            self.group = []

    def start(self, plan, budget=None):
        self.state = RunState("r", plan, None if budget is None else budget.seconds)
        self.write(RunStarted(run_id="r", topology="t", name="n", epoch=self.epoch, budget=budget))
        self.tell(Start())

    def resume(self, plan):
        found = recover("r", plan, self.records)
        self.state, self.clock = found.state, found.elapsed_s - self.now
        self.files = {ref: effect.text for ref, effect in found.files.items() if isinstance(effect, Write)}
        self.open = {name: left.spec for name, left in found.left.items()}
        self.dead = {name: left.spec for name, left in found.dead.items()}
        self.attempts = {name: left.attempt for name, left in found.left.items()}
        self.write(RunAdopted(epoch=self.epoch, pid=1, host="h"))
        self.carry_out(found.effects)
        self.tell(Resume())
        return found

    def answer(self, task):
        """What becomes of a task, as a function of the task alone: an output, or an error."""
        raise NotImplementedError

    def flags(self, task):
        """The cases that it flags when it gives its output."""
        return ()

    clock = -100.0

    def tell(self, stimulus):
        self.carry_out(self.state.step(stimulus, self.now + self.clock))
        self.commit()

    def carry_out(self, effects):
        for effect in effects:
            match effect:
                case Submit(tasks=tasks):
                    self.untaken.update((task.task_id, task) for task in tasks)
                    self.hand_over()
                    if held := tuple(task_line(task) for task in tasks if task.task_id in self.untaken):
                        self.write(TasksWaiting(tasks=held))
                case Requeue(task_ids=task_ids):
                    self.open.update((name, self.dead.pop(name)) for name in task_ids)
                    self.write(TasksRequeued(task_ids=task_ids))
                case CancelTasks(task_ids=names, reason=reason):
                    self.cancel([name for name in names if name in self.open or name in self.untaken], reason)
                case CancelAll(reason=reason):
                    if names := (*self.untaken, *self.open):
                        self.write(TasksCancelled(task_ids=names, reason=reason))
                    self.untaken, self.open = {}, {}
                case Emit(body=body):
                    self.write(body)
                case Write(ref=ref, text=text):
                    self.files[ref] = text
                case End():
                    self.ended = effect

    def hand_over(self):
        """As much as there is room for, as a full broker does."""
        taken = list(self.untaken)[: max(0, self.room - len(self.open))]
        if taken:
            self.open.update((name, self.untaken.pop(name)) for name in taken)
            self.write(TasksSubmitted(tasks=tuple(task_line(self.open[name]) for name in taken)))

    def cancel(self, names, reason):
        if names:
            self.write(TasksCancelled(task_ids=tuple(names), reason=reason))
            outcomes = [cancelled_outcome("r", name, reason) for name in names]
            for name in names:
                del (self.open if name in self.open else self.untaken)[name]
            self.commit()
            self.tell(Settled(tuple(outcomes)))

    def die(self, name):
        """The task takes its worker down for the last time."""
        self.dead[name] = self.open.pop(name)
        line = FailedLine(task_id=name, attempt=3, fence=1, outcome="crashed", error="gone", then="dead")
        self.write(TasksFailed(worker_id="s/w1", tasks=(line,)))
        self.commit()
        failure = Failure(task_id=name, run_id="r", fence=1, outcome="crashed", error="gone")
        self.tell(Settled((TaskOutcome(run_id="r", task_id=name, status="dead", failure=failure),)))

    def assign(self, names):
        lines = []
        for name in names:
            self.attempts[name] = self.attempts.get(name, 0) + 1
            self.executed.append(name)
            lines.append((name, self.attempts[name], self.epoch << FENCE_BITS | next(self.fences)))
        self.write(TasksAssigned(worker_id="s/w1", tasks=tuple(lines)))
        self.commit()

    def settle(self, names):
        """Answer these tasks in one turn: their lines are one group, what follows from them is the next."""
        outcomes = []
        for name in names:
            task = self.open.pop(name)
            output = self.answer(task)
            if isinstance(output, str):
                line = FailedLine(task_id=name, attempt=1, fence=1, outcome="failed", error=output, then="failed")
                self.write(TasksFailed(worker_id="s/w1", tasks=(line,)))
                failure = Failure(task_id=name, run_id="r", fence=1, outcome="failed", error=output)
                outcomes.append(TaskOutcome(run_id="r", task_id=name, status="failed", failure=failure))
            else:
                line = CompletedLine(
                    task_id=name, attempt=1, fence=1, output=stored(output), started_at=self.now, ended_at=self.now
                )
                for flag in (flags := self.state.docket.abridged(self.flags(task))):
                    self.write(flag)
                self.write(TasksCompleted(worker_id="s/w1", tasks=(line,)))
                outcome = TaskOutcome(run_id="r", task_id=name, status="completed", output=output, flags=flags)
                outcomes.append(outcome)
        self.commit()
        self.tell(Settled(tuple(outcomes)))
        self.hand_over()
        self.commit()

    def play(self, dice):
        """Answer tasks in any order, some together, until the run has ended."""
        while self.ended is None:
            self.now += 1.0
            names = dice.sample(sorted(self.open), k=min(len(self.open), dice.randint(1, 3)))
            self.assign(names)
            self.settle(names)
        return self


def completed(records):
    lines = [msgspec.json.decode(r.body, type=TasksCompleted) for r in records if r.type == "task.completed"]
    return {line.task_id for body in lines for line in body.tasks}
