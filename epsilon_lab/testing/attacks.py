"""Attacks on a sandbox, as a table: what it is worth is what it does to these, not what its settings say.

Thirty-nine make the table; a second list holds what a harder look found. Each says what it tries and which mechanisms
hold it, any one of them enough. Whether it was held is told from outside, by what `Ground` saw: a file that must not
exist, a process that must live, a port nobody may reach. No program is believed about itself.

They attack only what the ground gives them, and bound their own damage (a fork bomb of 128, 600 MiB in all), because
on a weak tier they succeed: that a guard is missing must show in a test, not in the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from epsilon_lab.processes.limits import Limits
from epsilon_lab.testing.hostile_programs import program

if TYPE_CHECKING:
    from epsilon_lab.testing.ground import Aftermath, Target

Mechanism = Literal["limits", "uid", "namespaces", "landlock", "seccomp"]
"""The parts of a tier's name. `limits` is what every tier has: the kernel's limits, no capability, and a warm process
that cannot be traced."""

LIMITS = Limits(timeout_s=20, memory_mb=256, output_mb=4, processes=32, file_mb=16)
"""What an attack may take: time enough on a busy machine, so that a timeout means that it would never have ended."""

SHORT = replace(LIMITS, timeout_s=0.5)
"""The same for one that never ends by itself."""

_ENDLESS = frozenset({"python-loop", "c-loop", "regex", "ignored-sigxcpu", "sleep", "stop-itself"})
_ONLY_WHERE_HELD = frozenset({"kill-all", "stop-zygote"})


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A hostile program and what is known of it."""

    number: int
    name: str
    tries: str
    was_held: Callable[[Aftermath], bool]
    """Whether what was seen from outside means that it failed."""

    held_by: frozenset[Mechanism]
    """Any of these holds it."""

    @property
    def limits(self) -> Limits:
        """What it may take."""
        return SHORT if self.name in _ENDLESS else LIMITS

    def is_held_by(self, tier: str) -> bool:
        """Tell whether a tier promises to hold it."""
        return not self.held_by.isdisjoint(["limits", *tier.split("+")])

    def is_dared_on(self, tier: str) -> bool:
        """Tell whether it may be run on a tier: where nothing holds them, some would hit every process of the user."""
        return self.name not in _ONLY_WHERE_HELD or self.is_held_by(tier)

    def source(self, target: Target) -> str:
        """The program, aimed at a target."""
        return program(self.name, target)


_Check = Callable[["Aftermath"], bool]


def _ends_as(outcome: str, *others: str) -> _Check:
    """It failed by itself or was ended, in time; the sandbox lives and nothing else does."""
    return lambda seen: seen.report.outcome in (outcome, *others) and _nothing_survives(seen)


def _nothing_survives(seen: Aftermath) -> bool:
    return seen.sandbox_lives and not seen.survivors


def _few_processes(seen: Aftermath) -> bool:
    return seen.processes <= LIMITS.processes and _nothing_survives(seen)


def _no_process(seen: Aftermath) -> bool:
    return seen.processes <= 1


def _few_threads(seen: Aftermath) -> bool:
    return seen.threads <= LIMITS.processes


def _little_memory(seen: Aftermath) -> bool:
    return seen.memory_mb < 1.5 * LIMITS.memory_mb


def _one_process_little_memory(seen: Aftermath) -> bool:
    return seen.report.peak_mb < 1.5 * LIMITS.memory_mb


def _no_segment(seen: Aftermath) -> bool:
    return not seen.segments


def _few_words(seen: Aftermath) -> bool:
    return seen.sandbox_lives and len(seen.report.stdout) < 1 << 20


def _short_file(seen: Aftermath) -> bool:
    return seen.scratch_mb < LIMITS.file_mb + 1


def _small_files(seen: Aftermath) -> bool:
    return seen.scratch_mb < 99


def _nothing_written(seen: Aftermath) -> bool:
    return not seen.written


def _nothing_spoiled(seen: Aftermath) -> bool:
    return not seen.spoiled


def _nothing_leaked(seen: Aftermath) -> bool:
    return not seen.leaked


def _nobody_called(seen: Aftermath) -> bool:
    return not seen.visitors


def _nothing_executed(seen: Aftermath) -> bool:
    return "executed 42" not in seen.report.stdout  # it is the other program that multiplies


def _same_user_namespace(seen: Aftermath) -> bool:
    return not seen.user_namespaces


def _victim_lives(seen: Aftermath) -> bool:
    return seen.victim_lives


def _sandbox_lives(seen: Aftermath) -> bool:
    return seen.sandbox_lives and not seen.overdue


def _all_live(seen: Aftermath) -> bool:
    return _sandbox_lives(seen) and seen.victim_lives


def _canary_lives(seen: Aftermath) -> bool:
    return seen.canary_lives and _next_is_right(seen)


def _next_is_right(seen: Aftermath) -> bool:
    return seen.next_is_right and seen.sandbox_lives


def _measured_outside(seen: Aftermath) -> bool:
    return seen.report.cpu_s > 0.01 and seen.report.seconds > 0.01


_ALWAYS: tuple[Mechanism, ...] = ("limits",)
_WALLS: tuple[Mechanism, ...] = ("namespaces", "landlock")
_NETWORK: tuple[Mechanism, ...] = ("namespaces", "landlock", "seccomp")
_ANY: tuple[Mechanism, ...] = ("uid", "namespaces", "landlock", "seccomp")
_PROGRAMS: tuple[Mechanism, ...] = ("landlock", "seccomp")


def _table(*rows: tuple[str, str, _Check, tuple[Mechanism, ...]], first: int = 1) -> tuple[Attack, ...]:
    return tuple(
        Attack(number=number, name=name, tries=tries, was_held=was_held, held_by=frozenset(held_by))
        for number, (name, tries, was_held, held_by) in enumerate(rows, first)
    )


ATTACKS = _table(
    ("python-loop", "never ends, in Python", _ends_as("timeout"), _ALWAYS),
    ("c-loop", "never ends, in C, where no Python signal handler runs", _ends_as("timeout"), _ALWAYS),
    ("regex", "never ends, in a regular expression", _ends_as("timeout"), _ALWAYS),
    ("ignored-sigxcpu", "ignores the signal that announces the end of its CPU time", _ends_as("timeout"), _ALWAYS),
    ("sleep", "uses no CPU time and never ends", _ends_as("timeout"), _ALWAYS),
    ("stop-itself", "stops itself, so that it never ends", _ends_as("timeout", "crashed"), _ALWAYS),
    ("bytearray-8gib", "takes 8 GiB", _ends_as("memory"), _ALWAYS),
    ("numpy-8gib", "takes 8 GiB in an array", _ends_as("memory"), _ALWAYS),
    ("memory-of-many", "takes 600 MiB in six processes, each below its limit", _little_memory, ("seccomp",)),
    ("fork-200", "starts 200 processes that sit there", _few_processes, ("uid", "seccomp")),
    ("fork-bomb", "doubles itself seven times", _few_processes, ("uid", "seccomp")),
    ("double-fork", "forks twice and leaves its session, to live on", _nothing_survives, _ALWAYS),
    (
        "fork-and-exit",
        "is another process every moment, to be never the one that is killed",
        _nothing_survives,
        _ALWAYS,
    ),
    ("stdout-256mb", "prints 256 MB", _few_words, _ALWAYS),
    ("result-flood", "writes its result without end", _ends_as("too_large"), _ALWAYS),
    ("exit", "ends without a word", _ends_as("crashed"), _ALWAYS),
    ("segfault", "reads from address 0", _ends_as("crashed"), _ALWAYS),
    ("abort", "aborts", _ends_as("crashed"), _ALWAYS),
    ("stack-overflow", "overflows the C stack", _ends_as("crashed"), _ALWAYS),
    ("large-file", "writes a file of 20 MB", _short_file, _ALWAYS),
    ("many-files", "writes 100 files of 1 MB", _small_files, ("namespaces",)),
    ("write-outside", "writes where everybody may write", _nothing_written, _WALLS),
    ("write-shared-memory", "writes to the shared-memory file system", _nothing_written, _WALLS),
    ("read-judges-file", "reads a world-readable file of the judge's", _nothing_leaked, ("landlock",)),
    ("read-private-file", "reads a file that only the user may read", _nothing_leaked, ("uid", "landlock")),
    ("read-environment", "reads another process's environment", _nothing_leaked, ("uid", "namespaces", "landlock")),
    ("connect", "connects to a port of this machine", _nobody_called, _NETWORK),
    ("bind", "lets others connect to it", _nobody_called, _NETWORK),
    ("udp", "sends a datagram", _nobody_called, ("namespaces", "seccomp")),
    ("kill-zygote", "kills the warm process", _sandbox_lives, _ANY),
    ("kill-another", "kills a process of the user's", _victim_lives, _ANY),
    ("ptrace-zygote", "overwrites the warm process's memory as a debugger would", _next_is_right, _ALWAYS),
    ("open-memory-of-zygote", "overwrites the warm process's memory through its file", _next_is_right, _ALWAYS),
    ("write-memory-of-zygote", "overwrites the warm process's memory by a system call", _next_is_right, _ALWAYS),
    ("execute", "becomes another program", _nothing_executed, _PROGRAMS),
    ("new-user-namespace", "becomes root of a user namespace of its own", _same_user_namespace, ("seccomp",)),
    ("raise-limit", "raises its own limit of memory", _one_process_little_memory, _ALWAYS),
    ("patch-clocks", "makes every clock stand still", _measured_outside, _ALWAYS),
    ("forge-result", "writes the sandbox's own account of a scored run", _ends_as("crashed"), _ALWAYS),
)
"""The table: thirty-nine, numbered."""

MORE_ATTACKS = _table(
    ("kill-all", "kills everything it may signal", _all_live, ("uid", "namespaces")),
    ("stop-zygote", "stops the warm process", _sandbox_lives, _ANY),
    ("signals-otherwise", "signals another process by the system calls that are not kill", _victim_lives, _ANY),
    ("signal-by-pipe", "has the kernel signal another process when a pipe is written to", _victim_lives, _ANY),
    ("abstract-socket", "connects to a socket that is no file", _nobody_called, _NETWORK),
    ("unix-socket", "connects to a socket that everybody may connect to", _nobody_called, ("seccomp",)),
    ("execute-memory", "becomes a program that is in no file system", _nothing_executed, _PROGRAMS),
    ("spawn", "starts another program without a fork of its own", _nothing_executed, _PROGRAMS),
    ("clone3", "forks by the newest system call", _no_process, ("seccomp",)),
    ("32-bit-call", "forks by a system call of another architecture", _no_process, ("seccomp",)),
    ("memory-segment", "leaves memory behind that belongs to no process", _no_segment, ("namespaces", "seccomp")),
    ("fill-inodes", "writes 17,000 empty files", _ends_as("crashed"), ("namespaces",)),
    (
        "litter",
        "leaves links that lead out, pipes, and a thousand closed directories in one another",
        _canary_lives,
        _ALWAYS,
    ),
    ("poison", "changes modules and builtins for whoever comes next", _next_is_right, _ALWAYS),
    ("stray-descriptors", "writes to every descriptor it might have inherited", _next_is_right, _ALWAYS),
    ("take-descriptor", "takes the warm process's own channel and speaks on it", _next_is_right, _ALWAYS),
    ("own-reaper", "adopts its orphans itself, to keep them from being found", _nothing_survives, _ALWAYS),
    ("threads", "starts 200 threads", _few_threads, _ALWAYS),
    (
        "change-mode",
        "opens a private file of the user's to everybody",
        _nothing_spoiled,
        ("uid", "namespaces", "seccomp"),
    ),
    ("truncate", "empties a file of the user's without opening it", _nothing_spoiled, _ANY),
    ("interrupt-zygote", "interrupts the warm process, as a person would", _sandbox_lives, _ANY),
    ("outlive-zygote", "kills the warm process and stays", _nothing_survives, _ANY),
    first=len(ATTACKS) + 1,
)
"""What the table lacks: other ways to the same ends, and what might reach the next candidate."""
