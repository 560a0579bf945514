"""Runs an outside program: confined, limited, and ended with everything it started.

`run_program` waits for one that needs no talking to. `Program` is one to talk to, over its standard streams. Both begin
with a keeper (keeper.py), so that whatever happens here, also a SIGKILL, the program and all its descendants end.

Costs about a tenth of a second of start-up, most of it the keeper's interpreter.
"""

from __future__ import annotations

import functools
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypedDict, Unpack

import anyio
import anyio.to_thread

import epsilon_lab
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.processes import tree
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.confinement import mechanisms, tier
from epsilon_lab.processes.container import find_engine, new_name, remove_command, start_command
from epsilon_lab.processes.enclosure import belongings
from epsilon_lab.processes.environment import engine_environment, outside_environment
from epsilon_lab.processes.orphans import TAKES_LEAVE

ProgramOutcome = Literal["ended", "timeout", "memory", "processes", "disk", "killed"]

_HOUSE = Path(epsilon_lab.__file__).parent
_BOOT = """
import sys
sys.path.append(sys.argv[1])
from epsilon_lab.processes.keeper import main
main(int(sys.argv[2]))
"""
_START_S = 60.0
_PARTING_S = 10.0
_READ = 1 << 18

lacking: dict[str, str] = {}
"""Mechanism -> why this machine does not give it, once that is known."""


class Options(TypedDict, total=False):
    """How a program is run; see `Program`."""

    confine: bool
    network: bool
    reads: Sequence[Path | str]
    memory_mb: float | None
    processes: int
    disk_mb: int
    image: str | None
    most: str | None


class CannotStart(LabError):
    """An outside program does not exist, or cannot be executed."""


@dataclass(frozen=True)
class Finished:
    """What became of an outside program."""

    code: int | None
    """Its exit code, minus the number of the signal that killed it; None where a limit ended it."""

    stdout: str
    stderr: str
    """What it wrote; of more than the limit the middle is left out, which is said there."""

    outcome: ProgramOutcome
    """`ended` by itself, or by which limit; `killed`: nobody wanted it any more."""

    seconds: float
    isolation: str
    """What confined it: as in `lab.isolation`, or `container (docker)`, or `none` where nothing was to."""

    @property
    def is_ok(self) -> bool:
        """Whether it ended by itself, with exit code 0."""
        return self.outcome == "ended" and self.code == 0


class Kept:
    """The head and the tail of what a program writes.

    Args:
        limit: Bytes to keep.
    """

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, part: bytes) -> None:
        """Take some more."""
        self._total += len(part)
        room = self._half - len(self._head)
        self._head += part[:room]
        self._tail += part[max(0, room) :]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def __str__(self) -> str:
        tail = self._tail[-self._half :]
        left_out = self._total - len(self._head) - len(tail)
        middle = f"\n[{left_out} bytes are left out here]\n" if left_out else ""
        return self._head.decode("utf-8", "replace") + middle + tail.decode("utf-8", "replace")


class Program:
    """A running outside program, to be talked to by `stdin`, `stdout` and `stderr`; `close` it, or use it in a `with`.

    One thread uses it; `kill` may be called by any.

    Args:
        command: Program and arguments, or a text for /bin/sh.
        cwd: Its working directory, in which alone it may write, besides a temporary one.
        env: Variables, besides PATH, the language and the time zone.
        confine: Whether it is confined. Otherwise it can do what the user can; it is limited, and ended whole, as well.
        network: Whether it may reach the network.
        reads: Files and directories that it may read, besides the system's, the interpreter's and its own file.
        memory_mb: MiB that its processes may take in all; None: no limit of its own.
        processes: Processes at once, threads not counted.
        disk_mb: MiB by which its working directory may grow, and that one file may have.
        talks: Whether its standard input is a pipe; else it is empty.
        image: Of the container that it runs in, instead of being confined here; None: in none.
        most: The tier of confinement (confinement.py) that it has at most; None: the strongest there is.

    Attributes:
        stdin: Where to write to it; None unless it talks.
        stdout: What it writes.
        stderr: The same.
        isolation: What confines it: as in `lab.isolation`, or `container (docker)`, or `none`.
        refused: Mechanism -> why it does not confine it, though this machine gives it to others.
        outcome: How it ended; empty until it has.
        code: Its exit code then.
        expires_at: Monotonic seconds at which it will be ended.

    Raises:
        CannotStart: There is no such program, or it cannot be executed.
        InvalidInput: An argument is not what it should be.
        NoEngine: No container engine answers.
    """

    def __init__(
        self,
        command: Sequence[str] | str,
        *,
        cwd: Path | str,
        env: Mapping[str, str] | None = None,
        confine: bool = True,
        network: bool = False,
        reads: Sequence[Path | str] = (),
        memory_mb: float | None = None,
        processes: int = 256,
        disk_mb: int = 4096,
        talks: bool = False,
        image: str | None = None,
        most: str | None = None,
    ) -> None:
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else [os.fspath(part) for part in command]
        if not arguments:
            raise InvalidInput("command", "is empty", "give a program and its arguments")
        directory = os.path.realpath(cwd)
        if not os.path.isdir(directory):
            raise InvalidInput("cwd", f"{str(cwd)!r} is not a directory")
        given = [os.path.abspath(path) for path in reads]
        granted = dict(env or {})
        farewell: list[str] = []
        if image is not None:
            engine, name = find_engine(), new_name()
            arguments = start_command(
                engine, name, image, arguments, user=f"{os.geteuid()}:{os.getegid()}", network=network,
                memory_mb=memory_mb, processes=processes, writable=directory, readable=given, variables=granted,
            )  # fmt: skip
            farewell = remove_command(engine, name)
            self.isolation, confine, memory_mb, given = f"container ({os.path.basename(engine)})", False, None, []
            environment = engine_environment() | granted
        else:
            environment = outside_environment(confined=confine) | granted
        program = find_program(arguments[0], directory, environment.get("PATH", os.defpath))
        lent = [os.path.realpath(path) for path in given]
        self._started_at = time.monotonic()
        self.outcome: ProgramOutcome | Literal[""] = ""
        self.code: int | None = None
        self.seconds = 0.0
        self.expires_at = 0.0
        self._unsaid = bytearray()
        self._setup: dict[str, Any] = {
            "program": program,
            "arguments": arguments,
            "environment": environment,
            "directory": directory,
            "confined": confine,
            "network": network,
            "lent": lent,
            "readable": [*belongings(program), *given, *lent, *_of_the_interpreter(), *_of_the_network(network)],
            "listable": [str(_HOUSE.parent)],
            "memory_mb": memory_mb,
            "processes": processes,
            "disk_mb": disk_mb,
            "farewell": farewell,
        }
        self._most = mechanisms(most)
        self._talks = talks
        self._marks = [TAKES_LEAVE] if farewell else []
        self._start()

    def _start(self) -> None:
        """Start a keeper; with less confinement where the machine refuses some, which is known from then on."""
        while True:
            wanted = [name for name in self._most if name not in lacking] if self._setup["confined"] else []
            message = self._try(wanted)
            if "refused" not in message or "started" in message:
                break
            lacking.update(message["refused"])
            self.close()
        if "started" not in message:
            self.close()
            raise CannotStart(f"program {self._setup['program']!r} cannot be started: {message.get('error')}")
        self.refused = message["refused"]
        if not self._setup["farewell"]:
            self.isolation = tier(message["mechanisms"]) if self._setup["confined"] else "none"

    def _try(self, wanted: list[str]) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(_HOUSE.parent), str(theirs.fileno()), *self._marks],
                stdin=subprocess.PIPE if self._talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                bufsize=0,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._keeper.stdout is not None
        assert self._keeper.stderr is not None
        self.stdin: IO[bytes] | None = self._keeper.stdin
        if self.stdin is not None:
            os.set_blocking(self.stdin.fileno(), False)
        self.stdout: IO[bytes] = self._keeper.stdout
        self.stderr: IO[bytes] = self._keeper.stderr
        try:
            self._channel.send(self._setup | {"mechanisms": wanted}, _START_S)
            return self._channel.receive(_START_S)
        except (ChannelClosed, TimeoutError) as error:
            self._part()
            said = self.stderr.read().decode("utf-8", "replace").strip()[-2000:]
            return {"error": f"its keeper did not start ({error}) {said}".strip()}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, data: bytes) -> None:
        """Have bytes written to its standard input, as soon as it reads them, while its `events` are followed."""
        if self.stdin is not None:
            self._unsaid += data

    @property
    def unsaid(self) -> int:
        """Bytes that it has not read yet."""
        return len(self._unsaid)

    def hang_up(self) -> None:
        """Close its standard input; what it has not read is lost."""
        self._unsaid.clear()
        if self.stdin is not None:
            self.stdin.close()
            self.stdin = None

    def events(self, *, timeout_s: float) -> Iterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """What it writes, as it comes, until it has ended and nothing is left of it; then `outcome` and `code` hold.

        Args:
            timeout_s: Seconds from now until it is ended with all it started; `expires_at` may be moved meanwhile.
        """
        self.expires_at = time.monotonic() + timeout_s
        poll = select.poll()
        streams: dict[int, Literal["stdout", "stderr"]] = {
            self.stdout.fileno(): "stdout",
            self.stderr.fileno(): "stderr",
        }
        for fd in (self._channel.fileno(), *streams):
            poll.register(fd, select.POLLIN)
        while streams or not self.outcome:
            left = self.expires_at - time.monotonic()
            if left <= 0 and self.outcome:
                return  # somebody escaped, and keeps a pipe open: only where nothing adopts orphans
            if left <= 0:
                poll.unregister(self._channel.fileno())
                self._conclude("timeout")
                continue
            writing = self.stdin.fileno() if self.stdin is not None and self._unsaid else None
            if writing is not None:
                poll.register(writing, select.POLLOUT)
            for fd, _ in poll.poll(1000 * left + 1):
                if fd in streams:
                    if part := os.read(fd, _READ):
                        yield streams[fd], part
                    else:
                        poll.unregister(fd)
                        del streams[fd]
                elif fd == writing:
                    self._write(fd)
                else:
                    poll.unregister(fd)
                    self._conclude(self._heard())
            if writing is not None:
                poll.unregister(writing)

    def _write(self, fd: int) -> None:
        try:
            del self._unsaid[: os.write(fd, self._unsaid)]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it reads no more
            self.hang_up()

    def _heard(self) -> ProgramOutcome:
        """Take the keeper's last word."""
        try:
            message = self._channel.receive(_PARTING_S)
        except (ChannelClosed, TimeoutError):  # killed, by us or by somebody else
            return "killed"
        self.code = message.get("code")
        return "killed" if "error" in message else message["ended"] or "ended"

    def _conclude(self, outcome: ProgramOutcome) -> None:
        """See that nothing is left of it."""
        self._part()
        self.outcome = outcome
        self.seconds = time.monotonic() - self._started_at
        self.expires_at = time.monotonic() + _PARTING_S

    def finish(self, timeout_s: float, output_limit: int) -> Finished:
        """Wait for its end.

        Args:
            timeout_s: Seconds from now until it is ended with all it started.
            output_limit: Bytes of stdout to keep, and as many of stderr.
        """
        kept = {"stdout": Kept(output_limit), "stderr": Kept(output_limit)}
        for stream, part in self.events(timeout_s=timeout_s):
            kept[stream].add(part)
        assert self.outcome
        return Finished(
            code=self.code,
            outcome=self.outcome,
            seconds=self.seconds,
            isolation=self.isolation,
            **{name: str(text) for name, text in kept.items()},
        )

    def kill(self) -> None:
        """End it and all it started, from any thread; who follows it sees it end."""
        self._channel.hang_up()

    def close(self) -> None:
        """End it and all it started, if it has not ended."""
        self._part()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _part(self) -> None:
        """Have the keeper end everything and go; where it hangs, do its work."""
        self._channel.close()
        try:
            self._keeper.wait(_PARTING_S)
        except subprocess.TimeoutExpired:
            tree.kill_tree(self._keeper.pid)
            self._keeper.wait()


def run_program(
    command: Sequence[str] | str,
    *,
    cwd: Path | str,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    output_limit: int = 1 << 20,
    **options: Unpack[Options],
) -> Finished:
    """Run an outside program to its end, or to a limit; nothing it started is left then, nor after an exception.

    Args:
        command: Program and arguments, or a text for /bin/sh.
        cwd: Its working directory.
        timeout_s: Seconds it may take.
        env: Variables, besides PATH, the language and the time zone.
        output_limit: Bytes of stdout to keep, head and tail, and as many of stderr.
        **options: Those of `Program`.

    Raises:
        CannotStart: There is no such program, or it cannot be executed.
        InvalidInput: An argument is not what it should be.
    """
    with Program(command, cwd=cwd, env=env, **options) as program:
        return program.finish(timeout_s, output_limit)


async def run_program_async(
    command: Sequence[str] | str,
    *,
    cwd: Path | str,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    output_limit: int = 1 << 20,
    **options: Unpack[Options],
) -> Finished:
    """`run_program` for an event loop: who is cancelled has ended it before the cancellation goes on."""
    start = functools.partial(Program, command, cwd=cwd, env=env, **options)
    with anyio.CancelScope(shield=True):
        program = await anyio.to_thread.run_sync(start)
    finished: list[Finished] = []
    is_over = anyio.Event()

    async def finish() -> None:
        with anyio.CancelScope(shield=True):
            try:
                finished.append(await anyio.to_thread.run_sync(program.finish, timeout_s, output_limit))
            finally:
                await anyio.to_thread.run_sync(program.close)
                is_over.set()

    async with anyio.create_task_group() as group:
        group.start_soon(finish)
        try:
            await is_over.wait()
        except BaseException:
            program.kill()
            raise
    return finished[0]


def find_program(name: str, directory: str, path: str) -> str:
    """Find an executable as a shell would: by path, from a directory on, or in PATH.

    Raises:
        CannotStart: There is none.
    """
    found = os.path.join(directory, name) if os.sep in name else shutil.which(name, path=path)
    if found is None:
        raise CannotStart(f"there is no program {name!r} in PATH ({path}); install it, or give its path")
    if not os.path.isfile(found) or not os.access(found, os.X_OK):
        there = "is not executable" if os.path.exists(found) else "does not exist"
        raise CannotStart(f"program {found!r} {there}")
    return found


def _of_the_interpreter() -> list[str]:
    """A program may be one in Python, and import what is installed, or our module for agents."""
    installed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    return [*belongings(sys.executable), sys.prefix, sys.base_prefix, *installed, str(_HOUSE)]


def _of_the_network(wanted: bool) -> list[str]:
    return [os.path.realpath("/etc/resolv.conf")] if wanted else []
