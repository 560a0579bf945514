"""The judge as its worker knows it: bytes in, a verdict out, and a new process whenever one was lost.

A candidate's program never enters the judge's process, and the judge's process never imports a candidate's program:
they share neither memory nor files nor user id.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from epsilon_lab.errors import LabError
from epsilon_lab.messages.secrets import conceal
from epsilon_lab.processes.companion import Companion, CompanionLost
from epsilon_lab.processes.environment import held_secrets
from epsilon_lab.processes.spawner import SpawnerFailed, Unanswered
from epsilon_lab.search.verdict import Verdict

_START_S = 60.0


class JudgeFailed(LabError):
    """The judge's side of a problem cannot be loaded, or `setup` raised.

    Attributes:
        traceback: The user's own frames.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(message)


class Judge:
    """A warm process that scores outputs of one problem; one at a time, from one thread.

    Args:
        side: A packed function without arguments that gives `(score, check, setup, inputs)`; see agents/function.py.
        files: name -> content of its working directory.
        timeout_s: Wall seconds of one call of `score` or `check`; reading what they are given may take half of it.
    """

    def __init__(self, side: bytes, files: Mapping[str, bytes], *, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._order = {
            "side": side,
            "files": dict(files),
            "sys_path": [os.path.abspath(path) for path in sys.path],
            "parent": os.getpid(),
            "reading_s": timeout_s / 2,
        }
        self._companion: Companion | None = None

    @property
    def pid(self) -> int | None:
        """The warm process; None before the first call and after its loss."""
        return None if self._companion is None else self._companion.pid

    def start(self) -> None:
        """Start the process if none runs; `score` and `check` do so themselves.

        Raises:
            JudgeFailed: The judge's side cannot be loaded, or `setup` raised, ended the process or took too long.
        """
        if self._companion is not None:
            return
        # A worker's environment has lost its keys already, except those the user named for tasks and judges.
        companion = Companion("epsilon_lab.search.judge_main", environment={**os.environ, "PYTHONHASHSEED": "0"})
        try:
            ready = companion.call(self._order, timeout_s=_START_S + self.timeout_s)
        except CompanionLost as lost:
            raise JudgeFailed(f"the judge did not start: {lost}; see the problem's setup", lost.tail) from lost
        if "error" in ready:
            companion.close()
            raise JudgeFailed(f"the judge did not start: setup raised {ready['error']}", ready["traceback"])
        self._companion = companion

    def score(self, output: bytes, *, trial: dict[str, Any]) -> Verdict:
        """Ask for the score of an encoded output.

        Args:
            output: Bytes from a stranger.
            trial: The numbers of a `Trial`.
        """
        return _shown(self._hear({"op": "score", "output": output, "trial": trial}, "score"))

    def check(self, output: bytes, ask: Callable[[bytes], bytes]) -> Verdict:
        """Put an encoded output to the strict check; the outcome is `scored` if it passed.

        Args:
            output: Bytes from a stranger.
            ask: Calls the program's entry; see `Spawner.session`. The program's time is not the judge's.
        """
        return _shown(self._hear({"op": "check", "output": output}, "check", ask))

    def close(self) -> None:
        """End the process. A later call starts another."""
        if self._companion is not None:
            self._companion.close()
            self._companion = None

    def _hear(self, request: dict[str, Any], what: str, ask: Callable[[bytes], bytes] | None = None) -> Verdict:
        """Send a request, and the program's answers to what the judge asks meanwhile, until there is a verdict."""
        left = self.timeout_s
        try:
            self.start()
            assert self._companion is not None
            while True:
                began = time.monotonic()
                reply = self._companion.call(request, timeout_s=left)
                if ask is None or "question" not in reply:
                    return msgspec.convert(reply, Verdict)
                left = max(0.0, left - (time.monotonic() - began))
                request = _answer(ask, reply["question"])
        except JudgeFailed as failed:
            return Verdict(outcome="scorer_failed", error=str(failed), traceback=failed.traceback)
        except CompanionLost as lost:
            self._companion = None
            late = f"gave no answer in {self.timeout_s:g} s"
            how = late if lost.timed_out else f"ended the judge's process ({lost})"
            return Verdict(outcome="scorer_failed", error=f"{what} {how}; the judge was restarted", traceback=lost.tail)


def _shown(verdict: Verdict) -> Verdict:
    """A verdict as it may be recorded, and shown to proposers: without the keys that the judge was granted."""
    secrets = held_secrets()
    if not secrets:
        return verdict
    feedback = {conceal(name, secrets): conceal(text, secrets) for name, text in verdict.feedback.items()}
    error, traceback = conceal(verdict.error, secrets), conceal(verdict.traceback, secrets)
    return msgspec.structs.replace(verdict, feedback=feedback, error=error, traceback=traceback)


def _answer(ask: Callable[[bytes], bytes], question: bytes) -> dict[str, Any]:
    try:
        return {"answer": ask(question)}
    except Unanswered as failed:
        report = failed.report
        return {"outcome": report.outcome, "error": report.error, "traceback": report.traceback}
    except SpawnerFailed as failed:
        return {"outcome": "scorer_failed", "error": str(failed)}
