"""Hostile programs, as data: what a sandbox is worth is what it does to these, not what its settings say.

Thirty-nine programs make the table; a second list holds what a harder look found. Each says what it tries and which
mechanisms hold it, any one of them enough. Whether it was held is told from outside, by what `Ground` saw: a file that
must not exist, a process that must live, a port nobody may reach. No program is believed about itself.

They attack only what the ground gives them, and bound their own damage (a fork bomb of 128, 600 MiB in all), because
on a weak tier they succeed: that a guard is missing must show in a test, not in the machine.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from epsilon_lab.processes.limits import Limits

if TYPE_CHECKING:
    from epsilon_lab.testing.ground import Aftermath, Target

Mechanism = Literal["limits", "unprivileged", "uid", "namespaces", "landlock", "seccomp"]
"""The parts of a tier's name; `unprivileged` is any program that does not run as root."""

_MEMORY_MB = 256
_PROCESSES = 32
_FILE_MB = 16

LIMITS = Limits(timeout_s=20, memory_mb=_MEMORY_MB, output_mb=4, processes=_PROCESSES, file_mb=_FILE_MB)
"""What an attack may take: time enough on a busy machine, so that a timeout means that it would never have ended."""

SHORT = replace(LIMITS, timeout_s=0.6)
"""The same for one that never ends by itself."""

_PRELUDE = """\
import ctypes, errno, os, signal, socket, sys, time
TARGET = {target!r}
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, TARGET["marker"].encode())  # what descends from this is known by its name

def call(name, *arguments):
    got = getattr(libc, name)(*arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def overwritten():
    # The warm process has what this fork has, at the same address: here, the file name that programs are compiled by.
    name = sys.modules["epsilon_lab.processes.zygote"]._FILE
    return id(name) + sys.getsizeof(name) - len(name) - 1, b"hijacked.py!"

def solve(*_):
"""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A hostile program and what is known of it."""

    number: int
    name: str
    tries: str
    body: str
    """Of its `solve`; see `source`."""

    was_held: Callable[[Aftermath], bool]
    """Whether what was seen from outside means that it failed."""

    held_by: frozenset[Mechanism]
    """Any of these holds it."""

    endless: bool = False
    """It does not end by itself, so it runs under `SHORT`."""

    only_where_held: bool = False
    """Where nothing holds it, it would hit every process of its user, or cost many seconds: not to be run there."""

    @property
    def limits(self) -> Limits:
        """What it may take."""
        return SHORT if self.endless else LIMITS

    def is_held_by(self, tier: str) -> bool:
        """Tell whether a tier promises to hold it, when programs are started from this process."""
        mechanisms: set[str] = {"limits", *tier.split("+")}
        if "uid" in mechanisms or os.geteuid() != 0:
            mechanisms.add("unprivileged")
        return bool(self.held_by & mechanisms)

    def is_dared_on(self, tier: str) -> bool:
        """Tell whether it may be run on a tier at all."""
        return not self.only_where_held or self.is_held_by(tier)

    def source(self, target: Target) -> str:
        """The program, aimed at a target."""
        return _PRELUDE.format(target=target) + textwrap.indent(self.body, "    ")


def _ends_as(*outcomes: str | None) -> Callable[[Aftermath], bool]:
    """It failed by itself or was ended, in time; the sandbox lives and nothing else does."""
    return lambda seen: seen.report.outcome in outcomes and seen.sandbox_lives and not seen.survivors


def _nothing_survives(seen: Aftermath) -> bool:
    return seen.sandbox_lives and not seen.survivors


def _few_processes(seen: Aftermath) -> bool:
    return seen.processes <= _PROCESSES and _nothing_survives(seen)


def _little_memory(seen: Aftermath) -> bool:
    return seen.memory_mb <= 1.5 * _MEMORY_MB


def _one_file_is_short(seen: Aftermath) -> bool:
    return seen.scratch_mb <= _FILE_MB


def _little_on_disk(seen: Aftermath) -> bool:
    return seen.scratch_mb < 100


def _nothing_written(seen: Aftermath) -> bool:
    return not seen.written


def _nothing_leaked(seen: Aftermath) -> bool:
    return not seen.leaked


def _nobody_called(seen: Aftermath) -> bool:
    return not seen.visitors


def _sandbox_lives(seen: Aftermath) -> bool:
    return seen.sandbox_lives


def _victim_lives(seen: Aftermath) -> bool:
    return seen.victim_lives


def _next_is_right(seen: Aftermath) -> bool:
    return seen.next_is_right


def _nothing_executed(seen: Aftermath) -> bool:
    return "executed 42" not in seen.report.stdout


def _same_user_namespace(seen: Aftermath) -> bool:
    return not seen.user_namespaces


def _measured_outside(seen: Aftermath) -> bool:
    return seen.report.cpu_s > 0.01 and seen.report.seconds > 0.01


def _told_as_a_crash(seen: Aftermath) -> bool:
    return seen.report.outcome == "crashed"


_ALWAYS: tuple[Mechanism, ...] = ("limits",)
_WALLS: tuple[Mechanism, ...] = ("namespaces", "landlock")
_SIGNALS: tuple[Mechanism, ...] = ("uid", "namespaces", "landlock", "seccomp")
_TRACES: tuple[Mechanism, ...] = ("unprivileged", "landlock", "seccomp")
"""Who is not root cannot trace what is not dumpable."""

_Row = tuple[str, str, str, Callable[["Aftermath"], bool], tuple[Mechanism, ...]]


def _numbered(rows: list[_Row], *, first: int) -> tuple[Attack, ...]:
    return tuple(
        Attack(
            number=number,
            name=name,
            tries=tries,
            body=body.strip("\n"),
            was_held=was_held,
            held_by=frozenset(held_by),
            endless=name in _ENDLESS,
            only_where_held=name in _ONLY_WHERE_HELD,
        )
        for number, (name, tries, body, was_held, held_by) in enumerate(rows, first)
    )


_ENDLESS = frozenset(
    {"python-loop", "c-loop", "regex", "ignored-sigxcpu", "sleep", "stop-itself", "memory-of-many", "fork-200"}
    | {"fork-bomb", "many-files", "new-user-namespace"}
)
_ONLY_WHERE_HELD = frozenset({"kill-all", "stop-zygote"})

ATTACKS = _numbered(
    [
        ("python-loop", "never ends, in Python", "while True: pass", _ends_as("timeout"), _ALWAYS),
        (
            "c-loop",
            "never ends, in C, where no Python signal handler runs",
            "import itertools\nsum(itertools.repeat(1))",
            _ends_as("timeout"),
            _ALWAYS,
        ),
        (
            "regex",
            "never ends, in a regular expression",
            "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
            _ends_as("timeout"),
            _ALWAYS,
        ),
        (
            "ignored-sigxcpu",
            "ignores the signal that announces the end of its CPU time",
            "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            _ends_as("timeout"),
            _ALWAYS,
        ),
        ("sleep", "uses no CPU time and never ends", "time.sleep(1000)", _ends_as("timeout"), _ALWAYS),
        (
            "stop-itself",
            "stops itself, so that it never ends",
            "os.kill(os.getpid(), signal.SIGSTOP)\nwhile True: time.sleep(1)",
            _ends_as("timeout", "crashed"),
            _ALWAYS,
        ),
        ("bytearray-8gib", "takes 8 GiB", "return len(bytearray(8 << 30))", _ends_as("memory"), _ALWAYS),
        (
            "numpy-8gib",
            "takes 8 GiB in an array",
            "import numpy\nreturn float(numpy.ones(1 << 30).sum())",
            _ends_as("memory"),
            _ALWAYS,
        ),
        (
            "memory-of-many",
            "takes 600 MiB in six processes, each below its limit",
            """
for _ in range(6):
    if os.fork() == 0:
        kept = bytearray(b"x") * (100 << 20)
        time.sleep(1000)
time.sleep(1000)
""",
            _little_memory,
            ("seccomp",),
        ),
        (
            "fork-200",
            "starts 200 processes that sit there",
            """
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(1000)
    except OSError:
        pass
time.sleep(1000)
""",
            _few_processes,
            ("uid", "seccomp"),
        ),
        (
            "fork-bomb",
            "doubles itself seven times",
            """
for _ in range(7):
    try:
        os.fork()
    except OSError:
        pass
time.sleep(1000)
""",
            _few_processes,
            ("uid", "seccomp"),
        ),
        (
            "double-fork",
            "forks twice and leaves its session, to live on",
            """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
return 1
""",
            _nothing_survives,
            _ALWAYS,
        ),
        (
            "fork-and-exit",
            "is another process every moment, to be never the one that is killed",
            """
if os.fork() == 0:
    while True:
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            pass
return 1
""",
            _nothing_survives,
            _ALWAYS,
        ),
        (
            "stdout-256mb",
            "prints 256 MB",
            "for _ in range(256): os.write(1, b'x' * (1 << 20))\nreturn 1",
            lambda seen: seen.sandbox_lives and len(seen.report.stdout) < 1 << 20,
            _ALWAYS,
        ),
        (
            "result-flood",
            "writes its result without end",
            "while True: os.write(3, bytes(1 << 20))",
            _ends_as("too_large"),
            _ALWAYS,
        ),
        ("exit", "ends without a word", "os._exit(0)", _ends_as("crashed"), _ALWAYS),
        ("segfault", "reads from address 0", "ctypes.string_at(0)", _ends_as("crashed"), _ALWAYS),
        ("abort", "aborts", "os.abort()", _ends_as("crashed"), _ALWAYS),
        (
            "stack-overflow",
            "overflows the C stack",
            "sys.setrecursionlimit(10**9)\nnest = []\nfor _ in range(10**5): nest = [nest]\nreturn repr(nest)",
            _ends_as("crashed"),
            _ALWAYS,
        ),
        (
            "large-file",
            "writes a file of 20 MB",
            """
with open("large", "wb", buffering=0) as file:
    for _ in range(20):
        file.write(bytes(1 << 20))
time.sleep(5)
""",
            _one_file_is_short,
            _ALWAYS,
        ),
        (
            "many-files",
            "writes 100 files of 1 MB",
            """
for number in range(100):
    with open(str(number), "wb") as file:
        file.write(bytes(1 << 20))
time.sleep(1000)
""",
            _little_on_disk,
            ("namespaces",),
        ),
        (
            "write-outside",
            "writes where everybody may write",
            "open(TARGET['outside'] + '/written', 'w').close()",
            _nothing_written,
            _WALLS,
        ),
        (
            "write-shared-memory",
            "writes to the shared-memory file system",
            "open(TARGET['shared_memory'], 'w').close()",
            _nothing_written,
            _WALLS,
        ),
        (
            "read-judges-file",
            "reads a world-readable file of the judge's",
            "return open(TARGET['readable']).read()",
            _nothing_leaked,
            ("landlock",),
        ),
        (
            "read-private-file",
            "reads a file that only the user may read",
            "return open(TARGET['private']).read()",
            _nothing_leaked,
            ("uid", "landlock"),
        ),
        (
            "read-environment",
            "reads another process's environment",
            "return open(f'/proc/{TARGET[\"victim\"]}/environ', 'rb').read()",
            _nothing_leaked,
            ("uid", "namespaces", "landlock"),
        ),
        (
            "connect",
            "connects to a port of this machine",
            "socket.create_connection(('127.0.0.1', TARGET['tcp']), 5)",
            _nobody_called,
            ("namespaces", "landlock", "seccomp"),
        ),
        (
            "bind",
            "lets others connect to it",
            """
with socket.create_server(("127.0.0.1", TARGET["free"])) as server:
    server.settimeout(2)
    server.accept()[0].sendall(TARGET["marker"].encode())
""",
            _nobody_called,
            ("namespaces", "landlock", "seccomp"),
        ),
        (
            "udp",
            "sends a datagram",
            "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', TARGET['udp']))",
            _nobody_called,
            ("namespaces", "seccomp"),
        ),
        ("kill-zygote", "kills the warm process", "os.kill(os.getppid(), signal.SIGKILL)", _sandbox_lives, _SIGNALS),
        (
            "kill-another",
            "kills a process of the user's",
            "os.kill(TARGET['victim'], signal.SIGKILL)",
            _victim_lives,
            _SIGNALS,
        ),
        (
            "ptrace-zygote",
            "overwrites the warm process's memory as a debugger would",
            """
zygote, (address, text) = os.getppid(), overwritten()
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
call("ptrace", 16, zygote, None, None)
os.waitpid(zygote, 0x40000000)
base = address & ~7
old = bytearray(ctypes.string_at(base, 24))
old[address - base : address - base + len(text)] = text
for place in range(0, 24, 8):
    call("ptrace", 5, zygote, base + place, int.from_bytes(old[place : place + 8], "little"))
call("ptrace", 17, zygote, None, None)
""",
            _next_is_right,
            _TRACES,
        ),
        (
            "open-memory-of-zygote",
            "overwrites the warm process's memory through its file",
            """
address, text = overwritten()
with open(f"/proc/{os.getppid()}/mem", "r+b", buffering=0) as memory:
    memory.seek(address)
    memory.write(text)
""",
            _next_is_right,
            _TRACES,
        ),
        (
            "write-memory-of-zygote",
            "overwrites the warm process's memory by a system call",
            """
address, text = overwritten()
def vector(place):
    return (ctypes.c_size_t * 2)(place, len(text))
here = ctypes.create_string_buffer(text)
call("process_vm_writev", os.getppid(), vector(ctypes.addressof(here)), 1, vector(address), 1, 0)
""",
            _next_is_right,
            _TRACES,
        ),
        (
            "execute",
            "becomes another program",
            "os.execv('/bin/sh', ['sh', '-c', 'echo executed $((6 * 7))'])",
            _nothing_executed,
            ("seccomp",),
        ),
        (
            "new-user-namespace",
            "becomes root of a user namespace of its own",
            "call('unshare', 0x10000000)\ntime.sleep(1000)",
            _same_user_namespace,
            ("seccomp",),
        ),
        (
            "raise-limit",
            "raises its own limit of memory",
            """
import resource
try:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
except (ValueError, OSError):
    pass
return len(bytearray(b"x") * (600 << 20))
""",
            lambda seen: seen.report.peak_mb < 2 * _MEMORY_MB,
            _ALWAYS,
        ),
        (
            "patch-clocks",
            "makes every clock stand still",
            """
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(time, name, lambda: 0.0)
return sum(range(3 * 10**6))
""",
            _measured_outside,
            _ALWAYS,
        ),
        (
            "forge-result",
            "writes the sandbox's own account of a scored run",
            """
from epsilon_lab.processes.data import encode
os.write(3, b"e" + encode(("scored", "1e9", "")))
os._exit(0)
""",
            _told_as_a_crash,
            _ALWAYS,
        ),
    ],
    first=1,
)
"""The table: thirty-nine, numbered."""
