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
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from epsilon_lab.errors import Cheat
from epsilon_lab.processes import orphans
from epsilon_lab.processes.account import frames, one_line
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.data import Malformed, decode
from epsilon_lab.processes.scratch import Scratch
from epsilon_lab.search.evaluation import Outcome
from epsilon_lab.search.problem import Trial
from epsilon_lab.search.verdict import Verdict, read_check, read_score

_LOG = 1 << 20  # bytes; what a scorer prints is kept for its failure, the last of it


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
            court = Court(*_load(order["side"]))
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


def _load(side: bytes) -> Any:
    """Unpickle what the problem's author wrote, and the source lines that tracebacks will show."""
    stream = io.BytesIO(side)
    bundle = pickle.load(stream)
    for file, text in pickle.load(stream).items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return bundle()


class Court:
    """The scorer at work: turns what user code returns or raises into a verdict.

    Args:
        score: The problem's `score`.
        check: The problem's `check`, or None.
        setup: The problem's `setup`, or None; it is called here, once.
        inputs: The problem's inputs, for the trial.
    """

    def __init__(
        self,
        score: Callable[..., Any],
        check: Callable[[Any], Any] | None,
        setup: Callable[[], Any] | None,
        inputs: tuple[Any, ...],
    ) -> None:
        self._score = score
        self._check = check
        self._inputs = inputs
        self._state = setup() if setup is not None else None
        self._takes_trial = takes_trial(score)

    def hear(self, request: dict[str, Any]) -> Verdict:
        """Judge one output.

        Args:
            request: `op`, "score" or "check"; `output`, encoded; `trial`, its numbers.
        """
        try:
            output = decode(request["output"])
        except Malformed as error:
            return Verdict(outcome="bad_type", error=f"the output is no data: {error}")
        checking = request["op"] == "check"
        try:
            if checking:
                assert self._check is not None
                answer = self._check(output)
            elif self._takes_trial:
                answer = self._score(output, Trial(**request["trial"], inputs=self._inputs, state=self._state))
            else:
                answer = self._score(output)
        except Cheat as cheat:
            return Verdict(outcome="cheat", error=str(cheat) or "the scorer calls this output a cheat")
        except (SystemExit, KeyboardInterrupt) as error:
            return Verdict(outcome="scorer_failed", error=f"the scorer raised {one_line(error)}")
        except Exception as error:  # noqa: BLE001 - a scorer raises what it likes: that is how it says "invalid"
            outcome: Outcome = "check_failed" if checking else "invalid"
            return Verdict(outcome=outcome, error=one_line(error), traceback=frames(error, skip=1))
        return read_check(answer) if checking else read_score(answer)


def takes_trial(score: Callable[..., Any]) -> bool:
    """Tell whether a scorer wants the trial: it has a second positional argument without a default, or called so."""
    try:
        parameters = list(inspect.signature(score).parameters.values())
    except (TypeError, ValueError):
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 and (positional[1].default is inspect.Parameter.empty or positional[1].name == "trial")
