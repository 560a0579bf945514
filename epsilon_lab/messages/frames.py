"""What a broker and its peers say to each other.

A frame is one version byte and one msgpack body, a tagged union read whole at the edge: bytes that are not a message
raise `BadFrame` there and can reach nothing behind it. Peers are sessions (a supervisor, which renews the lease) and
their members (a child process or the async lane, which takes tasks); a peer's id is `<session>/<member>`, the
supervisor's own member being `boss`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import Assignment, Event, Failure, Lane, Result

PROTOCOL_VERSION = 2
MAX_FRAME = 64 * 1024 * 1024
"""Bytes; larger values travel as files."""

UNKNOWN_PEER = "unknown peer"
"""How the problem of a `Refused` begins when the broker does not know its sender (any more): say `Hello` again."""


Offset = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
"""Bytes from the beginning of a file."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Common settings of all frames."""


class Hello(_Frame, frozen=True, kw_only=True, array_like=True, tag="hello"):
    """A peer introduces itself; it may be repeated and then replaces what was said before."""

    pid: int
    host: str
    lanes: tuple[Lane, ...] = ()
    """What it executes; empty for a supervisor."""

    slots: int = 0
    """Tasks it works on at once."""

    held: tuple[tuple[str, str, int], ...] | None = None
    """(run_id, task_id, fence) of all it works on, has waiting or has answered of late; None where it does not say.
    What it still holds by right is left to it, what it holds no longer is answered with a `Cancel` that comes before
    the `Welcome`, what it was given and does not name goes back to the queue."""


class Done(_Frame, frozen=True, kw_only=True, array_like=True, tag="done"):
    """Tasks finished since the last send, oldest first. Credit comes back with each."""

    results: tuple[Result, ...] = ()
    failures: tuple[Failure, ...] = ()
    dropped: tuple[int, ...] = ()
    """Fences of what was cancelled or recalled before it was begun, and now never will be."""


class Note(_Frame, frozen=True, kw_only=True, array_like=True, tag="note"):
    """Journal lines that must be safe before the leaf goes on; answered by `Recorded`, or by `Denied`.

    A `usage.llm_call` line of outcome `unknown` asks whether its request may go out; a note asks for one at most. The
    answer may have to wait for other requests of the run.
    """

    run_id: str
    task_id: str
    note_id: int
    events: tuple[Event, ...]
    fence: int | None = None
    """Of the attempt that says so; None for whichever the sender holds."""


class Renew(_Frame, frozen=True, kw_only=True, array_like=True, tag="renew"):
    """A supervisor's beat. Any frame of a session renews it; this one says nothing else."""


class Beat(_Frame, frozen=True, kw_only=True, array_like=True, tag="beat"):
    """These attempts make progress: what limits the time between two signs of it begins anew."""

    fences: tuple[int, ...]


class Lost(_Frame, frozen=True, kw_only=True, array_like=True, tag="lost"):
    """A supervisor saw one of its members die."""

    member: str
    """The peer id that is gone; the same id may say `Hello` again later."""

    reason: str
    """For people: `exit code 3`, `killed by SIGSEGV`."""

    outcome: str = "crashed"
    """The attempt outcome of the task it was working on."""

    fence: int | None = None
    """Of the task it had started, which is the one to blame; 0 if it was between two tasks; None if nobody knows: then
    it is the first that is unfinished."""

    stdout_tail: str = ""
    stderr_tail: str = ""


class Bye(_Frame, frozen=True, kw_only=True, array_like=True, tag="bye"):
    """A session ends in good order; unfinished tasks go back to the queue unblamed."""


class Publish(_Frame, frozen=True, kw_only=True, array_like=True, tag="publish"):
    """A topic has a new value; answered by `Recorded` or `Denied`."""

    note_id: int
    topic: str
    data: bytes
    """JSON, one line."""

    sent_at: float
    fence: int | None = None
    """Of the attempt that says so; None where no task does."""


class Direct(_Frame, frozen=True, kw_only=True, array_like=True, tag="direct"):
    """A message to one address; answered by `Recorded` once it lies there, or by `Denied`."""

    note_id: int
    to: str
    data: bytes
    sent_at: float
    fence: int | None = None


class Subscribe(_Frame, frozen=True, kw_only=True, array_like=True, tag="subscribe"):
    """What has this topic to say after that place? Answered once, by `News`: whoever wants more asks again."""

    note_id: int
    topic: str
    after: tuple[int, int] | None = None
    """Epoch and number of the last message read; None for the last value alone."""

    wait: bool = True
    """Answer when there is something; otherwise now."""


class Read(_Frame, frozen=True, kw_only=True, array_like=True, tag="read"):
    """What lies at this address after that number? Answered once, by `News`."""

    note_id: int
    after: int = 0
    inbox: str = ""
    """An inbox of that name, which is there from now on; what was read of it is gone. Empty for the task's own."""

    fence: int | None = None
    wait: bool = True


class Forget(_Frame, frozen=True, kw_only=True, array_like=True, tag="forget"):
    """Nobody waits for the answer to these any more."""

    note_ids: tuple[int, ...]


class Drain(_Frame, frozen=True, kw_only=True, array_like=True, tag="drain"):
    """A supervisor wants no more tasks for its session; what has begun is finished, and then comes `Drained`."""


class Fetch(_Frame, frozen=True, kw_only=True, array_like=True, tag="fetch"):
    """A member far from the disk wants a part of a file, of a run that it has a task of; answered by `File`."""

    note_id: int
    run_id: str
    ref: str
    """Path relative to the run directory."""

    offset: Offset = 0
    """Bytes."""


class Keep(_Frame, frozen=True, kw_only=True, array_like=True, tag="keep"):
    """A member far from the disk has a part of a file for a run; answered by `Kept`. The parts come in order.

    The last part makes the file: until then there is nothing, and then there is all of it.
    """

    note_id: int
    run_id: str
    task_id: str
    fence: int
    """Of the attempt that made it; a file of another is not kept."""

    ref: str
    offset: Offset
    size: Offset
    """Bytes of the whole file."""

    sha256: str
    """Of the whole file."""

    content: bytes


class Welcome(_Frame, frozen=True, kw_only=True, array_like=True, tag="welcome"):
    """The broker knows the peer."""

    epoch: int
    lease_s: float
    beat_s: float


class Tasks(_Frame, frozen=True, kw_only=True, array_like=True, tag="tasks"):
    """Assignments, oldest first."""

    assignments: tuple[Assignment, ...]


class Cancel(_Frame, frozen=True, kw_only=True, array_like=True, tag="cancel"):
    """Stop these, or do not begin them: an answer would be stale. What is not begun, `Done` says was `dropped`."""

    fences: tuple[int, ...]


class Recall(_Frame, frozen=True, kw_only=True, array_like=True, tag="recall"):
    """Others could begin these sooner: what is not begun, `Done` says was `dropped`; what is, goes on and counts."""

    fences: tuple[int, ...]


class Interrupt(_Frame, frozen=True, kw_only=True, array_like=True, tag="interrupt"):
    """To a supervisor: ask this member's task under this fence to stop, if it is under way; it may not heed that."""

    member: str
    fence: int


class Kill(_Frame, frozen=True, kw_only=True, array_like=True, tag="kill"):
    """To a supervisor: end this member's process now and answer `Lost` once it is gone."""

    member: str
    reason: str


class Stale(_Frame, frozen=True, kw_only=True, array_like=True, tag="stale"):
    """These answers came too late and were not applied."""

    fences: tuple[int, ...]


class Recorded(_Frame, frozen=True, kw_only=True, array_like=True, tag="recorded"):
    """What a `Note`, `Publish` or `Direct` said is as safe as the lab's durability says."""

    note_id: int
    reply_tokens: int | None = None
    """Most tokens that the reply to the request asked for may take; None where its run's budget does not say."""


class Denied(_Frame, frozen=True, kw_only=True, array_like=True, tag="denied"):
    """What was asked is not done.

    The request of a `Note` must not go out (the rest of the note is safe); a `Publish` or `Direct` is not on
    record; a `Subscribe` or `Read` cannot be answered.
    """

    note_id: int
    reason: str


class News(_Frame, frozen=True, kw_only=True, array_like=True, tag="news"):
    """What was asked for by `Subscribe` or `Read`, oldest first."""

    note_id: int
    messages: tuple[Message, ...] = ()
    missed: int = 0
    """Messages before these that are no longer kept: whoever asks too late is given the last one alone."""

    place: tuple[int, int] = (0, 0)
    """Where to go on."""


class Drained(_Frame, frozen=True, kw_only=True, array_like=True, tag="drained"):
    """To a supervisor: its session has nothing left to do and will be given nothing; it may go."""


class File(_Frame, frozen=True, kw_only=True, array_like=True, tag="file"):
    """A part of a file."""

    note_id: int
    content: bytes = b""
    size: int = 0
    """Bytes of the whole file."""

    tag: str = ""
    """Which writing of the file this is a part of: parts of one file have one tag."""

    problem: str = ""
    """Why there is no such file for this peer."""

    is_missing: bool = False
    """Whether it is not there, rather than kept from this peer."""


class Kept(_Frame, frozen=True, kw_only=True, array_like=True, tag="kept"):
    """A part of a file was taken; the file is there once the last one was."""

    note_id: int
    problem: str = ""
    """Why it was not taken."""

    must_begin_again: bool = False
    """Whether the broker knows nothing of the parts before it."""


class Refused(_Frame, frozen=True, kw_only=True, array_like=True, tag="refused"):
    """A frame could not be accepted; nothing else was touched."""

    problem: str


ToBroker = (
    Hello
    | Done
    | Note
    | Renew
    | Beat
    | Lost
    | Bye
    | Publish
    | Direct
    | Subscribe
    | Read
    | Forget
    | Drain
    | Fetch
    | Keep
)
ToPeer = (
    Welcome
    | Tasks
    | Cancel
    | Recall
    | Interrupt
    | Kill
    | Stale
    | Recorded
    | Denied
    | News
    | Drained
    | File
    | Kept
    | Refused
)

_ENCODER = msgspec.msgpack.Encoder()
_FROM_PEER: msgspec.msgpack.Decoder[ToBroker] = msgspec.msgpack.Decoder(ToBroker)
_FROM_BROKER: msgspec.msgpack.Decoder[ToPeer] = msgspec.msgpack.Decoder(ToPeer)
_VERSION = bytes([PROTOCOL_VERSION])


def encode(message: ToBroker | ToPeer) -> bytes:
    """Encode a message."""
    return _VERSION + _ENCODER.encode(message)


def _body(frame: bytes) -> memoryview:
    if not frame:
        raise BadFrame("empty frame; expected a version byte and a msgpack body")
    if frame[0] != PROTOCOL_VERSION:
        raise BadFrame(f"protocol version {frame[0]}; this side speaks version {PROTOCOL_VERSION}")
    if len(frame) > MAX_FRAME:
        raise BadFrame(f"frame of {len(frame)} bytes; at most {MAX_FRAME} are accepted")
    return memoryview(frame)[1:]


def decode_from_peer(frame: bytes) -> ToBroker:
    """Decode what a peer sent to a broker.

    Raises:
        BadFrame: The bytes are not such a message.
    """
    try:
        return _FROM_PEER.decode(_body(frame))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"not a message to a broker: {error}") from error


def decode_from_broker(frame: bytes) -> ToPeer:
    """Decode what a broker sent to a peer.

    Raises:
        BadFrame: The bytes are not such a message.
    """
    try:
        return _FROM_BROKER.decode(_body(frame))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"not a message to a peer: {error}") from error
