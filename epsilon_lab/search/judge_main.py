"""The judge's process: no program ever enters it. It sees bytes, makes data of them, and asks the problem's scorer.

It holds what candidates must not: scorer, check, the judge's files and the state that `setup` made once. It dies with
the process that asks.
"""

from __future__ import annotations

import inspect
import io
import linecache
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from epsilon_lab.errors import Cheat, LabError
from epsilon_lab.processes import orphans
from epsilon_lab.processes.account import frames, one_line
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.data import Malformed, decode, encode
from epsilon_lab.processes.scratch import Scratch
from epsilon_lab.search.evaluation import Outcome
from epsilon_lab.search.problem import Trial
from epsilon_lab.search.verdict import Verdict, read_check, read_score

_LOG = 1 << 20  # bytes; what a scorer prints is kept for its failure, the last of it
_QUESTION = 1 << 26  # bytes of one question


def main(fd: int) -> None:
    """Judge until the channel closes."""
    with suppress(ChannelClosed):
        _sit(Channel(socket.socket(fileno=fd)))


def _sit(channel: Channel) -> None:
    order = channel.receive()
    if sys.platform == "linux":
        orphans.die_with_parent(order["parent"])
    else:
        orphans.watch_lifeline(channel.fileno())
    os.set_inheritable(channel.fileno(), False)
    sys.path[:] = order["sys_path"]
    scratch = Scratch(order["files"], None)
    try:
        os.chdir(scratch.path)
        try:
            court = Court(
                *load_side(order["side"]), exchange=partial(_exchange, channel), read=partial(_read, order["reading_s"])
            )
        except Exception as error:  # noqa: BLE001 - whatever a user's setup raises is told to the user
            channel.send({"error": one_line(error), "traceback": frames(error, skip=1)})
            return
        channel.send({})
        while True:
            channel.send(msgspec.to_builtins(court.hear(channel.receive())))
            with suppress(OSError):
                if os.fstat(1).st_size > _LOG:
                    os.ftruncate(1, 0)
                    os.lseek(1, 0, os.SEEK_SET)
    finally:
        os.chdir("/")
        scratch.remove()


def load_side(side: bytes) -> Any:
    """Unpickle what the problem's author wrote, and the source lines that tracebacks will show."""
    stream = io.BytesIO(side)
    bundle = pickle.load(stream)
    for file, text in pickle.load(stream).items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return bundle()


def _exchange(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    channel.send(message)
    return channel.receive()


def _read(limit_s: float, blob: bytes) -> Any:
    """Decode what a stranger wrote, in bounded time: with keys that all hash alike a megabyte takes minutes.

    Raises:
        Malformed: It is no data, or takes longer to read.
    """

    def give_up(*_: object) -> None:
        raise Malformed(f"it takes more than {limit_s:g} s to read")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        return decode(blob)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class NoAnswer(LabError):
    """The program that `check` asks gave no answer, or one that is no data."""


class Witness:
    """The program, as a `check` may ask it. Its first failure is the last word on it, whatever `check` makes of that.

    Args:
        exchange: Sends a message to the worker and returns its answer.
        read: Decodes an answer.
    """

    def __init__(self, exchange: Callable[[dict[str, Any]], dict[str, Any]], read: Callable[[bytes], Any]) -> None:
        self._exchange = exchange
        self._read = read
        self._asked = 0
        self.failure: Verdict | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Call the program's entry.

        Raises:
            NoAnswer: It failed, now or earlier.
            NotData, TooLarge: The arguments cannot be sent.
        """
        if self.failure is None:
            self._asked += 1
            reply = self._exchange({"question": encode(arguments, _QUESTION)})
            if "answer" in reply:
                try:
                    return self._read(reply["answer"])
                except Malformed as error:
                    reply = {"outcome": "bad_type", "error": f"the answer is no data: {error}"}
            verdict = msgspec.convert(reply, Verdict)
            self.failure = msgspec.structs.replace(
                verdict, error=f"asked by the check ({self._asked}): {verdict.error}"
            )
        raise NoAnswer(self.failure.error)


class Court:
    """The scorer at work: turns what user code returns or raises into a verdict.

    Args:
        score: The problem's `score`.
        check: The problem's `check`, or None.
        setup: The problem's `setup`, or None; it is called here, once.
        inputs: The problem's inputs, for the trial.
        exchange: See `Witness`.
        read: Decodes an output.
    """

    def __init__(
        self,
        score: Callable[..., Any],
        check: Callable[..., Any] | None,
        setup: Callable[[], Any] | None,
        inputs: tuple[Any, ...],
        *,
        exchange: Callable[[dict[str, Any]], dict[str, Any]],
        read: Callable[[bytes], Any],
    ) -> None:
        self._score = score
        self._check = check
        self._inputs = inputs
        self._state = setup() if setup is not None else None
        self._exchange = exchange
        self._read = read
        self._takes_trial = _takes(score, "trial")
        self._takes_ask = check is not None and _takes(check, "ask")

    def hear(self, request: dict[str, Any]) -> Verdict:
        """Judge one output.

        Args:
            request: `op`, "score" or "check"; `output`, encoded; `trial`, its numbers.
        """
        try:
            output = self._read(request["output"])
        except Malformed as error:
            return Verdict(outcome="bad_type", error=f"the output is no data: {error}")
        checking = request["op"] == "check"
        witness = Witness(self._exchange, self._read)
        try:
            if checking:
                assert self._check is not None
                answer = self._check(output, witness) if self._takes_ask else self._check(output)
            elif self._takes_trial:
                answer = self._score(output, Trial(**request["trial"], inputs=self._inputs, state=self._state))
            else:
                answer = self._score(output)
            verdict = read_check(answer) if checking else read_score(answer)
        except Cheat as cheat:
            verdict = Verdict(outcome="cheat", error=str(cheat) or "the scorer calls this output a cheat")
        except (SystemExit, KeyboardInterrupt) as error:
            verdict = Verdict(outcome="scorer_failed", error=f"the scorer raised {one_line(error)}")
        except Exception as error:  # noqa: BLE001 - a scorer raises what it likes: that is how it says "invalid"
            outcome: Outcome = "check_failed" if checking else "invalid"
            verdict = Verdict(outcome=outcome, error=one_line(error), traceback=frames(error, skip=1))
        return witness.failure or verdict


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Tell whether a function wants a second argument: it has one without a default, or one of that name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (positional[1].default is inspect.Parameter.empty or positional[1].name == name)
