"""Each mechanism holds what it promises, and what it promises is open where it is left out; honest programs run in all.

A test of a tier names it, so that the tests say the same on a machine where more or less is to be had; a tier that a
machine does not give is skipped there, never passed.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import pickle
import platform
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.processes import tree
from epsilon_lab.processes.confinement import MECHANISMS, mechanisms, tier
from epsilon_lab.processes.data import decode
from epsilon_lab.processes.isolation import Isolation, prove, proved
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.probe import DEEDS, PROMISES, believed, broken
from epsilon_lab.processes.seccomp import Filter
from epsilon_lab.processes.spawner import RunReport, Spawner
from epsilon_lab.processes.syscall_numbers import NUMBERS
from epsilon_lab.testing.census import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the mechanisms are Linux's")

ROOT = Path(__file__).parents[2]
HAS_UID = os.geteuid() == 0
FULL = "namespaces+landlock+seccomp" + "+uid" * HAS_UID
TIERS = [FULL, "namespaces+landlock+seccomp", "landlock+seccomp", "namespaces", "landlock", "seccomp", "limits"]


@functools.cache
def machine_has() -> frozenset[str]:
    return frozenset(proved().tier.split("+"))


def needs(name: str) -> None:
    missing = set(name.split("+")) - {"limits"} - machine_has()
    if missing:
        pytest.skip(f"this machine lacks {', '.join(missing)}")


def _made(name: str, **limits: Any) -> Spawner:
    side = pickle.dumps(functools.partial(tuple, (None, ())))
    given = Limits(**{"timeout_s": 60, "memory_mb": 256, "output_mb": 4} | limits)
    spawner = Spawner(side, {"numbers.txt": b"1 2 3\n"}, given, tier=name)
    spawner.start()
    assert spawner.isolation == name
    return spawner


@pytest.fixture(scope="module")
def lasting() -> Iterator[dict[str, Spawner]]:
    """One sandbox of each tier that many tests have programs for."""
    names = [name for name in ("landlock", "seccomp", "namespaces", "limits") if {name} <= machine_has() | {"limits"}]
    with ExitStack() as held:
        yield {name: held.enter_context(_made(name)) for name in names}


@pytest.fixture
def sandbox(lasting: dict[str, Spawner]) -> Iterator[Callable[..., Callable[[str], RunReport]]]:
    """`sandbox(tier)` gives what runs the body of a function in a sandbox of that tier, which lives on.

    With `own=True`, or limits, in one that the test alone has, and may end.
    """
    with ExitStack() as held:

        def make(name: str, *, own: bool = False, **limits: Any) -> Callable[[str], RunReport]:
            needs(name)
            is_own = own or bool(limits) or name not in lasting
            spawner = held.enter_context(_made(name, **limits)) if is_own else lasting[name]

            def run(body: str) -> RunReport:
                return spawner.run("import ctypes, os\ndef solve():\n" + _indented(body), seed=1)

            run.spawner = spawner  # type: ignore[attr-defined]
            return run

        before = {name: spawner.pid for name, spawner in lasting.items()}
        yield make
        assert {name: spawner.pid for name, spawner in lasting.items()} == before, "a program ended its sandbox"


def _indented(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.strip("\n").splitlines())


def output(report: RunReport) -> Any:
    assert report.outcome is None, report
    return decode(report.output or b"")


def refused(report: RunReport) -> bool:
    """Whether the program ended at a call that was not permitted."""
    assert report.outcome in (None, "crashed"), report
    return "PermissionError" in report.error or "[Errno 30]" in report.error


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_tier_is_the_list_of_what_holds():
    assert tier(MECHANISMS) == "namespaces+landlock+seccomp+uid"
    assert tier(["uid"]) == "limits+uid"
    assert tier([]) == "limits"
    assert tier(["seccomp", "landlock"]) == "landlock+seccomp"
    for name in (*TIERS, "limits+uid", "seccomp+uid"):
        assert tier(mechanisms(name)) == name
    for name in ("", "none", "seccomp+landlock", "limits+seccomp", "landlock+landlock"):
        with pytest.raises(InvalidInput, match="tier"):
            Spawner(None, {}, Limits(timeout_s=1, memory_mb=1, output_mb=1), tier=name)


# -- what holds, and what holds it -----------------------------------------------------------------------------------

ALONE = {
    FULL: set(),
    "landlock+seccomp": {"disk"},
    "namespaces+seccomp": {"files"},
    "namespaces+landlock": {"processes", "programs", "privileges"},
    "namespaces": {"files", "processes", "programs", "privileges"},
    "landlock": {"network", "disk", "processes", "programs", "privileges"},
    "seccomp": {"files", "writing", "disk"},
    "limits": {"network", "files", "writing", "disk", "signals", "processes", "programs", "privileges"},
}
"""Tier -> what a hostile program does there. Where a mechanism is left out, what it alone stopped is open again."""


@pytest.mark.parametrize("name", ALONE)
def test_a_sandbox_says_what_a_hostile_program_was_stopped_from(name):
    needs(name)
    found = prove(name)
    assert str(found) == found.tier == name
    assert found.missing == {}
    done = set(found.not_stopped)
    if name == "landlock":
        done.discard(DEEDS["signals"])  # stopped by newer kernels
    assert done == {DEEDS[deed] for deed in ALONE[name]}
    assert set(found.stopped) | set(found.not_stopped) == set(DEEDS.values())
    assert found.is_fit_for_strangers == ("landlock+seccomp" in name)


@pytest.mark.skipif(not HAS_UID, reason="needs the right to change user")
def test_a_user_of_its_own_cannot_signal_others():
    found = prove("limits+uid")
    assert found.tier == "limits+uid"
    assert DEEDS["signals"] in found.stopped
    assert DEEDS["signals"] in prove("limits").not_stopped


def test_a_mechanism_that_broke_a_promise_is_not_named():
    held = ["namespaces", "landlock", "seccomp", "uid"]
    assert believed(held, []) == held
    for deed in DEEDS:
        broke = {name for name in held if deed in PROMISES[name]}
        assert set(believed(held, [deed])) == set(held) - broke
        assert set(broken(held, [deed])) == broke
    assert "reaching the network" in broken(["namespaces"], ["network"])["namespaces"]


@pytest.mark.parametrize("name", TIERS)
def test_honest_programs_run_in_every_tier(sandbox, name):
    run = sandbox(name)
    report = run("""
import csv, tempfile, zoneinfo, datetime
from concurrent.futures import ThreadPoolExecutor
import numpy
with ThreadPoolExecutor(4) as pool:
    squares = list(pool.map(lambda n: n * n, range(8)))
with tempfile.TemporaryDirectory() as place:
    with open(os.path.join(place, 'a.csv'), 'w', newline='') as file:
        csv.writer(file).writerows([[1, 2]])
    os.rename(os.path.join(place, 'a.csv'), 'b.csv')
numpy.save('c.npy', numpy.arange(6))
os.makedirs('d/e')
os.rename('c.npy', 'd/e/c.npy')
product = numpy.random.default_rng(1).random((200, 200)) @ numpy.linalg.inv(numpy.eye(200) * 2)
return [squares, open('b.csv', newline='').read(), numpy.load('d/e/c.npy'), float(product.sum()),
        open('numbers.txt').read(), os.cpu_count() >= 1, len(os.urandom(4)), open('/dev/null', 'w').write('x'),
        datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC')).isoformat()]
""")
    found = output(report)
    assert found[0] == [n * n for n in range(8)]
    assert found[1] == "1,2\r\n"
    assert found[2].tolist() == list(range(6))
    assert found[3] == pytest.approx(np.random.default_rng(1).random((200, 200)).sum() / 2)
    assert found[4:] == ["1 2 3\n", True, 4, 1, "2026-07-01T00:00:00+00:00"]
    assert output(run("return sorted(os.listdir('.'))")) == ["numbers.txt"]  # and may write again, in a new directory
    assert output(run("return open('again', 'w').write('x')")) == 1


def test_an_event_loop_runs_behind_seccomp(sandbox):
    body = """
import asyncio
async def both():
    return await asyncio.gather(asyncio.to_thread(pow, 2, 5), asyncio.sleep(0, 7))
return asyncio.run(both())
"""
    assert output(sandbox("seccomp")(body)) == [32, 7]


# -- seccomp ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "fork": "os.fork()",
    "vfork": "import subprocess; subprocess.run(['true'])",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "socket": "import socket; socket.socket()",
    "a socket of this machine": "import socket; socket.socket(socket.AF_UNIX)",
    "datagrams in pairs": "import socket; socket.socketpair(type=socket.SOCK_DGRAM)",
    "kill": "os.kill(os.getppid(), 0)",
    "kill all": "os.kill(-1, 0)",
    "a signal to a group": "os.killpg(os.getpgid(0), 0)",
    "a signal to a handle": "os.pidfd_open(os.getppid())",
    "a signal by a pipe": "import fcntl; fcntl.fcntl(os.pipe()[0], 8, os.getppid())",
    "reschedule": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 5)",
    "cores": "os.sched_setaffinity(os.getppid(), {0})",
    "another's limits": "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    "memory without a name": "os.memfd_create('x')",
    "outlive": "if ctypes.CDLL(None).prctl(1, 0, 0, 0, 0): raise PermissionError",
    "ptrace": "if ctypes.CDLL(None).ptrace(0, 0, 0, 0): raise PermissionError",
    "namespaces": "if ctypes.CDLL(None).unshare(0x10000000): raise PermissionError",
    "shared memory that stays": "if ctypes.CDLL(None).shmget(0, 4096, 0o1600) == -1: raise PermissionError",
    "io_uring": "if ctypes.CDLL(None).syscall(425, 1, bytes(120)) == -1: raise PermissionError",
}


@pytest.mark.parametrize("what", REFUSED)
def test_seccomp_refuses(sandbox, what):
    run = sandbox("seccomp")
    assert refused(run(REFUSED[what]))
    assert output(run("return 1")) == 1


@pytest.mark.parametrize("what", ["fork", "vfork", "posix_spawn", "socket", "datagrams in pairs", "a signal by a pipe",
                                  "memory without a name", "outlive", "namespaces"])  # fmt: skip
def test_without_seccomp_the_same_is_open(sandbox, what):
    assert not refused(sandbox("limits")(REFUSED[what] + "\nreturn 1"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other ways into the kernel are x86's")
@pytest.mark.parametrize(
    ("body", "signals"),
    [
        ("ctypes.CDLL(None).syscall(0x40000000 + 39)", {"SIGSYS"}),  # the x32 table
        (
            "import mmap\npage = mmap.mmap(-1, 4096, prot=7)\n"
            r"page.write(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3')" + "\n"  # mov eax, 20; int 0x80; ret: the 32-bit table
            "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()",
            {"SIGSYS", "SIGSEGV"},  # the second: a kernel without that table
        ),
    ],
)
def test_no_other_table_of_calls_leads_past_the_filter(sandbox, body, signals):
    report = sandbox("seccomp")(body)
    assert any(name in report.error for name in signals), report


def test_calls_that_nobody_knew_do_not_exist(sandbox):
    body = """
libc = ctypes.CDLL(None, use_errno=True)
found = []
for number in (463, 470, 511, 1000):
    ctypes.set_errno(0)
    found.append([libc.syscall(number, -1, 0, 0, 0, 0), ctypes.get_errno()])
return found
"""
    assert output(sandbox("seccomp")(body)) == [[-1, errno.ENOSYS]] * 4


def test_a_program_may_signal_itself(sandbox):
    run = sandbox("seccomp")
    assert "SIGTERM" in run("import signal\nos.kill(os.getpid(), 15)").error
    body = "import signal, threading\nsignal.signal(10, lambda *a: None)\nsignal.raise_signal(10)\n"
    assert output(run(body + "signal.pthread_kill(threading.get_ident(), 10)\nreturn 1")) == 1


OWNERS = {
    "mode": "os.chmod({path!r}, 0o777)",
    "times": "os.utime({path!r}, (0, 0))",
    "length": "os.truncate({path!r}, 0)",
    "length, by opening": "os.open({path!r}, os.O_RDONLY | os.O_TRUNC)",
}


@pytest.mark.parametrize("what", OWNERS)
def test_what_an_owner_may_do_to_any_file_is_refused_where_nothing_else_would(sandbox, what, tmp_path):
    """Landlock does not govern mode, times and (before its ABI 3) length."""
    theirs = tmp_path / "theirs"
    theirs.write_text("kept")
    before = theirs.stat()
    body = OWNERS[what].format(path=str(theirs))
    assert refused(sandbox("seccomp")(body))
    assert theirs.stat() == before
    assert not refused(sandbox("limits")(body))
    assert theirs.stat() != before


def test_numbers_are_the_kernels():
    """Where the headers are installed, every number is the one they define."""
    headers = {
        "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        "aarch64": Path("/usr/include/asm-generic/unistd.h"),
    }
    compared = 0
    for machine, path in headers.items():
        if path.exists():
            found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text(), re.MULTILINE)
            defined = dict(found)
            for name, number in NUMBERS[machine].items():
                if name in defined:
                    assert defined[name] == str(number), (machine, name)
                    compared += 1
    assert compared > 150 or not any(path.exists() for path in headers.values())


def test_an_unknown_machine_has_no_filter(monkeypatch):
    monkeypatch.setattr("os.uname", lambda: type("U", (), {"machine": "riscv64"}))
    with pytest.raises(OSError, match="riscv64"):
        Filter(guard_files=True)


# -- landlock --------------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A file of the user's that any user may read and write."""
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    path = tmp_path / "theirs"
    path.write_text("kept")
    path.chmod(0o666)
    return path


@pytest.mark.parametrize("attempt", [
    "open({path!r}).read()", "open({path!r}, 'a')", "os.listdir(os.path.dirname({path!r}))", "os.remove({path!r})",
    "os.rename({path!r}, 'mine')", "os.link({path!r}, 'mine')", "os.symlink({path!r}, 'mine'); open('mine').read()",
    "open('/etc/passwd').read()", "os.listdir('/proc')", "os.listdir('/')", "os.listdir('..')",
])  # fmt: skip
def test_landlock_refuses(sandbox, theirs, attempt):
    body = attempt.format(path=str(theirs))
    report = sandbox("landlock")(body)
    assert refused(report) or f"[Errno {errno.EXDEV}]" in report.error, report
    assert theirs.read_text() == "kept"


@pytest.mark.parametrize("attempt", ["open({path!r}).read()", "open({path!r}, 'a')", "os.listdir('/')",
                                     "os.symlink({path!r}, 'mine'); open('mine').read()"])  # fmt: skip
def test_without_landlock_the_same_is_open(sandbox, theirs, attempt):
    assert not refused(sandbox("limits")(attempt.format(path=str(theirs))))


def test_landlock_refuses_tcp_and_signals_where_the_kernel_is_new_enough(sandbox):
    from epsilon_lab.processes import landlock

    run = sandbox("landlock")
    if landlock.version() < 6:
        pytest.skip("landlock before ABI 6")
    assert refused(run("import socket\nsocket.create_server(('127.0.0.1', 0))"))
    assert refused(run("os.kill(os.getppid(), 0)"))


# -- namespaces ------------------------------------------------------------------------------------------------------


def test_namespaces_bound_the_disk(sandbox):
    run = sandbox("namespaces", file_mb=2)
    files = "for number in range(100):\n    with open(str(number), 'wb') as file: file.write(bytes(1 << 20))"
    assert f"[Errno {errno.ENOSPC}]" in run(files).error
    many = "for number in range(1 << 15): open(str(number), 'w').close()"
    assert f"[Errno {errno.ENOSPC}]" in run(many).error
    assert f"[Errno {errno.EFBIG}]" in run("open('big', 'wb').write(bytes(3 << 20))").error
    assert output(run("return [os.listdir('.'), open('mine', 'wb').write(bytes(2 << 20))]")) == [
        ["numbers.txt"],
        2 << 20,
    ]


def test_namespaces_leave_no_network_and_nobody_to_see(sandbox):
    run = sandbox("namespaces")
    body = "import socket\nwith socket.socket(type=socket.SOCK_DGRAM) as s: s.connect(('127.0.0.1', 9))"
    assert f"[Errno {errno.ENETUNREACH}]" in run(body).error
    found = output(run("return [os.getppid(), [name for name in os.listdir('/proc') if name.isdigit()], os.getpid()]"))
    assert found[0] == 1
    assert sorted(found[1], key=int) == ["1", str(found[2])]


@pytest.mark.parametrize("where", ["/tmp/epsilon-attack", "/dev/shm/epsilon-attack", "../attack", "/proc/1/comm"])
def test_namespaces_leave_nothing_to_write_to(sandbox, where):
    assert f"[Errno {errno.EROFS}]" in sandbox("namespaces")(f"open({where!r}, 'w')").error


def test_who_forks_the_programs_cannot_be_killed_by_them(sandbox):
    run = sandbox("namespaces")
    before = run.spawner.pid
    assert output(run("os.kill(1, 9)\nos.kill(1, 19)\nreturn 1")) == 1
    assert output(run("return 1")) == 1
    assert run.spawner.pid == before


def test_the_sandboxs_end_is_told_by_its_keeper(sandbox):
    run = sandbox("namespaces", own=True)
    (inside,) = tree.children(run.spawner.pid)
    os.kill(inside, 9)
    report = run("return 1")
    assert "killed by SIGKILL" in report.error
    assert output(run("return 1")) == 1


def test_a_killed_keeper_takes_the_sandbox_with_it(sandbox):
    run = sandbox("namespaces", own=True)
    keeper = run.spawner.pid
    (inside,) = tree.children(keeper)
    os.kill(keeper, signal.SIGKILL)
    assert wait_until(lambda: not tree.is_alive(inside), within_s=60)
    assert "replaced" in run("return 1").error
    assert output(run("return 1")) == 1


def test_a_program_of_the_users_own_id_has_no_capability_either(sandbox):
    """Inside its namespace the sandbox has all of them; elsewhere, root has."""
    body = """
held = ctypes.create_string_buffer(24)
ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), held)
return held.raw
"""
    for name in ("namespaces", "limits"):
        assert output(sandbox(name)(body)) == bytes(24)


# -- machines that lack something, for real --------------------------------------------------------------------------

WITHOUT = """
import json, sys, warnings
from epsilon_lab.processes import native, seccomp
from epsilon_lab.processes.syscall_numbers import NUMBERS
for numbers in NUMBERS.values():
    numbers["landlock_create_ruleset"] = 444
seccomp._REFUSED[:] = sys.argv[1].split()
seccomp._UNKNOWN.clear()
seccomp._CONDITIONAL.clear()
native.prctl(38, 1)
seccomp.Filter(guard_files=False).install()
"""
"""A machine without some system calls, for this process and all that it starts."""

LACKING = (
    WITHOUT
    + """
from epsilon_lab.processes.isolation import prove
found = prove()
print(json.dumps([found.tier, dict(found.missing), found.is_fit_for_strangers, found.remedy]))
"""
)


def ask(script: str, *arguments: str, python: str = sys.executable, **options: Any) -> Any:
    done = subprocess.run(
        [python, "-W", "error", "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, **options
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("calls", "lost"),
    [
        (["unshare"], {"namespaces"}),
        (["mount"], {"namespaces"}),  # the way in is open, and leads nowhere: as on Ubuntu
        (["mount_setattr"], {"namespaces"}),
        (["landlock_create_ruleset"], {"landlock"}),
        (["seccomp"], {"seccomp"}),
        (["unshare", "landlock_create_ruleset", "seccomp"], {"namespaces", "landlock", "seccomp"}),
    ],
)
def test_what_a_machine_refuses_is_left_out_and_said(calls, lost):
    needs(FULL)
    name, missing, is_fit, remedy = ask(LACKING, " ".join(calls))
    assert name == tier(part for part in FULL.split("+") if part not in lost)
    assert set(missing) == lost
    assert is_fit == (not lost & {"landlock", "seccomp"})
    for what in lost:
        assert "Operation not permitted" in missing[what]
        assert f"{what}: {missing[what]}" in remedy
        assert "container" in missing[what] or "lsm=" in missing[what]


@pytest.mark.skipif(
    not HAS_UID or not shutil.which("unshare"), reason="needs a user namespace to forbid more of them in"
)
def test_a_machine_that_is_set_to_give_no_namespaces_is_told_the_setting_also_to_root():
    needs(FULL)
    proof = "from epsilon_lab.processes.isolation import prove; import json; print(json.dumps(dict(prove().missing)))"
    forbidding = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", forbidding, sys.executable, "-W", "error", "-c", proof],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert json.loads(done.stdout)["namespaces"].endswith("; sysctl -w user.max_user_namespaces=10000")


SEARCHING = (
    WITHOUT
    + """
from epsilon_lab import Lab, PopulationSearch, problems

def proposer(context):
    return context.problem.source + f"# {context.candidate_id}"

def offline_and_own():
    shape = dict(population=2, generations=1, elites=1, diverse=0, fresh=0)
    yield PopulationSearch(problems.cap_set(n=3), **shape)
    yield PopulationSearch(problems.cap_set(n=3), proposer=proposer, **shape)

with Lab(sys.argv[2], workers=1) as lab:
    found = [str(lab.isolation)]
    for search in offline_and_own():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run = lab.start(search).wait(120)
        found.append([str(w.message) for w in said if w.category is RuntimeWarning])
    found.append(sorted(set(run.frame("candidates")["isolation"].dropna())))
print(json.dumps(found))
"""
)


def test_a_weak_machine_is_named_before_strangers_programs_run(tmp_path):
    """A search whose programs come from a function starts with a warning; the problem's own proposer without."""
    needs(FULL)
    weaker = tier(part for part in FULL.split("+") if part != "landlock")
    found = ask(SEARCHING, "landlock_create_ruleset", str(tmp_path / "runs"))
    assert found[0] == weaker
    assert found[1] == []
    (warning,) = found[2]
    assert weaker in warning
    assert "landlock: " in warning
    assert found[3] == [weaker]


UNPRIVILEGED = """
import functools, json, os, pickle, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
from epsilon_lab.processes.data import decode
from epsilon_lab.processes.isolation import prove
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.spawner import Spawner
program = '''
import numpy, os
def solve():
    with open("mine", "w") as file:
        file.write("x")
    tried = []
    for attempt in (lambda: os.kill(os.getppid(), 9), os.fork, lambda: open("/etc/passwd"), lambda: open(outside, "w")):
        try:
            attempt()
            tried.append("done")
        except OSError:
            tried.append("refused")
    return [os.getuid(), sorted(os.listdir(".")), float(numpy.ones(9).sum()), tried]
outside = {outside!r}
'''
side = pickle.dumps(functools.partial(tuple, (None, ())))
found = [prove().tier, prove("landlock+seccomp").tier]
for name in (None, "landlock+seccomp"):
    limits = Limits(timeout_s=60, memory_mb=256, output_mb=1)
    with Spawner(side, {"a.txt": b"1"}, limits, tier=name) as spawner:
        for _ in range(2):
            report = spawner.run(program.format(outside=sys.argv[2]), seed=1)
            assert report.outcome is None, report
            found.append(decode(report.output))
print(json.dumps(found))
"""


@pytest.mark.skipif(not HAS_UID, reason="the other tests run without a privilege here")
def test_all_of_it_holds_without_any_privilege(tmp_path):
    needs(FULL)
    uid = 54_321
    release = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (
        sys.executable,
        *(shutil.which(release, path=place) or "" for place in ("/usr/bin", "/usr/local/bin")),
    ):
        if python and _starts_as(uid, python):
            break
    else:
        pytest.skip("every interpreter here is root's alone")
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o777)
    path = os.pathsep.join([str(ROOT), *(place for place in sys.path if place.endswith("site-packages"))])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    found = ask(UNPRIVILEGED, str(uid), str(tmp_path / "outside"), python=python, env=environment)
    assert found[:2] == ["namespaces+landlock+seccomp", "landlock+seccomp"]
    assert found[2:] == [[uid, ["a.txt", "mine"], 9.0, ["refused"] * 4]] * 4
    assert [path.name for path in tmp_path.iterdir()] == []


def _starts_as(uid: int, python: str) -> bool:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import os, sys\nos.setuid({uid})\nos.execv(sys.argv[1], [sys.argv[1], '-c', ''])",
            python,
        ],
        capture_output=True,
    )
    return done.returncode == 0


# -- what a person sees ----------------------------------------------------------------------------------------------


def test_isolation_shows_itself():
    weak = Isolation("limits", (DEEDS["network"],), {"landlock": "no <such> call; a newer kernel"})
    assert str(weak) == "limits"
    assert repr(weak) == f"<Isolation limits: {len(DEEDS) - 1} of {len(DEEDS)} attacks stopped>"
    assert "&lt;such&gt;" in weak._repr_html_()
    assert "not stopped" in weak._repr_html_()
    assert weak.remedy == "landlock: no <such> call; a newer kernel"
    assert proved() is proved()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert proved().remedy == "" or "; " in proved().remedy
