"""A peer's end of the conversation with the broker, so that no member has to know its rules.

A child process, in its own thread (one task at a time, in the order assigned):

    with dial(address, peer_id) as dialer:
        peer = Peer(dialer, Hello(pid=os.getpid(), host=socket.gethostname(), lanes=("process",), slots=1))
        peer.greet()
        while True:
            peer.poll(None)
            peer.receive()                     # fills peer.tasks; keeps cancelled and outdated assignments out of it
            while peer.tasks:
                assignment = peer.tasks.popleft()
                ...
                peer.done(results=(result,))
                peer.receive()                 # what was recalled meanwhile must not be started

A supervisor, or the async lane, on a loop, reads the messages themselves:

    async for message in peer:
        match message: case Tasks(): ... case Cancel(): ... case Kill(): ...

The broker forgets a peer whose session was silent for too long, or is another one by now; and where a connection was
cut, what was on its way is lost. The peer then says hello again, by itself, with all that it has in its hands. The
broker answers what of that is still this peer's: the rest is not begun, and what was answered or noted is sent again.
So is word of deaths: a member may have said hello to a broker that began anew, and died, before its supervisor had.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

import anyio
import msgspec

from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Beat,
    Bye,
    Cancel,
    Denied,
    Direct,
    Done,
    Drain,
    Fetch,
    File,
    Forget,
    Hello,
    Keep,
    Kept,
    Lost,
    News,
    Note,
    Publish,
    Read,
    Recall,
    Recorded,
    Refused,
    Renew,
    Subscribe,
    Tasks,
    ToBroker,
    ToPeer,
    Welcome,
    decode_from_broker,
    encode,
)
from epsilon_lab.messages.tasks import Assignment, AttemptOutcome, Event, Failure, Result
from epsilon_lab.transport.base import Dialer

_DEATHS = 64
"""Deaths told again to a broker that does not know their teller. One that it knows of already means nothing to it."""
Question = Note | Publish | Direct | Subscribe | Read | Fetch | Keep
"""What has an answer of its own."""

Answer = Recorded | Denied | News | File | Kept

_REMEMBERED = 256
"""Answers kept in case that the connection is cut: as many as a broker lets a member hold."""


class Peer:
    """One member of a session, or its supervisor. It belongs to the thread of its dialer, which the caller closes.

    Another thread may send: the two take turns.

    Attributes:
        welcome: The broker's latest greeting: its epoch, the lease and the beat in seconds. None until it came.
        tasks: Assignments received, neither cancelled nor outdated, oldest first; the caller takes them from the left.
        refusals: Problems the broker found with what this peer sent, apart from not knowing it; the latest 16.
        home: The process and the thread it belongs to.
        before_waiting: Called before this peer blocks; whoever keeps something back to send it later sends it then.
    """

    def __init__(self, dialer: Dialer, hello: Hello) -> None:
        self.welcome: Welcome | None = None
        self.tasks: deque[Assignment] = deque()
        self.refusals: deque[str] = deque(maxlen=16)
        self.home = os.getpid(), threading.get_ident()
        self._dialer = dialer
        self._turn = threading.RLock()
        self.before_waiting: Callable[[], object] = lambda: None
        self._hello = hello
        self._notes: dict[int, Question] = {}
        self._askers: dict[int, Callable[[Answer], object]] = {}
        self._deaths: deque[Lost] = deque(maxlen=_DEATHS)
        self._last_note = 0
        self._is_greeting = False
        self._unread: list[ToPeer] = []
        self._late: list[bytes] = []
        self._held: dict[int, tuple[str, str, int]] = {}
        self._answered: dict[int, Result | Failure] = {}
        self._doubtful: list[Assignment] = []
        self._waiting: anyio.CancelScope | None = None

    def greet(self) -> None:
        """Say hello; until then the broker gives this peer nothing."""
        self._is_greeting = True
        self._send(self._hello)

    @property
    def is_up(self) -> bool:
        """Whether the broker is reached, as far as is known."""
        return self._dialer.is_up

    @property
    def refusal(self) -> str:
        """Why the broker does not let this peer in; empty while it may."""
        return self._dialer.refusal

    def receive(self, limit: int = 256) -> list[ToPeer]:
        """Take what has arrived, at most `limit` messages, without waiting.

        Raises:
            BadFrame: The other side is not a broker of this version.
        """
        with self._turn:
            frames, self._late = self._late + self._dialer.receive(limit), []
            messages = [decode_from_broker(frame) for frame in frames]
            for message in messages:
                self._heed(message)
            if self._dialer.was_cut():
                self._greet_again()
            if self._unread:
                messages, self._unread = self._unread + messages, []
        return messages

    def take(self) -> Assignment | None:
        """Take the oldest of `tasks`, if there is one, although another thread may tend this peer."""
        with self._turn:
            return self.tasks.popleft() if self.tasks else None

    def following(self) -> Assignment | None:
        """The oldest of `tasks`, left where it is, although another thread may tend this peer."""
        with self._turn:
            return self.tasks[0] if self.tasks else None

    def tend(self) -> None:
        """From another thread, while a task runs: keep what waits in hand up to date, before others get it too.

        What is recalled is given back; if the connection was cut, hello is said again. Any other message is left to
        the thread that receives.
        """
        if self._turn.acquire(blocking=False):
            try:
                for frame in self._dialer.receive():
                    try:
                        message = decode_from_broker(frame)
                    except BadFrame:  # for the other thread to find
                        message = None
                    if isinstance(message, Tasks | Cancel | Recall):
                        self._heed(message)
                        self._unread.append(message)
                    else:
                        self._late.append(frame)
                if self._dialer.was_cut():
                    self._greet_again()
            finally:
                self._turn.release()

    def listen(self) -> None:
        """Block until something has arrived, and heed it; whoever receives next gets it too."""
        self.before_waiting()
        with self._turn:
            if not self._late:
                self._dialer.poll(None)
            self._unread = self.receive()
        if self._waiting is not None:
            self._waiting.cancel()

    def poll(self, timeout_s: float | None) -> bool:
        """Block until something has arrived, for at most `timeout_s` seconds (None: for ever)."""
        self.before_waiting()
        with self._turn:
            return bool(self._unread or self._late) or self._dialer.poll(timeout_s)

    async def wait(self) -> None:
        """Wait until something has arrived."""
        with anyio.CancelScope() as self._waiting:
            if not self._unread and not self._late:
                await self._dialer.wait_readable()
        self._waiting = None

    async def __aiter__(self) -> AsyncIterator[ToPeer]:
        while True:
            await self.wait()
            for message in self.receive():
                yield message

    def done(self, *, results: tuple[Result, ...] = (), failures: tuple[Failure, ...] = ()) -> None:
        """Answer tasks; one call for all that finished since the last.

        Raises:
            BadFrame: Together they are too large for a frame; outputs over 64 KiB belong in files.
        """
        self._send(Done(results=results, failures=failures))
        if self._dialer.is_lossy:
            with self._turn:
                answers: tuple[Result | Failure, ...] = (*results, *failures)
                for answer in answers:
                    self._held.pop(answer.fence, None)
                    self._answered[answer.fence] = answer
                while len(self._answered) > _REMEMBERED:
                    del self._answered[next(iter(self._answered))]

    def note(self, run_id: str, task_id: str, events: tuple[Event, ...], fence: int | None = None) -> int:
        """Ask for journal lines of an attempt to be made safe; the answer has the number returned."""
        self._last_note += 1
        return self._put(Note(run_id=run_id, task_id=task_id, note_id=self._last_note, events=events, fence=fence))

    def ask(self, question: Question, on_answer: Callable[[Answer], object]) -> int:
        """Say something that has an answer, and be called with it; whatever the broker forgets meanwhile, it is heard.

        Args:
            question: What to ask; it is given a number of its own.
            on_answer: Called once, while this peer receives.
        """
        self._last_note += 1
        self._askers[self._last_note] = on_answer
        return self._put(msgspec.structs.replace(question, note_id=self._last_note))

    def request(self, question: Question, timeout_s: float | None = None) -> Answer | None:
        """Ask, and block until there is an answer; None where there was none in time.

        Args:
            question: What to ask.
            timeout_s: Seconds to wait at most; None: for ever.
        """
        answers: list[Answer] = []
        note_id = self.ask(question, answers.append)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not answers:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self.poll(left)
                self.receive()
            return answers[0]
        finally:
            if not answers:
                self.forget(note_id)

    async def answer(self, question: Question) -> Answer:
        """Ask, and wait for the answer, while someone else on this loop receives."""
        answers: list[Answer] = []
        has_come = anyio.Event()

        def take(answer: Answer) -> None:
            answers.append(answer)
            has_come.set()

        note_id = self.ask(question, take)
        try:
            await has_come.wait()
            await anyio.lowlevel.checkpoint_if_cancelled()  # the answer may have come together with a `Cancel`
        finally:
            if not answers:
                self.forget(note_id)
        return answers[0]

    def forget(self, note_id: int) -> None:
        """Wait no more for an answer: a question is dropped, what was told stands, and is told again where it must."""
        self._askers.pop(note_id, None)
        match self._notes.get(note_id):
            case Subscribe() | Read():
                del self._notes[note_id]
                self._send(Forget(note_ids=(note_id,)))
            case Fetch() | Keep():
                del self._notes[note_id]

    def _put(self, question: Question) -> int:
        self._notes[question.note_id] = question
        self._send(question)
        return question.note_id

    def renew(self) -> None:
        """Beat: this session lives. Supervisors do this every `welcome.beat_s` seconds."""
        self._send(Renew())

    def beat(self, fence: int) -> None:
        """Say that an attempt makes progress."""
        self._send(Beat(fences=(fence,)))

    def lost(
        self,
        member: str,
        reason: str,
        outcome: AttemptOutcome = "crashed",
        *,
        fence: int | None = None,
        stdout_tail: str = "",
        stderr_tail: str = "",
    ) -> None:
        """Tell that a member of this session died, what its task's attempt came to, and which task that was."""
        death = Lost(
            member=member,
            reason=reason,
            outcome=outcome,
            fence=fence,
            stdout_tail=stdout_tail,
            stderr_tail=stderr_tail,
        )
        self._deaths.append(death)
        self._send(death)

    def drain(self) -> None:
        """A supervisor wants no more tasks; `Drained` comes once the last one is answered."""
        self._send(Drain())

    def bye(self) -> None:
        """Leave in good order; a supervisor takes its whole session with it."""
        self._send(Bye())

    def _send(self, message: ToBroker) -> None:
        frame = encode(message)
        with self._turn:
            self._dialer.send(frame)

    def _heed(self, message: ToPeer) -> None:
        match message:
            case Tasks(assignments=assignments):
                self.tasks.extend(assignments)
                if self._dialer.is_lossy:
                    self._held.update(
                        (each.fence, (each.run_id, each.task.task_id, each.fence)) for each in assignments
                    )
            case Cancel(fences=fences):
                gone = set(fences)
                waiting = {task.fence for task in (*self._doubtful, *self.tasks)}
                dropped = tuple(fence for fence in fences if fence in waiting or self._is_over(fence))
                self.tasks = deque(task for task in self.tasks if task.fence not in gone)
                self._doubtful = [task for task in self._doubtful if task.fence not in gone]
                for fence in fences:
                    self._held.pop(fence, None)
                    self._answered.pop(fence, None)
                if dropped:
                    self._send(Done(dropped=dropped))
            case Recall(fences=fences):
                self._give_back(fences)
            case Welcome():
                self.welcome = message
                self._is_greeting = False
                self._go_on()
            case (
                Recorded(note_id=note_id)
                | Denied(note_id=note_id)
                | News(note_id=note_id)
                | File(note_id=note_id)
                | Kept(note_id=note_id)
            ):
                self._notes.pop(note_id, None)
                if (on_answer := self._askers.pop(note_id, None)) is not None:
                    on_answer(message)
            case Refused(problem=problem) if problem.startswith(UNKNOWN_PEER):
                if not self._is_greeting:  # several frames were refused before the first answer came
                    self._greet_again()
            case Refused(problem=problem):
                self.refusals.append(problem)

    def _give_back(self, fences: tuple[int, ...]) -> None:
        waiting = {task.fence for task in (*self._doubtful, *self.tasks)}
        dropped = {
            fence for fence in fences if fence in waiting or (self._is_over(fence) and fence not in self._answered)
        }
        if dropped:
            self.tasks = deque(task for task in self.tasks if task.fence not in dropped)
            self._doubtful = [task for task in self._doubtful if task.fence not in dropped]
            for fence in dropped:
                self._held.pop(fence, None)
            self._send(Done(dropped=tuple(sorted(dropped))))

    def _is_over(self, fence: int) -> bool:
        """Whether an assignment was answered, or was lost with a connection: it is not under way, nor ever will be."""
        return self._dialer.is_lossy and fence not in self._held

    def _greet_again(self) -> None:
        """Say hello with all this peer has in its hands, and begin nothing until the answer is there."""
        self._is_greeting = True
        if self._dialer.is_lossy:
            self._doubtful += self.tasks
            answered = ((answer.run_id, answer.task_id, answer.fence) for answer in self._answered.values())
            self._send(msgspec.structs.replace(self._hello, held=(*self._held.values(), *answered)))
        else:  # what the broker forgot, it gave to others
            self._send(self._hello)
        self.tasks.clear()
        unheard: list[ToBroker] = [*self._deaths, *self._notes.values()]
        for message in unheard:
            self._send(message)

    def _go_on(self) -> None:
        """Go on with what is still this peer's, as it was not told otherwise: tasks, and answers that may be lost."""
        self.tasks.extendleft(reversed(self._doubtful))
        self._doubtful.clear()
        for answer in self._answered.values():
            self._send(Done(results=(answer,)) if isinstance(answer, Result) else Done(failures=(answer,)))
