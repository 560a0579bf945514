"""What agents say to each other, apart from their results: a value, who said it, and its place among all that was said.

A value is JSON of limited size and comes back as it went in: what JSON would change (a tuple, a NaN, a key that is no
text) is refused by the name of where it was going, before anything is sent. Larger things are files of the run
directory; their path is a value.
"""

from __future__ import annotations

from typing import Any

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import is_plain, is_text
from epsilon_lab.settings import INLINE_LIMIT

NAME_LIMIT = 200
"""Characters of a topic's name, or an address."""

LAB = "lab"
"""The address of whoever sits at the lab, and the sender of what is said from there."""


class Message(msgspec.Struct, frozen=True, array_like=True, repr_omit_defaults=True):
    """Something that was said on a topic, or to one address.

    Attributes:
        value: What was said.
    """

    seq: int
    """1 for a topic's or an address's first message, then consecutive."""

    sender: str
    """`lab`, or a task by `<run_id>/<task_id>`."""

    data: bytes
    """The value as one line of JSON."""

    sent_at: float
    """Wall seconds since the epoch, on the sender's clock."""

    traceparent: str = ""
    """The attempt that said it, as W3C Trace Context names it; empty for what was said from the lab."""

    epoch: int = 0
    """Of the broker that numbered it. A topic's messages grow by (epoch, seq) whatever was lost."""

    id: str = ""
    """Names a directed message of a task among all that its attempt sends; told again, it is the same one."""

    @property
    def value(self) -> Any:
        """What was said."""
        return msgspec.json.decode(self.data)

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands on its topic."""
        return self.epoch, self.seq

    def __repr__(self) -> str:
        shown = self.data if len(self.data) <= 60 else self.data[:60] + b"..."
        return f"<Message {self.seq} from {self.sender}: {shown.decode(errors='replace')}>"


def name_problem(name: object) -> str:
    """Say why something is not the name of a topic or an address; empty where it is."""
    if not isinstance(name, str) or not is_text(name) or not name.strip() or not name.isprintable():
        return f"must be a name of printable characters, got {name!r:.60}"
    if len(name) > NAME_LIMIT:
        return f"is {len(name)} characters long, and a name has at most {NAME_LIMIT}"
    return ""


def check_name(what: str, name: str) -> str:
    """Give a name back.

    Raises:
        InvalidInput: It is none.
    """
    if problem := name_problem(name):
        raise InvalidInput(what, problem)
    return name


def written(what: str, value: object) -> bytes:
    """Write a value as a message travels.

    Args:
        what: Where it is going, for people.
        value: Plain data.

    Raises:
        InvalidInput: JSON would not give it back, or it is too large.
    """
    try:
        data = msgspec.json.encode(value) if is_plain(value) else None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"a message to {what}", f"cannot be written as JSON ({error})", _REMEDY) from None
    if data is None:
        raise InvalidInput(f"a message to {what}", f"would not come back from JSON as it is: {value!r:.80}", _REMEDY)
    if len(data) > INLINE_LIMIT:
        raise InvalidInput(
            f"a message to {what}",
            f"has {len(data):,} bytes, and at most {INLINE_LIMIT:,} travel",
            "put it into a file and send the path",
        )
    return data


_REMEDY = "send None, bool, int, finite float, str, and lists and dicts of these; of an array, .tolist()"
