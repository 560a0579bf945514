"""What keeps a program away from everything else, as strong as this machine allows, under a name that says which.

    limits+uid   the kernel's limits, and a user id that owns nothing: it can signal, trace and overwrite nobody. Needs
                 the right to change user (root in a container, mostly).
    limits       the kernel's limits alone: protection from accidents, not from malice. A program can read and signal
                 whatever the user can.

A tier is believed only after a process has entered it. Stronger tiers (namespaces, landlock, seccomp) are more steps
of `enter`.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import Literal

from epsilon_lab.processes.tree import prctl

Tier = Literal["limits+uid", "limits"]

_PR_SET_NO_NEW_PRIVS = 38
_CAP_SETGID, _CAP_SETUID = 6, 7
_PER_PROCESS = 16
_FAR_UIDS = 1_900_000_000  # above the ranges that distributions and containers hand out, below 2**31
_NEAR_UIDS = 64_000  # where a user namespace maps only 16 bits


@dataclass(frozen=True)
class Confinement:
    """A tier and what entering it takes."""

    tier: Tier
    uid: int | None
    """The user and group id that programs run under, used by nothing else; None for the user's own."""

    def enter(self) -> None:
        """Confine this process, for good.

        Raises:
            OSError: The machine refuses.
        """
        if self.uid is not None:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)
        if sys.platform == "linux":
            prctl(_PR_SET_NO_NEW_PRIVS, 1)  # no set-uid program gives anything back

    def purge(self) -> bool:
        """Kill whatever runs under the spare user, in one system call, from a process that has entered.

        Returns:
            False if this process could not enter: then the tier does not hold here.
        """
        while True:
            pid = os.fork()
            if pid == 0:
                try:
                    self.enter()
                    if self.uid and os.getresuid() == (self.uid, self.uid, self.uid):
                        os.kill(-1, signal.SIGKILL)
                    os._exit(0)
                except ProcessLookupError:  # nobody there
                    os._exit(0)
                finally:
                    os._exit(1)
            status = os.waitpid(pid, 0)[1]
            if not os.WIFSIGNALED(status):  # a survivor may have killed it first; then once more
                return os.waitstatus_to_exitcode(status) == 0


def available() -> Tier:
    """Tell which tier this process can probably give its programs, without trying."""
    return "limits+uid" if _may_change_user() else "limits"


def spare_uids(number: int) -> list[int]:
    """User ids to try for a spawner of this process: of this machine's living processes, none else uses them.

    Args:
        number: Tells this process's spawners apart.
    """
    if not _may_change_user():
        return []
    own = os.getpid() * _PER_PROCESS + number % _PER_PROCESS
    return [_FAR_UIDS + own, _NEAR_UIDS + own % 900]


def strongest(uids: list[int]) -> Confinement:
    """Find the strongest confinement that a process can really enter; survivors under its user id are killed."""
    for uid in uids:
        confinement = Confinement("limits+uid", uid)
        if confinement.purge():
            return confinement
    return Confinement("limits", None)


def _may_change_user() -> bool:
    try:
        with open("/proc/self/status") as file:
            held = int(next(line for line in file if line.startswith("CapEff:")).split()[1], 16)
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(held >> _CAP_SETUID & 1 and held >> _CAP_SETGID & 1)
