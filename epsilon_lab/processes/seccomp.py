"""Which system calls a program may make: a filter that the kernel runs before each of them.

It is a list of refusals. Numbers that nobody knew when it was written are refused as a whole ("no such call", which
every C library lives with), so what later kernels add stays out. A candidate keeps threads, files, memory, pipes and
connected pairs of sockets (an event loop needs one); it cannot start another process or program, reach a network,
signal, trace or reschedule anybody else, or shed what was set up for it. An outside program may besides start others,
signal its own, and open the sockets it was granted; it cannot make a program that gives its user's rights to others,
because the file may belong, on the disk, to the lab's user.

The filter is a binary search over the number: about eight comparisons a call, and the kernel, which tries all numbers
when a filter is installed, installs it fast. Written for x86_64 and aarch64; elsewhere `Filter` says that it is not.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

from epsilon_lab.processes.native import call
from epsilon_lab.processes.syscall_numbers import NEWEST, NUMBERS

_LOAD, _JUMP, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_KILL, _FAIL, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_EPERM, _ENOSYS = 1, 38
_SET_MODE_FILTER, _ALLOW_SPECULATION = 1, 4  # the second: a program is not slowed down by a mitigation it needs not

_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE = 1, 1, 0xF
_PR_SET_PDEATHSIG = 1
_F_SETOWN, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 15, 0x8901, 0x8902
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000

Code = list[tuple[int, int, int, int]]
"""Instructions: operation, jump if true, jump if false, operand."""

_SELF = -1  # an operand: the id of the process that installs the filter

_REFUSED = """
    fork vfork execve execveat
    socket connect bind listen accept accept4
    tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_open pidfd_getfd process_mrelease
    ptrace process_vm_readv process_vm_writev process_madvise kcmp migrate_pages move_pages
    setpriority ioprio_set sched_setscheduler sched_setparam sched_setattr
    unshare setns mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
    statmount listmount sysfs ustat quotactl quotactl_fd
    bpf perf_event_open userfaultfd keyctl add_key request_key fanotify_init seccomp
    io_uring_setup io_uring_enter io_uring_register
    open_by_handle_at name_to_handle_at
    init_module finit_module delete_module create_module get_kernel_syms query_module kexec_load kexec_file_load
    reboot swapon swapoff acct syslog vhangup uselib nfsservctl lookup_dcookie _sysctl
    settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname
    iopl ioperm modify_ldt personality
    shmget shmat shmctl shmdt msgget msgsnd msgrcv msgctl semget semop semctl semtimedop mq_open mq_unlink
    memfd_create memfd_secret
""".split()  # noqa: SIM905 - a hundred quoted names are harder to read
"""Not permitted. The two last lines: memory that no limit counts, and that may outlive its maker."""

_UNKNOWN = ["clone3", "openat2"]
"""Answered with "no such call": their arguments lie in memory, which a filter cannot read; there is an older way."""

_OWNERS = """
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr
    removexattr lremovexattr fremovexattr utime utimes futimesat utimensat truncate
""".split()  # noqa: SIM905 - as above
"""Changes that an owner may make to any file and that landlock does not govern (truncate: before its ABI 3)."""


def _end(verdict: int) -> Code:
    return [(_RETURN, 0, 0, verdict)]


def _argument(index: int) -> tuple[int, int, int, int]:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)  # its low half; every argument looked at is an int


def _if_one_of(index: int, values: Sequence[int], then: int, otherwise: int) -> Code:
    tests = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [_argument(index), *tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, then)]


_NO, _NONE, _YES = _end(_FAIL | _EPERM), _end(_FAIL | _ENOSYS), _end(_ALLOW)

_CONDITIONAL: dict[str, Code] = {
    "clone": [_argument(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), *_NO, *_YES],
    "kill": _if_one_of(0, [_SELF], _ALLOW, _FAIL | _EPERM),
    "tgkill": _if_one_of(0, [_SELF], _ALLOW, _FAIL | _EPERM),
    "prlimit64": _if_one_of(0, [0, _SELF], _ALLOW, _FAIL | _EPERM),
    "sched_setaffinity": _if_one_of(0, [0, _SELF], _ALLOW, _FAIL | _EPERM),
    "prctl": _if_one_of(0, [_PR_SET_PDEATHSIG], _FAIL | _EPERM, _ALLOW),  # or it would outlive who started it
    "fcntl": _if_one_of(1, [_F_SETOWN, _F_SETOWN_EX], _FAIL | _EPERM, _ALLOW),  # a signal sent by a pipe
    "ioctl": _if_one_of(1, [_FIOSETOWN, _SIOCSPGRP], _FAIL | _EPERM, _ALLOW),  # a signal sent by a socket
    "socketpair": [
        _argument(0), (_EQUAL, 1, 0, _AF_UNIX), *_NO,
        _argument(1), (_AND, 0, 0, _SOCK_TYPE), (_EQUAL, 1, 0, _SOCK_STREAM), *_NO, *_YES,
    ],
}  # fmt: skip


_FREE = frozenset(
    """
    fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_open
    connect bind listen accept accept4 setpriority ioprio_set sched_setscheduler sched_setparam sched_setattr
    sched_setaffinity prctl fcntl ioctl
    """.split()  # noqa: SIM905 - as above
)
"""What an outside program may do and a candidate may not. Its signals reach nobody else where a namespace, landlock's
scopes or another user id holds."""

_SET_ID_BITS = 0o6000


def _without_set_id(index: int) -> Code:
    return [_argument(index), (_ANY_BIT, 0, 1, _SET_ID_BITS), *_NO, *_YES]


_MODES = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "open": 2, "openat": 3, "creat": 1,
    "mknod": 1, "mknodat": 2,
}  # fmt: skip
"""Which argument is a file's mode."""

_NO_NAMESPACE: Code = [_argument(0), (_ANY_BIT, 0, 1, _CLONE_NAMESPACES), *_NO, *_YES]


def _truncates_unseen(index: int) -> Code:
    """Open for reading and truncate: without a right to write, and so past landlock before its ABI 3."""
    return [_argument(index), (_AND, 0, 0, _O_ACCMODE | _O_TRUNC), (_EQUAL, 0, 1, _O_TRUNC), *_NO, *_YES]


class Filter:
    """A filter, compiled once, installed in each program's process.

    Args:
        guard_files: Refuse what an owner may do to files behind landlock's back: for programs that run under the
            user's own id and could reach the user's files.
        families: For an outside program: the families of sockets it may open. None: the filter is a candidate's.

    Raises:
        OSError: There is no table for this architecture.
    """

    def __init__(self, *, guard_files: bool, families: Sequence[int] | None = None) -> None:
        machine = os.uname().machine
        if machine not in NUMBERS:
            raise OSError(_ENOSYS, f"no table of system calls for {machine}")
        numbers = NUMBERS[machine]
        rules = dict.fromkeys(_REFUSED, _NO) | dict.fromkeys(_UNKNOWN, _NONE) | _CONDITIONAL
        if families is not None:
            rules = {name: rule for name, rule in rules.items() if name not in _FREE} | {"clone": _NO_NAMESPACE}
            rules |= {name: _without_set_id(index) for name, index in _MODES.items()}
            rules["socket"] = _if_one_of(0, families, _ALLOW, _FAIL | _EPERM)
        if guard_files:
            rules |= dict.fromkeys(_OWNERS, _NO)
            rules |= {"open": _truncates_unseen(1), "openat": _truncates_unseen(2)}
        by_number = {numbers[name]: rule for name, rule in rules.items() if name in numbers}
        self._install_number = numbers["seccomp"]
        self._compile(_ARCHITECTURES[machine], by_number)

    def _compile(self, architecture: int, rules: dict[int, Code]) -> None:
        spans: list[tuple[int, Code]] = []
        for number in range(NEWEST + 1):
            rule = rules.get(number, _YES)
            if not spans or spans[-1][1] is not rule:
                spans.append((number, rule))
        code: Code = [
            (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), *_end(_KILL),
            (_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32), *_end(_KILL),
            (_GREATER, 0, 1, NEWEST), *_NONE,
            *_search(spans),
        ]  # fmt: skip
        self._own = [place for place, step in enumerate(code) if step[3] == _SELF]
        packed = b"".join(struct.pack("<HBBI", *step[:3], max(step[3], 0)) for step in code)
        self._code = ctypes.create_string_buffer(packed, len(packed))
        head = struct.pack("@HP", len(code), ctypes.addressof(self._code))
        self._head = ctypes.create_string_buffer(head, len(head))

    def install(self) -> None:
        """Put this process under the filter, for good; it must have renounced new privileges.

        Raises:
            OSError: The kernel refuses.
        """
        for place in self._own:
            struct.pack_into("<I", self._code, 8 * place + 4, os.getpid())
        call("syscall", self._install_number, _SET_MODE_FILTER, _ALLOW_SPECULATION, self._head)


def _search(spans: Sequence[tuple[int, Code]]) -> Code:
    """Compile the spans of numbers with one rule each into a binary search."""
    if len(spans) == 1:
        return spans[0][1]
    middle = len(spans) // 2
    below, above = _search(spans[:middle]), _search(spans[middle:])
    if len(below) < 256:
        return [(_AT_LEAST, len(below), 0, spans[middle][0]), *below, *above]
    return [(_AT_LEAST, 0, 1, spans[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]
