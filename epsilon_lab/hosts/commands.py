"""What a kernel and its sidecar say to each other: one command a connection, one answer.

They travel over a unix socket in a directory of mode 0700, as a length, a version byte and a msgpack body. A stream
socket and not the broker's: the system itself says when the other end is gone, so a kernel that was killed is known to
have left, and a wait for a sidecar that was killed ends, without beats of any kind.
"""

from __future__ import annotations

import os
import struct
from typing import TypeVar

import msgspec

from epsilon_lab import errors
from epsilon_lab.arguments import whole
from epsilon_lab.broker.board import Room
from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Stats
from epsilon_lab.errors import BadFrame, LabError
from epsilon_lab.messages.cases import Decide, Finalise, Flag, Rank, Retract, Unsure
from epsilon_lab.topologies.engine import Pause, Resume, Stop
from epsilon_lab.topologies.plan import Cancel, Prioritise, Requeue, Revise
from epsilon_lab.topologies.search_plan import BriefEdit
from epsilon_lab.workers.place import Place
from epsilon_lab.workspace.journal import Durability

T = TypeVar("T")

CONTROL_VERSION = 3
MAX_COMMAND = 16 * 1024 * 1024
"""Bytes."""

LENGTH = struct.Struct("<I")
"""What precedes a body: how many bytes follow."""

Said = (
    Pause
    | Resume
    | Stop
    | Prioritise
    | Cancel
    | Requeue
    | Revise
    | BriefEdit
    | Decide
    | Retract
    | Unsure
    | Flag
    | Rank
    | Finalise
)
"""What a person may tell a run."""


class _Command(msgspec.Struct, frozen=True, tag=True):
    """Common settings."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar is started with."""

    workers: int = 4
    """Child processes."""

    durability: Durability = "process"
    bind: str | None = None
    """A TCP address where workers of other machines reach it too."""


def fit_workers(workers: int) -> int:
    """As many child processes as this machine may be asked for.

    Raises:
        InvalidInput: It is no such number.
    """
    return whole("workers", workers, least=1, most=max(32, 8 * (os.cpu_count() or 1)))


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a kernel tells the process that is to be a sidecar."""

    workspace: str
    terms: Terms
    linger_s: float
    ready: int
    """A descriptor; on it the kernel is told once, by a `Done` or a `Refusal`."""


class Attach(_Command, frozen=True):
    """A kernel holds the workspace for as long as this connection stands. Answered by `Standing`, or refused."""

    terms: Terms
    insists_on: tuple[str, ...] = ()
    """Names of the terms that it was told; whatever the others are is right."""


class Look(_Command, frozen=True):
    """How do things stand? Answered by `Standing`."""


class Announce(_Command, frozen=True):
    """A run is about to begin here. Answered by `Standing`, once it is on record that the run is this workspace's own:
    whenever its kernel dies from then on, it can be resumed without anybody's trust.
    """

    run_id: str


class Adopt(_Command, frozen=True):
    """Go on with a run whose beginning is on disk. Answered by `Adopted`, once that is on record."""

    run_id: str
    trust: bool
    place: Place
    environment: dict[bytes, bytes]
    """The kernel's own, keys that were set in a cell included; it reaches no disk."""

    news: Requeue | Revise | Finalise | None = None
    """Tasks that are taken up again."""


class Steer(_Command, frozen=True):
    """Tell a live run something. Answered by `Done`, once that is on record."""

    run_id: str
    said: Said


class Await(_Command, frozen=True):
    """Answered by `Done` when the run has ended; at once where it is not live."""

    run_id: str


class Drain(_Command, frozen=True):
    """Let a worker on another machine finish what it has begun, and go. Answered by `Done`."""

    worker: str


class End(_Command, frozen=True):
    """End the sidecar in good order; what runs is interrupted. Answered by `Done` when that has begun."""


Question = Look | Announce | Adopt | Steer | Await | Drain | End
Command = Attach | Question


class Standing(_Command, frozen=True):
    """How things stand."""

    pid: int
    terms: Terms
    endpoint: str
    """Where workers reach the broker, from other machines where it is bound to an address for them."""

    near: str
    """Where this machine's own reach it."""

    live: dict[str, str]
    """Run id -> name."""

    trouble: str
    """Why nothing is begun; empty while all is well."""

    at_work: tuple[WorkerRow, ...]
    room: Room
    """What may still be submitted."""

    stats: Stats
    torn: int = 0
    """Bytes that were cut off the end of the lab's own journal; said to the first kernel that attaches."""


class Adopted(_Command, frozen=True):
    """The run is live."""

    name: str
    topology: str
    runs_strangers: bool
    """Programs run that nobody has read."""

    torn: int = 0
    """Bytes that were cut off its journal's end."""

    @property
    def runner(self) -> None:
        """In another process."""


class Done(_Command, frozen=True):
    """So it is; False where there is no such live run."""

    is_so: bool = True


class Refusal(_Command, frozen=True):
    """An error, for whoever asked."""

    kind: str
    """Name of a class in errors.py."""

    message: str
    details: dict[str, str | int | None] = {}
    """Its attributes."""


Answer = Standing | Adopted | Done | Refusal

_ENCODER = msgspec.msgpack.Encoder()
_COMMAND: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_VERSION = bytes([CONTROL_VERSION])


def encode(message: Command | Answer) -> bytes:
    """Encode a message, its length first.

    Raises:
        BadFrame: It is longer than the other end accepts.
    """
    body = _VERSION + _ENCODER.encode(message)
    if len(body) > MAX_COMMAND:
        raise BadFrame(f"a message of {len(body)} bytes; at most {MAX_COMMAND} reach a sidecar")
    return LENGTH.pack(len(body)) + body


def length_of(head: bytes) -> int:
    """How long the body is that follows.

    Raises:
        BadFrame: Longer than any message.
    """
    (length,) = LENGTH.unpack(head)
    if length > MAX_COMMAND:
        raise BadFrame(f"a message of {length} bytes; at most {MAX_COMMAND} are accepted")
    return int(length)


def decode_command(body: bytes) -> Command:
    """Decode what a kernel said.

    Raises:
        BadFrame: The bytes are no command.
    """
    return _decode(body, _COMMAND)


def decode_answer(body: bytes) -> Answer:
    """Decode what a sidecar said.

    Raises:
        BadFrame: The bytes are no answer.
    """
    return _decode(body, _ANSWER)


def _decode(body: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    if body[:1] != _VERSION:
        raise BadFrame(
            f"the other end speaks version {body[0] if body else 'none'} of the control protocol, this one "
            f"{CONTROL_VERSION}; end the sidecar with the version of epsilon_lab that started it"
        )
    try:
        return decoder.decode(memoryview(body)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"not a message between kernel and sidecar: {error}") from error


def refusal(error: LabError) -> Refusal:
    """Put an error into words that travel."""
    details = {name: value for name, value in vars(error).items() if isinstance(value, str | int | None)}
    return Refusal(type(error).__name__, str(error), details)


def raised(told: Refusal) -> LabError:
    """Make the error again that was put into words."""
    kind = getattr(errors, told.kind, LabError)
    if not (isinstance(kind, type) and issubclass(kind, LabError)):
        kind = LabError
    error = kind.__new__(kind, told.message)
    vars(error).update(told.details)
    return error
