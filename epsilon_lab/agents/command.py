"""Bring your own agent: an outside program, in any language, performs a leaf.

It is told what to do on its standard input and says what it wants on its standard output, a JSON object a line
(line_protocol.py; agent_sdk.py is its side in Python). Its working directory is the leaf's own, and what it leaves
there is published when it succeeds. A worker's child runs it, confined and limited (processes/program.py), with no
environment but what it is granted by name.

It has an output only if it said `done` and then ended in order: whoever ends without a word has failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.line_protocol import (
    PROTOCOL,
    Answer,
    Check,
    Dialogue,
    Over,
    Said,
    Step,
    Submit,
    Tell,
    answer_to,
)
from epsilon_lab.arguments import number, switch
from epsilon_lab.errors import InvalidInput, LabError, LeafFailed
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.post import Message, check_name
from epsilon_lab.messages.secrets import conceal
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.processes.companion import exit_reason
from epsilon_lab.processes.container import Executor, NoEngine, check_image, image_of
from epsilon_lab.processes.enclosure import SYSTEM
from epsilon_lab.processes.environment import looks_secret, outside_environment
from epsilon_lab.processes.program import CannotStart, Kept, Program, find_program

if TYPE_CHECKING:
    from epsilon_lab.agents.request import Request

_GRACE_S = 2.0
"""Seconds to end in, for a program that has said how it ends."""

_MARGIN_S = 60.0
"""Seconds that the leaf has beyond the program, to end it and to publish its files."""

_UNREAD = 4 << 20
"""Bytes of answers that a program may leave unread."""

_LOG = 1 << 18
"""Bytes of its log that are kept, head and tail, and as many of its standard error."""


@dataclass(frozen=True)
class Command:
    """An outside program as an agent.

    Args:
        argv: The program and its arguments. One that names a file from where this is written is that file, and may be
            read; in the working directory, which is the leaf's own, it would not be found.
        timeout_s: Seconds it may take, then it and all it started are ended.
        env: Names of environment variables that it gets. One that looks like a key must be granted to the run as well:
            `lab.start(..., env=[...])`.
        reads: Files and directories it may read, besides the system's, the interpreter's and what `argv` names.
        confine: Whether it is kept from everything else, as strongly as the machine allows (`lab.isolation`). Without,
            it can do what you can.
        network: Whether it may reach the network.
        memory_mb: MiB that its processes may take in all; None for no limit, but 4,096 in a container.
        topics: What is said on these, besides to itself, it finds by `check_messages`.
        executor: `host`, or `docker` for a container of its own.
        image: The container's image; None for this project's own (its Dockerfile). What `argv` begins with is found
            in the image, unless it is a file of yours, which the container sees by the same path.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    argv: Sequence[str]
    timeout_s: float = 600.0
    env: Sequence[str] = ()
    reads: Sequence[str | Path] = ()
    confine: bool = True
    network: bool = False
    memory_mb: float | None = None
    topics: Sequence[str] = ()
    executor: Executor = "host"
    image: str | None = None

    def __post_init__(self) -> None:
        fields = {
            "argv": tuple(_argument(part) for part in _texts("argv", self.argv)),
            "timeout_s": number("Command timeout_s", self.timeout_s, least=0, above=True),
            "env": _texts("env", self.env),
            "confine": switch("Command confine", self.confine),
            "network": switch("Command network", self.network),
            "reads": tuple(os.path.abspath(path) for path in _texts("reads", self.reads)),
            "topics": tuple(check_name("Command topics", name) for name in _texts("topics", self.topics)),
        }
        if not self.argv:
            raise InvalidInput("Command argv", "is empty", 'give a program and its arguments: Command(["prog", "arg"])')
        if self.memory_mb is not None:
            fields["memory_mb"] = number("Command memory_mb", self.memory_mb, least=0, above=True)
        image_of("Command", self.executor, self.image)
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """The program's file name."""
        return os.path.basename(self.argv[0])

    @property
    def lane(self) -> Lane:
        """Its worker waits for it, so it is one with a process."""
        return "process"

    @property
    def time_limit_s(self) -> float:
        """Seconds that one attempt may take."""
        return self.timeout_s + _MARGIN_S

    def __repr__(self) -> str:
        return f"<Command {' '.join(self.argv)[:80]}>"

    def validate(self, budget: Budget | None = None) -> None:  # noqa: ARG002 - a program has no price
        """See that the program, its variables and what it reads are there.

        Raises:
            InvalidInput: They are not.
        """
        if missing := [name for name in self.env if name not in os.environ]:
            raise InvalidInput(
                "Command env", f"{missing[0]!r} is not set in this process", "set it before the lab is made"
            )
        try:
            if (image := self._image) is not None:
                check_image(image)
            else:
                find_program(self.argv[0], os.getcwd(), outside_environment(confined=self.confine)["PATH"])
        except CannotStart as error:
            raise InvalidInput("Command argv", str(error)) from error
        except NoEngine as error:
            raise InvalidInput("Command executor", str(error)) from error
        for path in self.reads:
            if not os.path.exists(path):
                raise InvalidInput("Command reads", f"{str(path)!r} does not exist")

    def perform(self, request: Request, leaf: Leaf) -> Any:
        """Have the program do it.

        Raises:
            LeafFailed: It said that it failed, ended without a word, or was ended at a limit.
            InvalidInput: What it is to be told cannot be written as JSON.
        """
        context = self._context(request, leaf)
        try:
            program = self._start(request)
        except (CannotStart, NoEngine) as error:
            raise LeafFailed(str(error)) from error
        with program:
            program.say(context)
            return _Performance(self, program, leaf).output()

    def _start(self, request: Request) -> Program:
        return Program(
            self.argv,
            cwd=request.workspace(),
            env=self._granted(),
            confine=self.confine,
            network=self.network,
            reads=[*self.reads, *self._files],
            memory_mb=self.memory_mb,
            talks=True,
            image=self._image,
        )

    @property
    def _files(self) -> list[str]:
        """What the arguments name, which is the user's and not a part of the system."""
        named = [part for part in self.argv if os.path.isabs(part) and os.path.exists(part)]
        return [path for path in named if not path.startswith(tuple(f"{system}/" for system in SYSTEM))]

    @property
    def _image(self) -> str | None:
        return image_of("Command", self.executor, self.image)

    def _granted(self) -> dict[str, str]:
        if missing := [name for name in self.env if name not in os.environ]:
            kind = "looks like a key" if looks_secret(missing[0]) else "was not set when the lab was made"
            raise LeafFailed(
                f"environment variable {missing[0]} {kind}, and the run was not granted it: "
                f"lab.start(..., env=[{missing[0]!r}])"
            )
        return {name: os.environ[name] for name in self.env}

    def _context(self, request: Request, leaf: Leaf) -> bytes:
        about = request.about
        fields = {
            "type": "run_context",
            "protocol": PROTOCOL,
            **request.as_dict(),
            "topics": list(self.topics),
            "attempt": leaf.attempt,
            "pattern": about.get("topology"),
            "task_type": about.get("task_type"),
            "role": about.get("role"),
        }
        try:
            return json.dumps(fields, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(
                f"what {self.name} is to be told", f"cannot be written as JSON ({error})", "give it plain data"
            ) from error


class _Performance:
    """One program at work, and what the lab does for it meanwhile."""

    def __init__(self, command: Command, program: Program, leaf: Leaf) -> None:
        self._command = command
        self._program = program
        self._leaf = leaf
        self._log, self._stderr = Kept(_LOG), Kept(_LOG)
        self._over: Over | None = None
        self._mail: list[dict[str, Any]] = []
        self._subscriptions = [leaf.plain_post.subscribe(topic) for topic in command.topics] if leaf.plain_post else []

    def output(self) -> Any:
        """Follow it to its end.

        Raises:
            LeafFailed: There is none.
        """
        dialogue = Dialogue()
        try:
            for stream, part in self._program.events(timeout_s=self._command.timeout_s):
                if self._leaf.plain_post is not None:
                    self._leaf.plain_post.beat()
                if stream == "stderr":
                    self._stderr.add(part)
                else:
                    self._carry_out(dialogue.heard(part))
            self._carry_out(dialogue.ended())
        finally:
            self._keep_log()
        return self._verdict()

    def _carry_out(self, steps: Iterator[Step]) -> None:
        for step in steps:
            match step:
                case Said(text):
                    self._log.add(text.encode() + b"\n")
                case Over():
                    self._over = step
                    self._program.expires_at = min(self._program.expires_at, time.monotonic() + _GRACE_S)
                case Answer():
                    self._answer(step)
                case Tell(id=asked) | Check(id=asked) | Submit(id=asked):
                    try:
                        answer = self._done(step)
                    except LabError as error:
                        answer = answer_to(asked, "error", reason=str(error))
                    if answer is not None:
                        self._answer(answer)

    def _done(self, step: Tell | Check | Submit) -> Answer | None:
        post = self._leaf.plain_post
        if post is None:
            raise LabError("nobody is to be reached from here")
        match step:
            case Tell(target, topic, value, asked):
                if target is None:
                    post.publish(topic, value)
                else:
                    post.send(target, value)
                return None if asked is None else answer_to(asked, "sent")
            case Check(limit, asked):
                self._mail += [self._letter(message, None) for message in post.messages()]
                for topic, subscription in zip(self._command.topics, self._subscriptions, strict=True):
                    self._mail += [self._letter(message, topic) for message in subscription.waiting()]
                read, self._mail = self._mail[:limit], self._mail[limit:]
                return answer_to(asked, "messages", messages=read)
            case Submit(payload, asked):
                return answer_to(asked, "submitted", task_id=self._leaf.submit(payload))

    def _letter(self, message: Message, topic: str | None) -> dict[str, Any]:
        value = message.value
        is_pair = isinstance(value, dict) and value.keys() == {"content", "metadata"}
        return {
            "agent_id": message.sender.removeprefix(f"{self._leaf.run.run_id}/"),
            "topic": topic,
            "target": None if topic else self._leaf.task_id,
            "content": value["content"] if is_pair else value,
            "metadata": value["metadata"] if is_pair else {},
            "timestamp": message.sent_at,
        }

    def _answer(self, answer: Answer) -> None:
        if answer.fields["type"] == "error":
            self._log.add(f"[not done: {answer.fields['reason']}]\n".encode())
        self._program.say(answer.line)
        if self._program.unsaid > _UNREAD and self._over is None:
            self._over = Over(error=f"it does not read its answers: {self._program.unsaid} bytes of them are waiting")
            self._program.kill()

    def _keep_log(self) -> None:
        log, stderr = str(self._log), str(self._stderr)
        sys.stdout.write(log)  # of which a failure's row shows the tail
        sys.stderr.write(stderr)
        if log or stderr:
            text = log + ("\n--- standard error ---\n" + stderr if stderr else "")
            text = conceal(text, {name: os.environ.get(name, "") for name in self._command.env if looks_secret(name)})
            self._leaf.save(f"logs/{self._leaf.task_id}/{self._leaf.fence}.txt", text, kind="log")

    def _verdict(self) -> Any:
        program, over, name = self._program, self._over, self._command.name
        if over is not None and over.error is not None:
            raise LeafFailed(over.error)
        if over is not None and program.outcome == "ended" and program.code != 0:
            raise LeafFailed(f"{name} said done, and then ended with {exit_reason(program.code or 0)}")
        if over is not None and program.outcome in ("ended", "timeout"):
            return over.output
        match program.outcome:
            case "ended":
                raise LeafFailed(f"{name} ended without saying done ({exit_reason(program.code or 0)}){self._last()}")
            case "timeout":
                raise LeafFailed(f"{name} took more than {self._command.timeout_s:g} s and was ended{self._last()}")
            case "killed":
                raise LeafFailed(f"{name} was killed from outside{self._last()}")
            case limit:
                raise LeafFailed(f"{name} took more {_LIMITS.get(limit, limit)} than it may, and was ended")

    def _last(self) -> str:
        lines = str(self._stderr).strip().splitlines()
        return f": {lines[-1].strip()[:300]}" if lines else ""


_LIMITS: Mapping[str, str] = {"memory": "memory", "processes": "processes", "disk": "room on the disk"}


def _texts(name: str, value: Sequence[str | Path]) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidInput(f"Command {name}", f"must be a list of texts, got {value!r:.80}", 'write ["..."]')
    for part in value:
        if not isinstance(part, str | Path) or "\0" in str(part):
            raise InvalidInput(f"Command {name}", f"must be a list of texts, got {part!r:.80} in it")
    return tuple(map(str, value))


def _argument(part: str) -> str:
    """The absolute path of what names a file from here, all else as it is."""
    return os.path.abspath(part) if os.path.isfile(part) else part
