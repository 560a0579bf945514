"""What confinement of candidates holds on this machine, proved once a process by a sandbox that attacks itself.

The machine is asked, never assumed; what it lacks is told with what would give it. The candidates' own sandboxes prove
themselves again, and `candidates.isolation` says what held for each.
"""

from __future__ import annotations

import functools
import html
import os
import platform
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from epsilon_lab.processes.confinement import MECHANISMS
from epsilon_lab.processes.probe import DEEDS, LIMITS
from epsilon_lab.processes.spawner import Spawner

_SWITCHES = {
    "user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=10000"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    "kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
}
"""Below /proc/sys: setting -> the value that forbids user namespaces, and what allows them. As every kernel, Ubuntu and
Debian have them; root is bound by the first alone."""

_SINCE = {"namespaces": (5, 12), "landlock": (5, 13), "seccomp": (4, 14)}
"""First kernel that has all that is used. Source: mount_setattr(2), landlock(7), seccomp(2)."""

_lock = threading.Lock()


@dataclass(frozen=True)
class Isolation:
    """What a program is kept from here; `str()` of it is the tier, as in `candidates.isolation`.

    Attributes:
        tier: The mechanisms that hold, joined by `+`; see processes/confinement.py.
        not_stopped: What a hostile program could do, in words.
        missing: Mechanism -> why this machine does not give it, and what would.
    """

    tier: str
    not_stopped: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def stopped(self) -> tuple[str, ...]:
        """What a hostile program tried in vain, in words."""
        return tuple(deed for deed in DEEDS.values() if deed not in self.not_stopped)

    @property
    def is_fit_for_strangers(self) -> bool:
        """Whether programs that nobody has read may be run: landlock and seccomp both hold."""
        return {"landlock", "seccomp"} <= set(self.tier.split("+"))

    @property
    def remedy(self) -> str:
        """What is missing and what would give it, in a sentence; empty if nothing is."""
        return "; ".join(f"{name}: {why}" for name, why in self.missing.items())

    def __str__(self) -> str:
        return self.tier

    def __repr__(self) -> str:
        return f"<Isolation {self.tier}: {len(self.stopped)} of {len(DEEDS)} attacks stopped>"

    def _repr_html_(self) -> str:
        rows = [*((deed, "stopped") for deed in self.stopped), *((deed, "not stopped") for deed in self.not_stopped)]
        rows += [(f"missing: {name}", why) for name, why in self.missing.items()]
        cells = "".join(f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
        return f"<code>{html.escape(self.tier)}</code><table>{cells}</table>"


def prove(tier: str | None = None) -> Isolation:
    """Set up a sandbox and have it attack itself; a tenth of a second.

    Args:
        tier: At most this one; None for the strongest.

    Raises:
        SpawnerFailed: No sandbox starts here at all.
    """
    with Spawner(None, {}, LIMITS, preload=None, tier=tier) as sandbox:
        sandbox.start()
        refused = sandbox.refused
        if sys.platform != "linux":
            refused = refused | dict.fromkeys(("namespaces", "landlock", "seccomp"), f"{sys.platform} has none")
        return Isolation(
            tier=sandbox.isolation,
            not_stopped=tuple(DEEDS[deed] for deed in DEEDS if deed in sandbox.not_stopped),
            missing={name: f"{why}; {_remedy(name)}" for name, why in sorted(refused.items())},
        )


@functools.cache
def _once() -> Isolation:
    return prove()


def proved() -> Isolation:
    """Tell what holds here; whoever asks first, or while it is being proved, waits for the proof.

    Raises:
        SpawnerFailed: No sandbox starts here at all.
    """
    with _lock:
        return _once()


def _remedy(mechanism: str) -> str:
    if mechanism not in MECHANISMS:
        return "without a proof nothing is believed"
    if sys.platform != "linux":
        return "Linux has it"
    if mechanism == "uid":
        return "in a container, map more user ids into it"
    since = _SINCE.get(mechanism, (0, 0))
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())
    if release < since:
        return f"Linux {since[0]}.{since[1]} or later has it, this is {platform.release()}"
    if mechanism == "namespaces":
        for name, (forbidding, allowing) in _SWITCHES.items():
            if _read(f"/proc/sys/{name}") == forbidding and (os.geteuid() != 0 or name.startswith("user/")):
                return allowing
        return "in a container, allow unshare and mount (Docker: --security-opt seccomp=unconfined)"
    if mechanism == "landlock" and "landlock" not in _read("/sys/kernel/security/lsm") + "landlock" * _in_container():
        return "boot with landlock in the kernel's lsm= list"
    return "in a container, allow its system calls (Docker since 20.10.10 does)"


def _in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
