"""For programs that work in a lab as agents of their own: `Command(["python", "my_agent.py"])` runs them.

This module needs nothing but Python's standard library, 3.8 or later, and nothing of this package: copy the file into
another project as it is.

    from epsilon_lab.agent_sdk import AgentSession

    with AgentSession.from_stdio() as session:
        session.log("thinking about " + session.task)
        for message in session.messages():
            session.log(f"{message['agent_id']} says {message['content']}")
        session.done({"words": len(session.item.split())})

An exception within the `with` becomes a failure that says so. Whoever ends without `done` has failed as well.

A program in another language needs no module: it reads one line, what it is to do, and writes JSON objects, one a line.
This one is in the shell:

    #!/bin/sh
    read -r context                                     # {"type": "run_context", "task": ..., "item": ..., ...}
    echo "a line that is no JSON object is kept as log"
    echo '{"type": "send_message", "topic": "news", "content": "begun"}'
    echo '{"type": "check_messages", "limit": 10}'
    read -r answer                                      # {"type": "messages", "messages": [...]}
    sort input.txt > sorted.txt                         # the working directory is its own, and is what it publishes
    echo '{"type": "done", "result": {"lines": 3}}'     # or {"type": "fail", "error": "there is no input.txt"}

What asks for something (`check_messages`, `submit_task`), carries an `id` or cannot be done is answered by one line,
with the same `id`. The lab writes nothing else, so a program that asks for nothing has nothing more to read.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
from types import TracebackType
from typing import IO, Any, Dict, List, Optional, Type  # noqa: UP035 - it also runs where only these are known

_PROTOCOL = 1


class AgentError(Exception):
    """The lab refused what was asked of it, or is gone."""


class AgentSession:
    """A program's side of its conversation with the lab. Any thread may use it.

    Args:
        reader: Where the lab's lines come from, binary.
        writer: Where ours go, binary.

    Attributes:
        context: What the lab said first: `task`, `item`, `inputs`, `failed`, `feedback`, `workspace`, `agent_id`,
            `topics`, `role`, `task_type`, `pattern`, `meta`, `attempt`, `protocol`.

    Raises:
        AgentError: No lab is there.
    """

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._is_over = False
        self.context = self._read()
        if self.context.get("type") != "run_context":
            raise AgentError(f"the first line should be a run_context, got {self.context!r:.200}")
        if self.context.get("protocol", _PROTOCOL) > _PROTOCOL:
            raise AgentError(f"the lab speaks protocol {self.context['protocol']}, and this module {_PROTOCOL}")

    @classmethod
    def from_stdio(cls) -> AgentSession:
        """Talk over standard input and output, and keep them from whatever else runs here.

        What is printed meanwhile goes to standard error, which is kept too. Standard input is empty from then on, also
        for the programs that are started: the lab's end of it stays open, and who reads it would wait for ever.
        """
        reader = os.fdopen(os.dup(0), "rb")
        writer = os.fdopen(os.dup(1), "wb")
        sys.stdout.flush()
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return cls(reader, writer)

    def __enter__(self) -> AgentSession:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],  # noqa: UP006, UP045 - see above
        value: Optional[BaseException],  # noqa: UP045
        trace: Optional[TracebackType],  # noqa: UP045
    ) -> None:
        if value is not None and not self._is_over and isinstance(value, Exception):
            self.fail(f"{type(value).__name__}: {value}")

    @property
    def task(self) -> str:
        """What to do, in words; empty where the item says it all."""
        return str(self.context.get("task") or "")

    @property
    def item(self) -> Any:
        """The item it is about; None where there is none."""
        return self.context.get("item")

    @property
    def inputs(self) -> Dict[str, Any]:  # noqa: UP006
        """The outputs of the tasks that this one depends on, by their ids."""
        return dict(self.context.get("inputs") or {})

    @property
    def feedback(self) -> List[Dict[str, Any]]:  # noqa: UP006
        """Why it is done once more: dicts with `source` and `text`; empty the first time."""
        return list(self.context.get("feedback") or [])

    @property
    def workspace(self) -> str:
        """Its own directory, which is also the working directory."""
        return str(self.context.get("workspace") or "")

    def log(self, message: str) -> None:
        """Have a line kept with the task's log."""
        self._write({"type": "log", "message": message})

    def send(
        self,
        content: Any,
        *,
        topic: Optional[str] = None,  # noqa: UP045
        target: Optional[str] = None,  # noqa: UP045
        metadata: Optional[Dict[str, Any]] = None,  # noqa: UP006, UP045
    ) -> None:
        """Say something on a topic, or to one task by its id, or to `lab` if an inbox is open there.

        Raises:
            AgentError: Nobody has that address, or the content cannot travel.
        """
        message = {"type": "send_message", "content": content, "topic": topic, "target": target, "metadata": metadata}
        self._ask({name: value for name, value in message.items() if value is not None or name == "content"})

    def messages(self, limit: int = 50) -> List[Dict[str, Any]]:  # noqa: UP006
        """Read what was said to this task, or on its topics, and was not read yet.

        Returns:
            The oldest ones first, each with `agent_id`, `topic`, `target`, `content`, `metadata` and `timestamp`.
        """
        return list(self._ask({"type": "check_messages", "limit": limit})["messages"])

    def submit(self, payload: Any) -> str:
        """Ask for one more task of this run, if its topology takes any.

        Returns:
            The new task's id.

        Raises:
            AgentError: It takes none.
        """
        return str(self._ask({"type": "submit_task", "payload": payload})["task_id"])

    def done(self, result: Any = None) -> None:
        """Give the output, plain data, and say that it is whole; end soon after, with exit code 0."""
        self._write({"type": "done", "result": result})
        self._is_over = True  # not before: a result that cannot be written is a failure, and is said to be one

    def fail(self, error: str) -> None:
        """Say why there is no output."""
        self._write({"type": "fail", "error": error})
        self._is_over = True

    def _ask(self, action: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        with self._lock:
            number = next(self._ids)
            self._put({**action, "id": number})
            while True:
                answer = self._read()
                if answer.get("id") == number:
                    break
        if answer.get("type") == "error":
            raise AgentError(str(answer.get("reason")))
        return answer

    def _write(self, action: Dict[str, Any]) -> None:  # noqa: UP006
        with self._lock:
            self._put(action)

    def _put(self, action: Dict[str, Any]) -> None:  # noqa: UP006
        try:
            self._writer.write(json.dumps(action).encode() + b"\n")
            self._writer.flush()
        except OSError as error:
            raise AgentError(f"the lab is gone ({error})") from error

    def _read(self) -> Dict[str, Any]:  # noqa: UP006
        line = self._reader.readline()
        if not line:
            raise AgentError("the lab said nothing: is this run by a lab, as Command([...])?")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise AgentError(f"the lab wrote {line!r:.200}")
        return message
