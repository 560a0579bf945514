"""`message.`, `topic.`: what was sent and published, as journals show it."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.events.body import Body
from epsilon_lab.messages.post import Message


class MessageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `Message` as a journal shows it."""

    seq: int
    sender: str
    value: msgspec.Raw
    sent_at: float
    traceparent: str = ""
    epoch: int = 0
    id: str = ""


def message_line(message: Message) -> MessageLine:
    """Show a message as a journal does."""
    return MessageLine(
        seq=message.seq,
        sender=message.sender,
        value=msgspec.Raw(message.data),
        sent_at=message.sent_at,
        traceparent=message.traceparent,
        epoch=message.epoch,
        id=message.id,
    )


def message_of(line: MessageLine) -> Message:
    """Take a message back from a journal."""
    return Message(line.seq, line.sender, bytes(line.value), line.sent_at, line.traceparent, line.epoch, line.id)


class MessagesSent(Body, frozen=True, kw_only=True):
    """`message.sent`: to tasks of a run, in its journal; to an inbox of the lab, in the lab's own."""

    messages: tuple[tuple[str, MessageLine], ...]
    """(task_id or inbox, message)."""


class TopicsPublished(Body, frozen=True, kw_only=True):
    """`topic.published`: the last that was said on each topic in one turn; its number counts what was said before."""

    topics: dict[str, MessageLine]
