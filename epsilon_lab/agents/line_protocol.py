"""What a lab and an outside program say to each other: one JSON object a line, over the program's standard streams.

The program is told what to do in one line, `run_context`. From then on each line it writes that is a JSON object with a
`type` is an action, and any other line is kept as its log. It needs no library: a shell script can do it.

    log             message                             kept with its log
    send_message    content, topic | target, metadata   said on a topic, or to one task (`target`; `lab`: to the lab)
    check_messages  limit                               {"type": "messages", "messages": [...]}
    submit_task     payload                             {"type": "submitted", "task_id"}: one more task of the run
    request_task, renew_task, complete_task, fail_task  refused: a lab pushes its tasks, nobody fetches them
    done            result | summary                    the output; the program ends now, with exit code 0
    fail            error                               there is no output, and why

What asks for something, carries an `id`, or cannot be done, is answered by exactly one line, which has the same `id`;
`{"type": "error", "reason"}` says what cannot be done. All that is decided is decided here, from lines alone.

Fields and actions are Epsilon's (its BYOA adapters), whose answers were lost on all but one action.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PROTOCOL = 1
"""The version that `run_context` names."""

LINE_LIMIT = 1 << 20
"""Bytes of a line."""

_MEANT = re.compile(rb'\s*\{\s*"type"\s*:')
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_MESSAGES = 50


@dataclass(frozen=True)
class Said:
    """A line of the log."""

    text: str


@dataclass(frozen=True)
class Answer:
    """A line to be written to the program."""

    fields: Mapping[str, Any]

    @property
    def line(self) -> bytes:
        """The line."""
        return json.dumps(self.fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


@dataclass(frozen=True)
class Tell:
    """A message to a task, or on a topic."""

    target: str | None
    topic: str
    value: Any
    id: Any


@dataclass(frozen=True)
class Check:
    """The program wants to read its messages."""

    limit: int
    id: Any


@dataclass(frozen=True)
class Submit:
    """The program wants one more task."""

    payload: Any
    id: Any


@dataclass(frozen=True)
class Over:
    """The program said how it ends; what it says after that is its log."""

    output: Any = None
    error: str | None = None
    """Why there is no output."""


Step = Said | Answer | Tell | Check | Submit | Over


class Dialogue:
    """The lab's side: bytes that the program wrote become steps to be carried out in order."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_skipping = False
        self._is_over = False

    def heard(self, part: bytes) -> Iterator[Step]:
        """Take what came."""
        *ends, rest = part.split(b"\n")
        for end in ends:
            yield from self._line(end)
        if not self._is_skipping:
            self._rest += rest
            if len(self._rest) > LINE_LIMIT:
                self._is_skipping = True
                yield Said(_text(self._rest[:200]) + " ...")
                self._rest.clear()
                yield _error(None, f"a line has more than {LINE_LIMIT} bytes and is not read; write to a file instead")

    def ended(self) -> Iterator[Step]:
        """Take what came last, without an end of its line."""
        if self._rest:
            yield from self._line(b"")

    def _line(self, end: bytes) -> Iterator[Step]:
        line = bytes(self._rest) + end
        self._rest.clear()
        if self._is_skipping:
            self._is_skipping = False
            return
        try:
            action = json.loads(line) if line.lstrip()[:1] == b"{" else None
            if _HALF.search(line):  # half a character, as JavaScript cuts them, can be written to no file
                action = json.loads(json.dumps(action, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            if _MEANT.match(line):
                yield _error(None, f"a line is not valid JSON: {error}")
            action = None
        if self._is_over or not isinstance(action, dict) or not isinstance(action.get("type"), str):
            yield Said(_text(line))
        else:
            yield from self._action(action["type"], action)

    def _action(self, kind: str, action: dict[str, Any]) -> Iterator[Step]:
        match kind:
            case "log":
                yield Said(_plain(action.get("message", "")))
            case "send_message":
                yield _tell(action)
            case "check_messages":
                limit = action.get("limit", _MESSAGES)
                if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                    yield _error(action, f"limit must be an int of at least 1, got {limit!r:.80}")
                else:
                    yield Check(limit, action.get("id"))
            case "submit_task":
                if "payload" in action:
                    yield Submit(action["payload"], action.get("id"))
                else:
                    yield _error(action, "there is no payload")
            case "request_task" | "renew_task" | "complete_task" | "fail_task":
                yield _error(action, "a lab gives its tasks to its workers itself; do the one that run_context says")
            case "done":
                self._is_over = True
                yield Over(output=action["result"] if "result" in action else action.get("summary"))
            case "fail":
                self._is_over = True
                yield Over(error=_plain(action.get("error") or "it gave no reason"))
            case _:
                yield _error(action, f"there is no action {kind!r:.80}")


def _tell(action: dict[str, Any]) -> Step:
    content, metadata = action.get("content"), action.get("metadata")
    topic, target = action.get("topic", "general"), action.get("target")
    if "content" not in action:
        return _error(action, "there is no content")
    if not isinstance(topic, str) or not isinstance(target, str | None):
        return _error(action, "topic and target must be texts")
    value = content if not metadata else {"content": content, "metadata": metadata}
    return Tell(target or None, topic, value, action.get("id"))


def answer_to(id: Any, kind: str, **fields: Any) -> Answer:  # noqa: A002 - the protocol's word
    """Make the answer to an action with this id; None: it had none."""
    return Answer({"type": kind} | ({} if id is None else {"id": id}) | fields)


def _error(action: dict[str, Any] | None, reason: str) -> Answer:
    named = {} if action is None else {"action": action["type"]}
    return answer_to(None if action is None else action.get("id"), "error", reason=reason, **named)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(line: bytes | bytearray) -> str:
    return bytes(line).decode("utf-8", "replace").rstrip("\r")
