"""Runs untrusted programs, each in a fork of its own from a warm process, and says what became of them.

A fresh interpreter a program would cost 76 ms with numpy; a reused one would let a program meet what the last one left.
A fork of a warm process costs two milliseconds and begins the same every time. The process is replaced when it is lost:
that is one bad row, never a lost worker.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self, cast

from epsilon_lab.errors import LabError
from epsilon_lab.processes.companion import Cage, Companion, CompanionLost
from epsilon_lab.processes.confinement import mechanisms, spare_uids
from epsilon_lab.processes.container import NoEngine
from epsilon_lab.processes.environment import candidate_environment
from epsilon_lab.processes.limits import Limits

RunOutcome = Literal["crashed", "timeout", "memory", "too_large", "bad_type"]

_START_S = 60.0
_GRACE_S = 10.0
"""Seconds beyond a program's time in which its sandbox must have killed it and cleaned up."""

_WARM_MB, _OWN_PROCESSES, _IN_CONTAINER = 256, 8, 2
"""What a container has for the sandbox itself: MiB, and processes and threads. A program's limit is of address space,
and its processes may have it each, so that of the container is wider."""

_numbers = itertools.count()


class SpawnerFailed(LabError):
    """The candidate's side of a problem cannot be loaded, so no program can run."""


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What became of one program, as measured and seen from outside it."""

    outcome: RunOutcome | None
    """How it failed; None if it returned something."""

    output: bytes | None = None
    """What it returned, encoded; written by the program, so it may be anything. See data.decode."""

    error: str = ""
    """One line, where it failed."""

    traceback: str = ""
    """The program's own frames."""

    stdout: str = ""
    """The last of what it wrote to stdout and stderr."""

    seconds: float = 0.0
    """Wall time from fork to exit."""

    cpu_s: float = 0.0
    """CPU seconds, user and system, by the kernel's count; children it waited for included."""

    peak_mb: float = 0.0
    """Largest resident set, MiB, the warm interpreter's own pages included."""


class Unanswered(LabError):
    """A program that was asked gave no answer, and is dead.

    Attributes:
        report: What became of it.
    """

    def __init__(self, report: RunReport) -> None:
        self.report = report
        super().__init__(report.error)


class Spawner:
    """A warm sandbox for the programs of one problem; one program at a time, from one thread.

    Args:
        side: Pickle of a function without arguments that gives `(run, inputs)`, loaded once in the sandbox:
            `run(program)` is called, or, where that is None, the program's `entry` with the inputs. None for a sandbox
            that holds neither: then programs are asked, and find nothing there that was not asked of them.
        files: name -> content of the working directory, the same before every run.
        limits: What one run may take.
        entry: Name of the program's function.
        preload: Modules to import beforehand, besides the usual ones; None for not even those.
        tier: Use at most the mechanisms that this tier names (confinement.py), whatever the machine gives; None: all.
        image: Of a container that the sandbox lives in, besides what confines it there: Python of this version, numpy,
            and this package. None: in none.

    Raises:
        InvalidInput: There is no such tier.
    """

    def __init__(
        self,
        side: bytes | None,
        files: Mapping[str, bytes],
        limits: Limits,
        *,
        entry: str = "solve",
        preload: Sequence[str] | None = (),
        tier: str | None = None,
        image: str | None = None,
    ) -> None:
        self.limits = limits
        self.isolation = ""
        """Name of the confinement tier, proved; empty until the sandbox has started."""

        self.refused: dict[str, str] = {}
        """Mechanism -> why this machine does not give it."""

        self.not_stopped: list[str] = []
        """What the sandbox, attacking itself, could do; see probe.DEEDS."""

        self._setup: dict[str, Any] = {
            "side": side,
            "files": dict(files),
            "limits": asdict(limits),
            "entry": entry,
            "preload": None if preload is None else list(preload),
            "sys_path": [os.path.abspath(path) for path in sys.path] if image is None else [],
            "mechanisms": (allowed := mechanisms(tier)),
            "uids": spare_uids(next(_numbers)) if "uid" in allowed and image is None else [],
            "python": list(sys.version_info[:2]),
        }
        self._cage: Cage | None = None
        if image is not None:
            self._cage = Cage(
                image,
                memory_mb=_WARM_MB + (limits.memory_mb + limits.file_mb) * _IN_CONTAINER,
                processes=limits.processes + _OWN_PROCESSES,
                temporary_mb=2 * limits.file_mb + 16,
            )
        self._companion: Companion | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The warm process, or its keeper outside its namespaces; None before the first run and after its loss."""
        return None if self._companion is None else self._companion.pid

    def start(self) -> None:
        """Start the warm process if none runs; `run` does so itself.

        Raises:
            SpawnerFailed: The candidate's side cannot be loaded.
        """
        while self._companion is None:
            try:
                companion = Companion(
                    "epsilon_lab.processes.sandbox", environment=candidate_environment(), cage=self._cage
                )
            except NoEngine as error:
                raise SpawnerFailed(str(error)) from error
            try:
                ready = companion.call(self._setup, timeout_s=_START_S)
            except CompanionLost as lost:
                raise SpawnerFailed(f"the sandbox did not start: {lost}\n{lost.tail}".strip()) from lost
            if "error" in ready:
                companion.close()
                raise SpawnerFailed(
                    f"the problem's run or inputs cannot be loaded in the sandbox: {ready['error']}; "
                    f"use only what they close over and modules that are installed"
                )
            self.refused |= ready["refused"]
            if "isolation" in ready:
                self._companion = companion
                self.isolation = "container+" * (self._cage is not None) + ready["isolation"]
                self.not_stopped = ready["not_stopped"]
            else:  # half in a namespace it cannot leave
                companion.close()
                self._setup["mechanisms"] = [name for name in self._setup["mechanisms"] if name not in self.refused]

    def run(self, source: str, *, seed: int) -> RunReport:
        """Run a program to its end.

        Args:
            source: Python.
            seed: Of the `random` and numpy generators it begins with.

        Raises:
            SpawnerFailed: The candidate's side cannot be loaded.
        """
        return RunReport(**self._call({"source": source, "seed": seed, "question": None}))

    @contextmanager
    def session(self, source: str, *, seed: int) -> Iterator[Callable[[bytes], bytes]]:
        """Ask a program one question at a time: `with spawner.session(source, seed=1) as ask: ask(question)`.

        A question is the encoded tuple of the entry's arguments, an answer what it returned, encoded by the program,
        so it may be anything. The program is forked at the first question, knows no other before it has answered, and
        keeps what it remembers until the session ends. The limits hold for the session as a whole, and its time is what
        the program takes to answer. Nothing else can be run meanwhile.

        Raises (from `ask`):
            Unanswered: The program ended, was killed at a limit, or is dead since an earlier question.
            SpawnerFailed: The sandbox does not start.
        """
        message: dict[str, Any] = {"source": source, "seed": seed}
        ended: RunReport | None = None

        def ask(question: bytes) -> bytes:
            nonlocal ended
            if ended is None:
                reply = self._call(message | {"question": question})
                message.clear()
                if "answer" in reply:
                    return cast("bytes", reply["answer"])
                ended = RunReport(**reply)
            raise Unanswered(ended)

        try:
            yield ask
        finally:
            if not message and ended is None:
                self._call({"question": None})

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Say something to the warm process; its loss is a report like any other.

        Raises:
            SpawnerFailed: The candidate's side cannot be loaded.
        """
        self.start()
        assert self._companion is not None
        started = time.monotonic()
        try:
            return self._companion.call(message, timeout_s=self.limits.timeout_s + _GRACE_S)
        except CompanionLost as lost:
            self._companion = None
            report = RunReport(
                outcome="timeout" if lost.timed_out else "crashed",
                error=f"the program took its sandbox down ({lost}); the sandbox was replaced",
                stdout=lost.tail,
                seconds=time.monotonic() - started,
            )
            return asdict(report)

    def close(self) -> None:
        """End the warm process and whatever runs in it. A later `run` starts another."""
        if self._companion is not None:
            self._companion.close()
            self._companion = None
