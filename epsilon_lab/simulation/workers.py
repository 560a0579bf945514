"""Machines, their supervisors, children and async lanes: small state machines around the real end of a conversation.

What they say and heed is `broker.client.Peer`'s business; here is only what a process does between two frames: one task
at a time in the order assigned, answers of quick tasks held back for a moment, beats, news of a death. They stand for
workers/, whose own processes a simulation cannot have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Protocol

from epsilon_lab.broker.client import Peer
from epsilon_lab.messages.events import LlmCall, event
from epsilon_lab.messages.frames import Cancel, Denied, Hello, Kill, Recorded
from epsilon_lab.messages.tasks import Assignment, Event, Failure, Result
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.simulation.history import Kind
from epsilon_lab.simulation.network import Network
from epsilon_lab.simulation.work import Work
from epsilon_lab.simulation.world import Process, World

_DEATH_SEEN_S = 0.002
_START_S = 0.05
_QUICK_S = 0.0002
"""Answers of tasks as quick as this may be held back until after the next."""


class Office(Protocol):
    """What a worker needs to know of the world beyond its broker."""

    world: World
    network: Network
    settings: BrokerSettings

    def work(self, assignment: Assignment) -> Work:
        """What a task is."""
        ...

    def note(self, kind: Kind, run_id: str, task_id: str, mark: str = "", by: str = "") -> None:
        """Put down a line of the history."""
        ...

    def bill(self, run_id: str, call: LlmCall) -> None:
        """Send a request to a model: from now on it is paid for."""
        ...


class _Attempt:
    """One execution."""

    def __init__(self, office: Office, by: str, assignment: Assignment) -> None:
        self.assignment = assignment
        self.work = office.work(assignment)
        self.mark = f"{assignment.fence:x}@{by}"
        self._office = office
        self._by = by
        self._began = office.world.wall()
        office.note("start", assignment.run_id, assignment.task.task_id, self.mark, by)

    @property
    def is_bad(self) -> bool:
        return self.work.end == "failed" or self.assignment.attempt <= self.work.bad

    def completed(self, events: tuple[Event, ...] = ()) -> Result:
        given = self.assignment
        self._office.note("end", given.run_id, given.task.task_id, self.mark, self._by)
        return Result(
            task_id=given.task.task_id,
            run_id=given.run_id,
            fence=given.fence,
            output=pack(self.mark),
            started_at=self._began,
            ended_at=self._office.world.wall(),
            events=events,
        )

    def failed(self, error: str, *, retryable: bool = True, events: tuple[Event, ...] = ()) -> Failure:
        given = self.assignment
        return Failure(
            task_id=given.task.task_id,
            run_id=given.run_id,
            fence=given.fence,
            outcome="failed",
            error=error,
            retryable=retryable,
            events=events,
        )

    def answer(self) -> Result | Failure:
        return self.failed("it raised") if self.work.fate == "raises" and self.is_bad else self.completed()


class Child:
    """A process that works on one task at a time.

    Args:
        office: The world.
        process: Its own.
        peer_id: `<session>/<member>`.
        on_death: Called when it kills itself.
        is_local: Whether it is on the broker's machine.
    """

    def __init__(
        self, office: Office, process: Process, peer_id: str, on_death: Callable[[], object], *, is_local: bool
    ) -> None:
        self.peer_id = peer_id
        self.process = process
        self.sentence = ""
        self._office = office
        self._on_death = on_death
        self._dice = office.world.dice("child", peer_id)
        self._dialer = office.network.dial(process, peer_id, self._look, is_lossy=not is_local)
        self._peer = Peer(self._dialer, Hello(pid=_pid(peer_id), host="simulated", lanes=("process",), slots=1))
        self._attempt: _Attempt | None = None
        self._held: list[Result | Failure] = []
        self._peer.greet()

    @property
    def fence(self) -> int:
        """Of the task it has started; 0 if it is between two."""
        return 0 if self._attempt is None else self._attempt.assignment.fence

    def die(self) -> None:
        """Be gone, with what it had not sent."""
        self.process.kill()
        self._dialer.vanish()

    def _look(self) -> None:
        if self._attempt is None:
            self._peer.receive()
            self._next()
        elif self._dice.random() < 0.5:  # else its task holds the interpreter, and it hears nothing
            self._peer.tend()

    def _next(self) -> None:
        if not self._peer.tasks:
            return
        self._attempt = attempt = _Attempt(self._office, self.peer_id, self._peer.tasks.popleft())
        if attempt.work.fate == "kills":
            self.process.after(attempt.work.seconds, self._on_death)
        elif attempt.work.fate != "hangs" or not attempt.is_bad:
            self.process.after(attempt.work.seconds, self._finish)

    def _finish(self) -> None:
        assert self._attempt is not None
        attempt, self._attempt = self._attempt, None
        self._held.append(attempt.answer())
        near = [attempt.assignment, *itertools.islice(self._peer.tasks, 1)]
        is_timed = any(each.task.time_limit_s or each.task.finish_within_s for each in near)
        may_hold = len(near) > 1 and not is_timed and attempt.work.seconds < _QUICK_S
        if not may_hold or self._dice.random() < 0.5:
            results = tuple(each for each in self._held if isinstance(each, Result))
            failures = tuple(each for each in self._held if isinstance(each, Failure))
            self._held = []
            self._peer.done(results=results, failures=failures)
        self._peer.receive()
        self._next()


class Lane:
    """A member that works on many tasks at once, and asks models.

    Args:
        office: The world.
        process: Whose loop it lives in.
        peer_id: `<session>/<member>`.
        slots: Tasks at once.
    """

    def __init__(self, office: Office, process: Process, peer_id: str, slots: int = 4) -> None:
        self.peer_id = peer_id
        self.process = process
        self._office = office
        self._dialer = office.network.dial(process, peer_id, self._look, is_lossy=False)
        self._peer = Peer(self._dialer, Hello(pid=_pid(peer_id), host="simulated", lanes=("async",), slots=slots))
        self._attempts: dict[int, _Attempt] = {}
        self._asks: dict[int, tuple[_Attempt, LlmCall]] = {}
        self._peer.greet()

    def die(self) -> None:
        """Be gone."""
        self._dialer.vanish()

    def _look(self) -> None:
        for message in self._peer.receive():
            match message:
                case Cancel(fences=fences):
                    for fence in fences:
                        self._attempts.pop(fence, None)
                case Recorded(note_id=note_id) if note_id in self._asks:
                    attempt, call = self._asks.pop(note_id)
                    self._office.bill(attempt.assignment.run_id, call)
                    self.process.after(attempt.work.seconds, partial(self._replied, attempt))
                case Denied(note_id=note_id, reason=reason) if note_id in self._asks:
                    attempt, _ = self._asks.pop(note_id)
                    self._answer(attempt, attempt.failed(reason, retryable=False))
        while self._peer.tasks:
            self._begin(self._peer.tasks.popleft())

    def _begin(self, assignment: Assignment) -> None:
        attempt = self._attempts[assignment.fence] = _Attempt(self._office, self.peer_id, assignment)
        if attempt.work.fate != "asks":
            self.process.after(attempt.work.seconds, partial(self._finish, attempt))
            return
        call = _call(assignment, "unknown")
        note_id = self._peer.note(assignment.run_id, assignment.task.task_id, (event(call),), fence=assignment.fence)
        self._asks[note_id] = attempt, call

    def _replied(self, attempt: _Attempt) -> None:
        told = event(_call(attempt.assignment, "ok"))
        if attempt.assignment.fence in self._attempts:
            self._answer(attempt, attempt.completed((told,)))

    def _finish(self, attempt: _Attempt) -> None:
        if attempt.assignment.fence in self._attempts:
            self._answer(attempt, attempt.answer())

    def _answer(self, attempt: _Attempt, answer: Result | Failure) -> None:
        self._attempts.pop(attempt.assignment.fence, None)
        if isinstance(answer, Result):
            self._peer.done(results=(answer,))
        else:
            self._peer.done(failures=(answer,))


class Machine:
    """A supervisor and its children, one session; after a crash it comes back as another session.

    Args:
        office: The world.
        name: What its sessions' ids begin with.
        children: How many.
        boss: The process in which the supervisor lives; None for one of its own.
        is_local: Whether its lane is there as well, as in the lab's own process.
    """

    def __init__(
        self, office: Office, name: str, children: int, *, boss: Process | None = None, is_local: bool = False
    ) -> None:
        self.name = name
        self.is_up = False
        self._office = office
        self._places = children
        self._given_boss = boss
        self._is_local = is_local
        self._lives = itertools.count(1)
        self._members = itertools.count(1)
        self.children: list[Child] = []
        self.lane: Lane | None = None
        self.start()

    def start(self) -> None:
        """Begin a session."""
        self.is_up = True
        world = self._office.world
        self._session = f"{self.name}-{next(self._lives)}"
        self._process = self._given_boss or Process(world, f"{self._session}/boss")
        boss_id = f"{self._session}/boss"
        self._dialer = self._office.network.dial(self._process, boss_id, self._look, is_lossy=not self._is_local)
        self._peer = Peer(self._dialer, Hello(pid=_pid(boss_id), host="simulated"))
        self._peer.greet()
        self._beat()
        for _ in range(self._places):
            self._fill_a_place()
        if self._is_local:
            self.lane = Lane(self._office, self._process, f"{self._session}/leaves")

    @property
    def processes(self) -> list[Process]:
        """All of them; the supervisor's first."""
        return [self._process, *(child.process for child in self.children)]

    def crash(self) -> None:
        """Be gone at once, all of it, with nobody left to tell."""
        self.is_up = False
        for child in self.children:
            child.die()
        self.children = []
        if self.lane is not None:
            self.lane.die()
        if self._given_boss is None:
            self._process.kill()
        self._dialer.vanish()

    def stop(self) -> None:
        """Stand still, all of it."""
        for process in self.processes:
            process.stop()

    def go_on(self) -> None:
        """Go on."""
        for process in self.processes:
            process.go_on()

    def kill_child(self, place: int, sentence: str = "") -> None:
        """End a child; its supervisor sees it."""
        if place < len(self.children):
            self._end(self.children[place], sentence)

    def _beat(self) -> None:
        self._peer.renew()
        self._process.after(self._office.settings.beat_s, self._beat)

    def _look(self) -> None:
        for message in self._peer.receive():
            if isinstance(message, Kill):
                for child in [child for child in self.children if child.peer_id == message.member]:
                    self._end(child, message.reason)

    def _fill_a_place(self) -> None:
        peer_id = f"{self._session}/w{next(self._members)}"
        process = Process(self._office.world, peer_id)
        if self._process.is_stopped and self._given_boss is None:
            process.stop()
        child = Child(self._office, process, peer_id, lambda: self._end(child, ""), is_local=self._is_local)
        self.children.append(child)

    def _end(self, child: Child, sentence: str) -> None:
        if child not in self.children:
            return
        self._office.world.say(f"{child.peer_id} dies {sentence}")
        fence = child.fence
        child.sentence = sentence
        child.die()
        self.children.remove(child)
        self._process.after(_DEATH_SEEN_S, partial(self._mourn, child, fence))

    def _mourn(self, child: Child, fence: int) -> None:
        self._peer.lost(
            child.peer_id, child.sentence or "killed", "timeout" if child.sentence else "crashed", fence=fence
        )
        self._process.after(_START_S, self._fill_a_place)


def _call(assignment: Assignment, outcome: str) -> LlmCall:
    return LlmCall(
        task_id=assignment.task.task_id,
        call=0,
        model="simulated",
        outcome=outcome,
        prompt_ref="",
        prompt_sha256="",
        request=f"{assignment.fence:x}",
    )


def _pid(peer_id: str) -> int:
    """A number that a peer keeps and no other of its name has."""
    return 1 + sum(peer_id.encode())
