"""What outside programs try, as a table: each mechanism holds what it promises, and where it is left out it is open.

Whether an attack was held is seen from outside. On a weak tier they succeed, so they aim at nothing but what is here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from epsilon_lab.processes import landlock
from epsilon_lab.processes.confinement import mechanisms
from epsilon_lab.processes.isolation import proved
from epsilon_lab.processes.program import Finished, run_program
from epsilon_lab.testing.census import living

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the mechanisms are Linux's")

FULL = "namespaces+landlock+seccomp" + "+uid" * (os.geteuid() == 0)
TIERS = [FULL, "namespaces+landlock+seccomp", "landlock+seccomp", "namespaces", "landlock", "seccomp", "limits"]


class Ground:
    """The user's: what a program is to be kept from."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.work, self.home = folder / "work", folder / "home"
        for directory in (self.work, self.home):
            directory.mkdir()
            directory.chmod(0o777)
        for name in ("secret", "victim", "linked"):
            (self.home / name).write_text(f"the {name}")
            (self.home / name).chmod(0o666)
        self.bystander = held.enter_context(
            subprocess.Popen(["sleep", "1000"], env={"SOME_KEY": "the key"}, stdin=subprocess.DEVNULL)
        )
        held.callback(self.bystander.kill)
        self.tcp = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.unix = held.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(str(self.home / "socket"))
        (self.home / "socket").chmod(0o777)
        self.unix.listen()
        for server in (self.tcp, self.unix):
            server.setblocking(False)

    def was_called(self, server: socket.socket) -> bool:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@dataclass(frozen=True)
class Attack:
    name: str
    tries: str
    """Shell; `$USERS`, `$BYSTANDER`, `$PORT` are what it aims at."""

    succeeded: Callable[[Ground, Finished], bool]
    held_by: frozenset[str]


def python(code: str) -> str:
    return f'python -c "{code}"'


def at_work(name: str, mode: int) -> Callable[[Ground, Finished], bool]:
    return lambda ground, _: (ground.work / name).exists() and bool((ground.work / name).stat().st_mode & mode)


RIGHTS = {"limits"} if os.geteuid() == 0 else set()
"""A program has none of root's rights, and so no hold on a process that has them."""

SCOPES = {"landlock"} if landlock.version() >= 6 else set()
PORTS = {"landlock"} if landlock.version() >= 4 else set()

ATTACKS = [
    Attack(*fields[:3], frozenset(fields[3]))
    for fields in (
        ("write", "echo x > $USERS/made", lambda g, _: (g.home / "made").exists(), {"namespaces", "landlock"}),
        ("overwrite", "echo x > $USERS/victim", lambda g, _: (g.home / "victim").read_text() != "the victim",
         {"namespaces", "landlock"}),
        ("link", "ln -s $USERS/linked here; echo x > here",
         lambda g, _: (g.home / "linked").read_text() != "the linked", {"namespaces", "landlock"}),
        ("read", "cat $USERS/secret", lambda _, done: "the secret" in done.stdout, {"namespaces", "landlock"}),
        ("list", "ls $USERS", lambda _, done: "victim" in done.stdout, {"namespaces", "landlock"}),
        ("environment", "env", lambda _, done: "the key" in done.stdout, {"limits"}),
        ("another's environment", "cat /proc/$BYSTANDER/environ", lambda _, done: "the key" in done.stdout,
         {"namespaces", "landlock", *RIGHTS}),
        ("network", python("import socket; socket.create_connection(('127.0.0.1', $PORT))"),
         lambda g, _: g.was_called(g.tcp), {"namespaces", "seccomp", *PORTS}),
        ("local service", python("import socket; socket.socket(socket.AF_UNIX).connect('$USERS/socket')"),
         lambda g, _: g.was_called(g.unix), {"namespaces", "seccomp"}),
        ("trace", python("import ctypes; print('traced', ctypes.CDLL(None).ptrace(0x4206, $BYSTANDER, None, None))"),
         lambda _, done: "traced 0" in done.stdout, {"namespaces", "landlock", "seccomp", *RIGHTS}),
        ("rule a world", "unshare -U echo rules", lambda _, done: "rules" in done.stdout, {"seccomp"}),
        ("lend its rights", "cp /bin/true mine; chmod 4755 mine", at_work("mine", 0o4000), {"seccomp"}),
        ("lend them at birth", python("import os; os.open('born', os.O_CREAT, 0o4755)"), at_work("born", 0o4000),
         {"seccomp"}),
        ("signal", "kill -9 $BYSTANDER", lambda g, _: g.bystander.poll() is not None, {"namespaces", *SCOPES}),
    )
]  # fmt: skip


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with ExitStack() as held:
        yield Ground(tmp_path, held)


@pytest.mark.parametrize("tier", TIERS)
def test_what_each_tier_holds(tier: str, ground: Ground, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_API_KEY", "the key")
    if missing := set(mechanisms(tier)) - set(proved().tier.split("+")):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    aims = {"USERS": str(ground.home), "BYSTANDER": str(ground.bystander.pid), "PORT": str(ground.tcp.getsockname()[1])}
    script = "\n".join(attack.tries for attack in ATTACKS)
    done = run_program(script, cwd=ground.work, timeout_s=60, env=aims, most=tier)
    assert (done.outcome, done.isolation) == ("ended", tier)
    succeeded = {attack.name for attack in ATTACKS if attack.succeeded(ground, done)}
    assert succeeded == {attack.name for attack in ATTACKS if attack.held_by.isdisjoint(["limits", *mechanisms(tier)])}


@pytest.mark.parametrize("tier", ["seccomp", "landlock+seccomp"])
def test_who_was_granted_the_network_reaches_no_local_service(tier: str, ground: Ground):
    if missing := set(mechanisms(tier)) - set(proved().tier.split("+")):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    aims = {"USERS": str(ground.home), "PORT": str(ground.tcp.getsockname()[1])}
    tries = {attack.name: attack.tries for attack in ATTACKS}
    script = tries["network"] + "\n" + tries["local service"]
    run_program(script, cwd=ground.work, timeout_s=60, env=aims, network=True, most=tier)
    assert (ground.was_called(ground.tcp), ground.was_called(ground.unix)) == (True, False)


# -- what its limits hold, on every tier ------------------------------------------------------------------------------

DAEMON = "import os, time\nfor _ in 'ab':\n  if os.fork(): os._exit(0)\n  os.setsid()\ntime.sleep(1000)"

GREEDY = {
    "a fork bomb": ("import os\nwhile True: os.fork()", {"processes"}),
    "forks that linger": ("import os, time\nfor _ in range(7): os.fork()\ntime.sleep(1000)", {"processes"}),
    "much memory": ("import time; held = bytearray(1 << 30); time.sleep(1000)", {"memory", "ended"}),
    "many files": ("n = 0\nwhile True: n += 1; open(str(n), 'wb').write(bytes(1 << 20))", {"disk"}),
    "one large file": ("f = open('f', 'wb')\nwhile True: f.write(bytes(1 << 20))", {"disk", "ended"}),
    "endless output": ("import sys\nwhile True: sys.stdout.write('flood' * 1000)", {"timeout"}),
    "deaf to signals": (
        "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)", {"timeout"},
    ),
    "a daemon": (DAEMON, {"ended"}),
}  # fmt: skip


@pytest.mark.parametrize("tier", [FULL, "limits"])
@pytest.mark.parametrize("greed", GREEDY)
def test_what_it_takes_is_bounded_and_nothing_is_left(tier: str, greed: str, tmp_path: Path):
    code, outcomes = GREEDY[greed]
    if greed == "a fork bomb" and tier == "limits" and os.geteuid() == 0:
        pytest.skip("the kernel counts no processes of root's, so that it is ended only when all have been caught")
    done = run_program(
        [sys.executable, "-c", code], cwd=tmp_path, timeout_s=0.7 if "timeout" in outcomes else 20, most=tier,
        memory_mb=200, processes=30, disk_mb=30, output_limit=10_000,
    )  # fmt: skip
    assert done.outcome in outcomes
    assert len(done.stdout) < 11_000
    assert not living(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 500 << 20
