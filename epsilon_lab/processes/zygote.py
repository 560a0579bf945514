"""Forks one program at a time from a warm, single-threaded process, and sees it to its end.

A fresh interpreter for each would cost 76 ms with numpy; a fork costs a millisecond or two, and begins the same every
time.

What comes back from a program is bytes and exit codes. The clocks are read here, not there, so a program that patches
`time` changes nothing; CPU time is the kernel's own count.
"""

from __future__ import annotations

import gc
import io
import linecache
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn

from epsilon_lab.processes import tree
from epsilon_lab.processes.account import frames, one_line
from epsilon_lab.processes.channel import LENGTH, Channel
from epsilon_lab.processes.companion import signal_name
from epsilon_lab.processes.confinement import Confinement
from epsilon_lab.processes.data import Malformed, NotData, TooLarge, decode, encode
from epsilon_lab.processes.limits import Limits, loosen_memory
from epsilon_lab.processes.scratch import Scratch
from epsilon_lab.processes.watch import STORY, Interview, Watch

_RESULT_FD = 3
_READ = 1 << 18
_FILE = "candidate.py"


class Zygote:
    """Forks programs and reports what became of each."""

    def __init__(
        self,
        *,
        channel: Channel,
        scratch: Scratch,
        confinement: Confinement,
        limits: Limits,
        entry: str,
        run: Callable[[Any], Any] | None,
        inputs: tuple[Any, ...],
    ) -> None:
        self.channel = channel
        self.scratch = scratch
        self.confinement = confinement
        self.limits = limits
        self.entry = entry
        self.run = run
        self.inputs = inputs
        self._held = confinement.held
        self._bounds = limits.bounds(alone=confinement.uid is not None)
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def serve(self) -> NoReturn:
        """Run what is asked for, one program at a time, until the channel closes.

        Raises:
            ChannelClosed: Nobody asks any more; whatever ran is dead.
        """
        home = self.scratch.path
        os.environ.update(HOME=home, TMPDIR=home, TEMP=home, TMP=home)
        tempfile.tempdir = None  # it remembers where our own temporary files are
        sys.path.insert(0, home)
        sys.argv[:] = [_FILE]
        sys.stdout = io.TextIOWrapper(
            io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
        gc.collect()
        gc.freeze()  # no collection of a fork touches, and so copies, what was loaded before
        while True:
            request = self.channel.receive()
            self.channel.send(self.see_through(request["source"], request["seed"], request["question"]))

    def see_through(self, source: str, seed: int, question: bytes | None) -> dict[str, Any]:
        """Run a program to its end; if there is a question, one that is asked it and those that follow."""
        asked = question is not None
        answer, result_end = (end.detach() for end in socket.socketpair()) if asked else os.pipe()
        prints, print_end = os.pipe()
        parent = os.getpid()
        watch: Watch
        if question is None:
            watch = Watch(answer, prints, self.channel, self.limits)
        else:
            watch = Interview(answer, prints, self.channel, self.limits, question)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                self._become(parent, print_end, result_end)
                _perform(source, seed, self.entry, self.run, self.inputs, self.limits, asked=asked)
            finally:
                os._exit(70)
        os.close(result_end)
        os.close(print_end)
        try:
            watch.until_exit(pid)
            _, status, usage = os.wait4(pid, 0)
            seconds = time.monotonic() - started
        finally:
            # Also when the channel closed: then all this ends here, and so does the program.
            if "namespaces" in self._held:
                tree.empty_namespace()
            else:
                tree.reap_children()
        watch.drain()
        if self.scratch.restore():
            self.confinement.renew(self.scratch.path)
        return _verdict(watch.answer, status, watch.stopped, self.limits) | {
            "stdout": watch.tail.decode("utf-8", "replace"),
            "seconds": seconds,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20),
        }

    def _become(self, parent: int, print_end: int, result_end: int) -> None:
        """In the fork: turn into a process that has nothing of ours."""
        os.setsid()
        os.chdir(self.scratch.path)
        os.umask(0o077)
        self._bounds.impose()
        self.confinement.enter(parent)
        os.dup2(print_end, 1)
        os.dup2(print_end, 2)
        os.dup2(result_end, _RESULT_FD)
        os.closerange(_RESULT_FD + 1, self._descriptors)


def _verdict(answer: bytearray, status: int, stopped: str, limits: Limits) -> dict[str, Any]:
    """Tell an output from each kind of failure. Whatever the program itself says can only fail it."""
    if stopped == "timeout" or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return _failed("timeout", f"the program ran for more than {limits.timeout_s:g} s and was killed")
    if stopped == "too_large":
        return _failed("too_large", str(TooLarge(limits.output_bytes)))
    if stopped == "done":
        return {"outcome": None, "output": b"", "error": "", "traceback": ""}
    if stopped:
        return _failed("crashed", stopped)
    if os.WIFSIGNALED(status):
        return _failed("crashed", f"the program was killed by {signal_name(os.WTERMSIG(status))}")
    if os.WEXITSTATUS(status):
        return _failed("crashed", f"the program ended with exit code {os.WEXITSTATUS(status)}")
    if answer[:1] == b"o":
        return {"outcome": None, "output": bytes(memoryview(answer)[1:]), "error": "", "traceback": ""}
    if answer[:1] == b"e" and len(answer) <= STORY:
        with suppress(Malformed, ValueError, TypeError):
            outcome, error, trace = decode(bytes(answer[1:]))
            if outcome in ("crashed", "memory", "too_large", "bad_type") and type(error) is type(trace) is str:
                return _failed(outcome, error, trace)
    return _failed("crashed", "the program ended before it returned an output (exit code 0)")


def _failed(outcome: str, error: str, trace: str = "") -> dict[str, Any]:
    return {"outcome": outcome, "output": None, "error": error, "traceback": trace}


# --- in the fork, from here on ---------------------------------------------------------------------------------------


def _perform(
    source: str,
    seed: int,
    entry: str,
    run: Callable[[Any], Any] | None,
    inputs: tuple[Any, ...],
    limits: Limits,
    *,
    asked: bool,
) -> NoReturn:
    """Run a program and write its output, or its answers, or how it failed; then end, whatever it has left running."""
    leave = os._exit
    say = _frame if asked else _write
    try:
        program = _program(source, seed)
        if asked:
            function = _entry(program, entry)
            for question in _questions():
                say(b"o" + encode(function(*question), limits.output_bytes))
            leave(0)
        output = run(program) if run is not None else _entry(program, entry)(*inputs)
        answer = b"o" + encode(output, limits.output_bytes)
    except NotData as error:
        answer = _story("bad_type", str(error))
    except TooLarge as error:
        answer = _story("too_large", str(error))
    except MemoryError as error:
        loosen_memory()
        answer = _story("memory", f"the program asked for more than {limits.memory_mb:g} MiB", error)
    except BaseException as error:  # noqa: BLE001 - even SystemExit is here only one program's way to fail
        answer = _story("crashed", _say(error), error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    say(answer)
    leave(0)


def _program(source: str, seed: int) -> ModuleType:
    """Make a module of a program, with dice of its own."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    program = ModuleType("candidate")
    program.__file__ = _FILE
    sys.modules["candidate"] = program
    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    exec(compile(source, _FILE, "exec"), program.__dict__)  # noqa: S102 - what this process is for
    return program


def _entry(program: ModuleType, entry: str) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(program, entry, None)
    if function is None:
        raise NameError(f"the program defines no function {entry!r}")
    return function


def _questions() -> Iterator[tuple[Any, ...]]:
    """The arguments of each call, as they come; there is never more than one question on the way."""
    held = bytearray()
    while True:
        while len(held) < LENGTH.size or len(held) < LENGTH.size + LENGTH.unpack_from(held)[0]:
            part = os.read(_RESULT_FD, _READ)
            if not part:
                return
            held += part
        yield decode(bytes(memoryview(held)[LENGTH.size :]))
        held.clear()


def _frame(answer: bytes) -> None:
    _write(LENGTH.pack(len(answer)) + answer)


def _write(answer: bytes, write: Callable[[int, Any], int] = os.write) -> None:
    rest = memoryview(answer)
    while rest:
        rest = rest[write(_RESULT_FD, rest) :]


def _story(outcome: str, line: str, error: BaseException | None = None) -> bytes:
    return b"e" + encode((outcome, line, "" if error is None else frames(error, file=_FILE, skip=2)))


def _say(error: BaseException) -> str:
    line = one_line(error)
    if isinstance(error, SystemExit):
        return f"{line} (the program called sys.exit)"
    if isinstance(error, ModuleNotFoundError) and not os.access(io.__file__, os.R_OK):
        return f"{line}; here a program can import the usual standard modules, numpy, and what the seed program imports"
    return line
