"""Where attacks are run and watched: everything they might reach, and witnesses that are not the program.

A file, a port, a process of the user's own stand there to be hit. While a program runs, a thread counts its processes
and their memory; afterwards it is asked what was written, who called, who still lives, and whether the next honest
program gets its right output. Linux only: it reads `/proc`.
"""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypedDict

from epsilon_lab.processes import native, tree
from epsilon_lab.processes.data import encode
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.spawner import RunReport, Spawner
from epsilon_lab.testing.attacks import LIMITS, Attack
from epsilon_lab.testing.census import pids

_DEADLINE_S = 15.0
"""Seconds beyond an attack's own time after which the ground ends the whole sandbox: it trusts no other deadline."""

_LOOK_S = 0.01

_IPC_RMID = 0

_VICTIM = """
import ctypes, sys
ctypes.CDLL(None).capset(bytes.fromhex("22050820") + bytes(4), bytes(24))
for line in sys.stdin: print(line, end="", flush=True)
"""
"""An ordinary process: it has no capability, though the user may be root, and answers each line with itself."""

_FILES = {"numbers.txt": b"1 2 3\n"}

HONEST = """\
import sys
def solve(x):
    return [x * 2, sum(map(int, open("numbers.txt").read().split())), sys._getframe().f_code.co_filename]
"""
_RIGHT = encode([42, 6, "candidate.py"])


class Target(TypedDict):
    """What an attack is told of its surroundings."""

    marker: str
    """The name under which it and all it starts can be found."""

    outside: str
    """A directory in which everybody may write."""

    shared_memory: str
    """A path in the shared-memory file system."""

    readable: str
    """A file with the secret that everybody may read."""

    private: str
    """A file with the secret that only the user may read."""

    kept: str
    """A directory with a file that must stay."""

    victim: int
    """A process of the user's, with the secret in its environment."""

    tcp: int
    udp: int
    free: int
    """Ports of 127.0.0.1: one that listens, one that receives, one that is called all the time."""

    socket: str
    """A unix socket that everybody may connect to."""

    abstract: str
    """The name of an abstract unix socket."""

    uid: int
    pid_namespace: str
    """The ground's own."""


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What was seen of an attack, from outside."""

    report: RunReport
    processes: int
    """Most that were seen at once."""

    threads: int
    """The same, each process's first one included."""

    memory_mb: float
    """Largest resident sets, summed over its processes, MiB."""

    scratch_mb: float
    """Most that lay in its working directory, MiB of blocks."""

    user_namespaces: bool
    """One of its processes was in a user namespace of its own."""

    survivors: list[str]
    written: list[str]
    visitors: list[str]
    """Which of the ground's ends were reached."""

    segments: list[str]
    """Shared memory that was not there before."""

    spoiled: bool
    """The private file's content or mode was changed."""

    canary_lives: bool
    leaked: bool
    """The secret came out."""

    victim_lives: bool
    sandbox_lives: bool
    next_is_right: bool
    """The honest program that ran next gave what it always gives."""

    overdue: bool
    """The ground had to end the sandbox."""

    @property
    def how(self) -> str:
        """What became of the program, in a few words."""
        if self.overdue:
            return "ended by the test's own deadline"
        if not self.sandbox_lives:
            return f"{self.report.outcome}, sandbox replaced"
        if self.report.outcome != "crashed":
            return self.report.outcome or "returned"
        return self.report.error.removeprefix("the program ")


class Ground:
    """Targets and witnesses; a context manager, used by one thread.

    Args:
        tier: The strongest tier that its sandboxes may give; None for the machine's best.
    """

    def __init__(self, tier: str | None = None) -> None:
        self._tier = tier
        self._stack = ExitStack()
        self._spawners: dict[Limits, Spawner] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._home = Path(tempfile.mkdtemp(prefix="epsilon-ground-"))
            stack.callback(shutil.rmtree, self._home)
            self._home.chmod(0o711)
            token = os.urandom(4).hex()
            self.secret = f"secret-{os.urandom(8).hex()}"
            outside = self._home / "outside"
            outside.mkdir()
            outside.chmod(0o777)
            (self._home / "kept").mkdir()
            (self._home / "kept" / "canary").touch()
            self._place("readable", 0o644)
            self._place("private", 0o600)
            self._tcp = self._listening(stack, socket.AF_INET, ("127.0.0.1", 0))
            self._udp = self._listening(stack, socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM)
            self._unix = self._listening(stack, socket.AF_UNIX, str(self._home / "socket"))
            (self._home / "socket").chmod(0o777)
            self._abstract = self._listening(stack, socket.AF_UNIX, f"\0epsilon-{token}")
            with socket.create_server(("127.0.0.1", 0)) as server:
                free = server.getsockname()[1]
            self.target = Target(
                marker=f"hostile-{token[:7]}",
                outside=str(outside),
                shared_memory=f"/dev/shm/hostile-{token}",  # noqa: S108 - the place itself is what is attacked
                readable=str(self._home / "readable"),
                private=str(self._home / "private"),
                kept=str(self._home / "kept"),
                victim=0,
                tcp=self._tcp.getsockname()[1],
                udp=self._udp.getsockname()[1],
                free=free,
                socket=str(self._home / "socket"),
                abstract=f"epsilon-{token}",
                uid=os.getuid(),
                pid_namespace=os.readlink("/proc/self/ns/pid"),
            )
            stack.callback(Path(self.target["shared_memory"]).unlink, missing_ok=True)
            self._segments = _segments()
            stack.callback(self.segments)
            stack.callback(self._bury)
            self._raise_victim()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def isolation(self) -> str:
        """The tier that its sandboxes have proved."""
        spawner = self._spawner(LIMITS)
        spawner.start()
        return spawner.isolation

    def run(self, attack: Attack) -> Aftermath:
        """Run an attack, and an honest program after it."""
        spawner = self._spawner(attack.limits)
        spawner.start()
        before = spawner.pid or 0
        with _Lookout(before, self.target["free"], attack.limits.timeout_s + _DEADLINE_S) as lookout:
            report = spawner.run(attack.source(self.target), seed=1)
        survivors = self.survivors()
        lives = spawner.pid == before
        honest = spawner.run(HONEST, seed=1)
        right = honest.outcome is None and honest.output == _RIGHT
        if not right:
            spawner.close()
        seen = Aftermath(
            report=report,
            processes=lookout.processes,
            threads=lookout.threads,
            memory_mb=lookout.memory / (1 << 20),
            scratch_mb=lookout.scratch / (1 << 20),
            user_namespaces=lookout.user_namespaces,
            survivors=survivors,
            written=self.written(),
            visitors=self.visitors() + ["free"] * lookout.was_called,
            segments=self.segments(),
            spoiled=self._is_spoiled(),
            canary_lives=(self._home / "kept" / "canary").exists(),
            leaked=self.secret.encode() in (report.output or b"") or self.secret in report.stdout + report.error,
            victim_lives=self.victim_lives,
            sandbox_lives=lives,
            next_is_right=right,
            overdue=lookout.overdue,
        )
        if not seen.victim_lives:
            self._bury()
            self._raise_victim()
        if seen.spoiled:
            self._place("private", 0o600)
        return seen

    @property
    def victim_lives(self) -> bool:
        """Whether the user's process still answers."""
        assert self._victim.stdin is not None
        assert self._victim.stdout is not None
        with suppress(BrokenPipeError):
            self._victim.stdin.write(b"?\n")
            return self._victim.stdout.readline() == b"?\n"
        return False

    def survivors(self) -> list[str]:
        """Processes that any attack of this ground has left: by their names and command lines."""
        marker = self.target["marker"].encode()
        found = []
        for pid in pids():
            with suppress(OSError):
                process = Path(f"/proc/{pid}")
                if tree.is_alive(pid) and any(marker in (process / name).read_bytes() for name in ("comm", "cmdline")):
                    found.append(f"{pid} {(process / 'comm').read_text().strip()}")
        return found

    def visitors(self) -> list[str]:
        """Which ends were reached since this was last asked."""
        found = []
        for name in ("tcp", "unix", "abstract"):
            with suppress(BlockingIOError):
                getattr(self, f"_{name}").accept()[0].close()
                found.append(name)
        with suppress(BlockingIOError):
            self._udp.recv(1)
            found.append("udp")
        return found

    def written(self) -> list[str]:
        """What was written where nothing may be; it is taken away."""
        found = [*Path(self.target["outside"]).iterdir(), Path(self.target["shared_memory"])]
        gone = []
        for path in found:
            with suppress(FileNotFoundError):
                path.unlink()
                gone.append(str(path))
        return gone

    def _spawner(self, limits: Limits) -> Spawner:
        if limits not in self._spawners:
            side = pickle.dumps(functools.partial(tuple, (None, (21,))))
            self._spawners[limits] = self._stack.enter_context(Spawner(side, _FILES, limits, tier=self._tier))
        return self._spawners[limits]

    def _listening(
        self, stack: ExitStack, family: int, address: Any, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        """A socket that the kernel answers for until somebody looks."""
        end = stack.enter_context(socket.socket(family, kind))
        end.bind(address)
        if kind is socket.SOCK_STREAM:
            end.listen()
        end.setblocking(False)
        return end

    def segments(self) -> list[str]:
        """Shared memory that has appeared since the ground was made; it is removed."""
        found = sorted(_segments() - self._segments)
        for segment in found:
            native.call("shmctl", int(segment), _IPC_RMID, None)
        return found

    def _place(self, name: str, mode: int) -> None:
        (self._home / name).write_text(self.secret)
        (self._home / name).chmod(mode)

    def _is_spoiled(self) -> bool:
        private = self._home / "private"
        return private.stat().st_mode & 0o777 != 0o600 or private.read_text() != self.secret

    def _raise_victim(self) -> None:
        self._victim = subprocess.Popen(
            [sys.executable, "-S", "-c", _VICTIM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={"SECRET": self.secret},
        )
        self.target["victim"] = self._victim.pid
        assert self.victim_lives

    def _bury(self) -> None:
        self._victim.kill()
        with self._victim:
            pass


def _segments() -> set[str]:
    """Ids of the shared memory segments of System V."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {line.split()[1] for line in lines}


@dataclass
class _Lookout:
    """A thread that watches a sandbox's process while a program runs in it."""

    sandbox: int
    port: int
    deadline_s: float
    processes: int = 0
    threads: int = 0
    memory: int = 0
    scratch: int = 0
    user_namespaces: bool = False
    was_called: bool = False
    overdue: bool = False
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._map = _text(self.sandbox, "uid_map")
        self._ours = self._descendants()
        self._until = monotonic() + self.deadline_s
        self._thread = threading.Thread(target=self._watch, name="lookout")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._look()
            if monotonic() > self._until and not self.overdue:
                self.overdue = True
                tree.kill_tree(self.sandbox)

    def _look(self) -> None:
        theirs = self._descendants() - self._ours
        self.processes = max(self.processes, len(theirs))
        memory = scratch = threads = 0
        for pid in theirs:
            with suppress(OSError):
                threads += len(os.listdir(f"/proc/{pid}/task"))
            statm = _text(pid, "statm").split()
            memory += int(statm[1]) * os.sysconf("SC_PAGE_SIZE") if statm else 0
            uid_map = _text(pid, "uid_map")
            self.user_namespaces |= uid_map is not None and bool(statm) and uid_map != self._map
            scratch = max(scratch, _on_disk(f"/proc/{pid}/cwd/"))
        if os.geteuid() != 0:  # who may not look through the process looks where such directories are
            scratch = max(map(_on_disk, glob(f"{tempfile.gettempdir()}/epsilon-scratch-*/work")), default=0)
        self.threads = max(self.threads, threads)
        self.memory = max(self.memory, memory)
        self.scratch = max(self.scratch, scratch)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.1) as caller:
            self.was_called |= bool(caller.recv(1))

    def _descendants(self) -> set[int]:
        found: set[int] = set()
        todo = [self.sandbox]
        while todo:
            below = set(tree.children(todo.pop())) - found
            found |= below
            todo += below
        return found


def _on_disk(directory: str) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(512 * entry.stat(follow_symlinks=False).st_blocks for entry in entries)
    except OSError:
        return 0


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
