"""Routing: what agents say on topics and to each other's addresses, and who is waiting to hear it.

Nobody is sent what it did not ask for. A reader asks what there is behind the last message it read, and is answered
once, as soon as there is anything; then it asks again. So a slow reader costs nothing and delays nobody: what it will
miss is decided by how much a topic keeps, and it is told how many there were. A reader that connects again asks its
question again. And a process that does not listen while it works finds its own task's messages where they were left.

Addresses are open tasks, `<run_id>/<task_id>` (within a run the task's id alone), and inboxes that somebody at the lab
opened by name. A task's messages stay until it is settled, so each attempt reads them from the first one on.

Results never travel here: what is said is for whoever listens, and the answer to a task is for its run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from epsilon_lab import ids
from epsilon_lab.broker.members import Member, Run, Task
from epsilon_lab.broker.soundness import value_problem
from epsilon_lab.broker.topics import Mailbox, Place, Reader, Topic
from epsilon_lab.messages.events import MessagesSent, TopicsPublished, message_line
from epsilon_lab.messages.frames import Denied, Direct, Forget, News, Publish, Read, Recorded, Subscribe
from epsilon_lab.messages.post import LAB, Message, name_problem
from epsilon_lab.messages.values import Value
from epsilon_lab.settings import INLINE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epsilon_lab.broker.board import Board

TOPICS = 1024
"""Topics, and inboxes, that a lab has at most."""

QUESTIONS = 1024
"""Questions of one peer that wait for their answer at once."""


class _Want(NamedTuple):
    """A question that was not answered yet."""

    source: Topic | Mailbox
    place: Place | None
    wait: bool


class Post:
    """What was said, and who waits for it.

    Attributes:
        topics: By name.
        inboxes: By name; tasks' own mailboxes lie with their runs.
    """

    __slots__ = ("_due", "_parked", "_published", "_sent", "_told", "_wants", "inboxes", "topics")

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.inboxes: dict[str, Mailbox] = {}
        self._wants: dict[str, dict[int, _Want]] = {}
        self._due: dict[Reader, None] = {}
        self._parked: dict[Reader, None] = {}
        self._told: dict[Reader, _Want] = {}
        self._published: set[str] = set()
        self._sent: dict[str | None, list[tuple[str, Message]]] = {}

    def restore(self, last: Mapping[str, Message]) -> None:
        """Know the last messages of topics that an earlier broker had."""
        self.topics.update((name, Topic(message)) for name, message in last.items())

    # -- what was said ------------------------------------------------------------------------------------------------

    def publish(self, name: str, message: Message, epoch: int) -> str:
        """Say something on a topic; why that cannot be, or empty."""
        if problem := name_problem(name):
            return f"a topic's name {problem}"
        topic = self._topic(name)
        if topic is None:
            return f"there are {TOPICS} topics already; use those, and say in the message what it is about"
        topic.add(message, epoch)
        self._published.add(name)
        self._due.update(topic.readers)
        return ""

    def deliver(self, run_id: str | None, name: str, box: Mailbox, message: Message) -> str:
        """Put a message into a mailbox; why that cannot be, or empty."""
        try:
            kept = box.add(message)
        except ValueError as error:
            return str(error)
        if kept is not None:
            self._sent.setdefault(run_id, []).append((name, kept))
            self._due.update(box.readers)
        return ""

    def _topic(self, name: str) -> Topic | None:
        topic = self.topics.get(name)
        if topic is None and len(self.topics) < TOPICS:
            topic = self.topics[name] = Topic()
        return topic

    # -- who waits ----------------------------------------------------------------------------------------------------

    def follow(self, peer: str, question: Subscribe) -> str:
        """Take a question to a topic; why it cannot be answered, or empty."""
        if problem := name_problem(question.topic):
            return f"a topic's name {problem}"
        topic = self._topic(question.topic)
        if topic is None:
            return f"there are {TOPICS} topics already, and {question.topic!r} is none of them"
        return self._ask(peer, question.note_id, _Want(topic, question.after, question.wait))

    def open_inbox(self, name: str) -> Mailbox | str:
        """Find or make an inbox; why there can be none, otherwise."""
        if (problem := name_problem(name)) or "/" in name:
            return f"an inbox's name {problem or 'has no / in it, which is for tasks'}"
        if name not in self.inboxes and len(self.inboxes) >= TOPICS:
            return f"there are {TOPICS} inboxes already; use one of those: they last as long as the lab is open"
        return self.inboxes.setdefault(name, Mailbox())

    def read(self, peer: str, question: Read, box: Mailbox) -> str:
        """Take a question to a mailbox; why it cannot be answered, or empty."""
        return self._ask(peer, question.note_id, _Want(box, (0, question.after), question.wait))

    def _ask(self, peer: str, note_id: int, want: _Want) -> str:
        """Keep a question until it can be answered; why not, or empty."""
        wants = self._wants.get(peer, {})
        if len(wants) >= QUESTIONS and note_id not in wants:
            return f"{QUESTIONS} questions of {peer} wait for their answers already"
        self._keep((peer, note_id), want)
        self._due[peer, note_id] = None
        return ""

    def forget(self, peer: str, note_ids: Iterable[int] | None = None) -> None:
        """Drop questions of a peer; all of them where none are named."""
        for note_id in list(self._wants.get(peer, {})) if note_ids is None else note_ids:
            self._drop((peer, note_id))

    def close(self, board: Board, box: Mailbox) -> None:
        """Answer those who wait at a mailbox that is no more."""
        for reader in list(box.readers):
            self._drop(reader)
            board.send(reader[0], Denied(note_id=reader[1], reason="the task is settled"))

    def park(self, peer: str, news: News) -> None:
        """Take back an answer that did not reach its peer: the question waits for the next look at the deadlines."""
        want = self._told.pop((peer, news.note_id), None)
        if want is not None:
            self._keep((peer, news.note_id), want)
            self._parked[peer, news.note_id] = None

    def unpark(self) -> None:
        """Try again what did not reach its peer."""
        self._due.update(self._parked)
        self._parked = {}

    def _keep(self, reader: Reader, want: _Want) -> None:
        self._wants.setdefault(reader[0], {})[reader[1]] = want
        want.source.readers[reader] = None

    def _drop(self, reader: Reader) -> _Want | None:
        wants = self._wants.get(reader[0], {})
        want = wants.pop(reader[1], None)
        if want is not None:
            want.source.readers.pop(reader, None)
            if not wants:
                del self._wants[reader[0]]
        return want

    # -- the end of a turn --------------------------------------------------------------------------------------------

    def flush(self, board: Board) -> None:
        """Record what was said in this turn, the last of each topic, and answer whoever can be answered."""
        if self._published:
            last = {name: self.topics[name].last for name in sorted(self._published)}
            lines = {name: message_line(message) for name, message in last.items() if message is not None}
            board.record(None, TopicsPublished(topics=lines))
            self._published = set()
        for run_id, sent in self._sent.items():
            board.record(run_id, MessagesSent(messages=tuple((to, message_line(each)) for to, each in sent)))
        self._sent = {}
        due, self._due, self._told = self._due, {}, {}
        for reader in due:
            self._answer(board, reader)

    def _answer(self, board: Board, reader: Reader) -> None:
        peer, note_id = reader
        want = self._wants.get(peer, {}).get(note_id)
        if want is None or reader in self._parked:
            return
        found = want.source.after(want.place)
        if found is not None:
            board.send(peer, News(note_id=note_id, messages=found.messages, missed=found.missed, place=found.place))
        elif not want.wait:
            board.send(peer, News(note_id=note_id, place=want.place or (0, 0)))
        else:
            return
        self._drop(reader)
        self._told[reader] = want


# -- what peers say ---------------------------------------------------------------------------------------------------


def take_publication(board: Board, member: Member, said: Publish) -> None:
    """Say on a topic what a peer has to say."""
    message = _message(member, said)
    problem = board.post.publish(said.topic, message, board.epoch) if isinstance(message, Message) else message
    _confirm(board, member, said.note_id, problem)


def take_letter(board: Board, member: Member, said: Direct) -> None:
    """Put what a peer has to say where it is meant to be read."""
    message = _message(member, said)
    if not isinstance(message, Message):
        _confirm(board, member, said.note_id, message)
    elif (task := _addressee(board, member, said)) is not None:
        task_id, run = task.spec.task_id, task.run
        problem = board.post.deliver(run.run_id, task_id, _mailbox(task), message)
        _confirm(board, member, said.note_id, problem, run)
    elif said.to in board.post.inboxes:
        _confirm(board, member, said.note_id, board.post.deliver(None, said.to, board.post.inboxes[said.to], message))
    else:
        problem = f"there is no {said.to!r:.120}: no open task <run_id>/<task_id>, and no inbox that was opened"
        _confirm(board, member, said.note_id, problem)


def take_question(board: Board, member: Member, asked: Subscribe | Read) -> None:
    """Keep what a peer asks until there is an answer."""
    post = board.post
    if isinstance(asked, Subscribe):
        problem = post.follow(member.peer, asked)
    elif asked.inbox:
        box = post.open_inbox(asked.inbox)
        if isinstance(box, Mailbox):
            box.take_out(asked.after)
        problem = post.read(member.peer, asked, box) if isinstance(box, Mailbox) else box
    else:
        task = _task(member, asked.fence)
        problem = post.read(member.peer, asked, _mailbox(task)) if task is not None else _STALE
    if problem:
        board.send(member.peer, Denied(note_id=asked.note_id, reason=problem))


def give_up_questions(board: Board, member: Member, forgotten: Forget) -> None:
    """Drop what a peer no longer waits for."""
    board.post.forget(member.peer, forgotten.note_ids)


_STALE = "its task is in other hands by now"


def _task(member: Member, fence: int | None) -> Task | None:
    held = member.held.get(fence) if fence is not None else None
    return held.task if held is not None else None


def _message(member: Member, said: Publish | Direct) -> Message | str:
    """What was said, with who said it; why it cannot be said, otherwise."""
    if len(said.data) > INLINE_LIMIT:
        return f"a message of {len(said.data)} bytes is too large"
    if problem := value_problem(Value("json", said.data)):
        return f"what it says cannot be recorded: {problem}"
    if said.fence is None:
        return Message(0, member.peer if member.hello.lanes else LAB, said.data, said.sent_at)
    task = _task(member, said.fence)
    if task is None:
        return _STALE
    run_id, task_id = task.run.run_id, task.spec.task_id
    traceparent = ids.traceparent(run_id, task_id, task.attempt)
    name = f"{said.fence}.{said.note_id}"
    return Message(0, f"{run_id}/{task_id}", said.data, said.sent_at, traceparent, id=name)


def _addressee(board: Board, member: Member, said: Direct) -> Task | None:
    """The open task that is meant."""
    sender = _task(member, said.fence)
    if sender is not None and said.to in sender.run.tasks:
        return sender.run.tasks[said.to]
    run_id, _, task_id = said.to.partition("/")
    run = board.runs.get(run_id)
    return run.tasks.get(task_id) if run is not None else None


def _mailbox(task: Task) -> Mailbox:
    return task.run.mailboxes.setdefault(task.spec.task_id, Mailbox())


def _confirm(board: Board, member: Member, note_id: int, problem: str, run: Run | None = None) -> None:
    if problem:
        board.send(member.peer, Denied(note_id=note_id, reason=problem))
    else:
        board.send(member.peer, Recorded(note_id=note_id), None if run is None else run.run_id, is_promise=True)
