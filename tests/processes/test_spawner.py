"""The hostile zoo: every program that misbehaves is one bad row, and the next honest one gets its true result."""

from __future__ import annotations

import errno
import functools
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from epsilon_lab.processes import tree
from epsilon_lab.processes.data import Malformed, decode, encode
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.spawner import RunReport, Spawner, SpawnerFailed
from epsilon_lab.testing.census import wait_until

FILES = {"numbers.txt": b"1 2 3\n", "more.txt": b"4\n"}
TIME_S = 60
"""Seconds that a program may take where it is not the time that ends it: more than a busy machine needs."""

HONEST = "def solve(x):\n    return [x * 2, sum(map(int, open('numbers.txt').read().split()))]"


def side(run: Callable[[Any], Any] | None = None, inputs: tuple[Any, ...] = (21,)) -> bytes:
    return pickle.dumps(functools.partial(tuple, (run, inputs)))


def limits(**changes: Any) -> Limits:
    return Limits(**{"timeout_s": TIME_S, "memory_mb": 256, "output_mb": 4} | changes)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Spawner]:
    with Spawner(side(), FILES, limits()) as spawner:
        spawner.start()
        yield spawner


@pytest.fixture
def spawner(lasting: Spawner) -> Iterator[Spawner]:
    """A sandbox that others have used; whatever the test did in it, it lives, and the next honest program is right."""
    before = lasting.pid
    yield lasting
    assert output(lasting.run(HONEST, seed=1)) == [42, 6]
    assert lasting.pid == before


@pytest.fixture
def own() -> Iterator[Spawner]:
    """A sandbox that the test may end; the one in its place runs the next honest program right."""
    with Spawner(side(), FILES, limits()) as spawner:
        yield spawner
        assert output(spawner.run(HONEST, seed=1)) == [42, 6]


@pytest.fixture(scope="module")
def hasty() -> Iterator[Spawner]:
    """A sandbox that gives no program time."""
    with Spawner(side(), FILES, limits(timeout_s=0.5)) as spawner:
        spawner.start()
        yield spawner


def solve(body: str) -> str:
    return "def solve(x):\n" + "".join(f"    {line}\n" for line in body.strip("\n").splitlines())


def output(report: RunReport) -> Any:
    assert report.outcome is None, report
    return decode(report.output or b"")


def at_most(tier: str) -> str:
    """A tier, with the spare user's id where there is one."""
    return tier + "+uid" if os.geteuid() == 0 else tier


def zygote(spawner: Spawner) -> int:
    """Who forks the programs."""
    spawner.start()
    assert spawner.pid is not None
    return tree.children(spawner.pid)[0] if "namespaces" in spawner.isolation else spawner.pid


def in_time(spawner: Spawner, program: str) -> Any:
    """The output of an honest program, which a busy machine may keep for longer than a hasty sandbox waits."""
    reports = []

    def ran() -> bool:
        reports.append(spawner.run(program, seed=1))
        return reports[-1].outcome != "timeout"

    assert wait_until(ran, within_s=60)
    return output(reports[-1])


def running_as(uid: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == uid or f"\nUid:\t{uid}\t" in Path(f"/proc/{name}/status").read_text():
                found.append(int(name))
        except OSError:
            continue
    return found


def kill_once(pid: int, *, children: int) -> subprocess.Popen[bytes]:
    """Kill a process as soon as it has so many children: from outside, for this process waits for it."""
    look = f"len(open('/proc/{pid}/task/{pid}/children').read().split()) < {children}"
    return subprocess.Popen([sys.executable, "-c", f"import os\nwhile {look}: pass\nos.kill({pid}, 9)"])


# -- what an honest program gets -------------------------------------------------------------------------------------


def test_an_honest_program_is_run_and_measured(spawner: Spawner) -> None:
    report = spawner.run(solve("print('hello')\nsum(range(10**6))\nreturn (x, -0.0, {'a': b'b'})"), seed=1)
    assert output(report) == (21, -0.0, {"a": b"b"})
    assert report.stdout == "hello\n"
    assert 0 < report.cpu_s < TIME_S
    assert 0 < report.seconds < TIME_S
    assert report.peak_mb > 5
    assert report.error == report.traceback == ""


def test_run_replaces_the_call_of_the_entry() -> None:
    captured = [1, 2]

    def run(program: Any) -> Any:
        return [program.g(value) for value in captured]

    with Spawner(cloudpickle.dumps(functools.partial(tuple, (run, ()))), {}, limits()) as spawner:
        assert output(spawner.run("def g(x): return x + 1", seed=1)) == [2, 3]


def test_the_seed_decides_the_dice(spawner: Spawner) -> None:
    program = "import random, numpy\ndef solve(x):\n    return [random.random(), float(numpy.random.random())]"
    first, again, other = (output(spawner.run(program, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_set_order_is_the_same_in_every_sandbox() -> None:
    program = solve("return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})")
    orders = []
    for _ in range(2):
        with Spawner(side(), {}, limits()) as spawner:
            orders.append(output(spawner.run(program, seed=1)))
    assert orders[0] == orders[1]


def test_nothing_of_one_program_reaches_the_next(spawner: Spawner) -> None:
    spawner.run("import math, builtins\nmath.pi = 3\nbuiltins.kept = 1\ndef solve(x): return 0", seed=1)
    check = "import math, builtins\ndef solve(x): return [math.pi > 3.1, hasattr(builtins, 'kept')]"
    assert output(spawner.run(check, seed=1)) == [True, False]


def test_a_program_finds_its_files_as_they_were(spawner: Spawner) -> None:
    vandal = """
import os
for name in os.listdir('.'):
    for attack in (lambda: open(name, 'w').write('gone'), lambda: os.chmod(name, 0o777), lambda: os.remove(name)):
        try:
            attack()
        except OSError:
            pass
open('new.txt', 'w').write('x')
os.makedirs('a/b')
os.symlink('/etc', 'a/link')
os.chmod('a', 0)
return sorted(os.listdir('.'))
"""
    assert "new.txt" in output(spawner.run(solve(vandal), seed=1))
    report = spawner.run(solve("import os\nreturn {n: open(n, 'rb').read() for n in os.listdir('.')}"), seed=1)
    assert output(report) == FILES


def test_a_file_put_in_place_of_another_is_gone_too(spawner: Spawner) -> None:
    swap = """
import os
try:
    os.remove('numbers.txt')
    open('numbers.txt', 'w').write('7')
except PermissionError:
    pass
return 0
"""
    assert output(spawner.run(solve(swap), seed=1)) == 0
    assert output(spawner.run(HONEST, seed=1)) == [42, 6]


@pytest.mark.parametrize("tier", ["namespaces+landlock+seccomp", "landlock+seccomp", "namespaces", "limits"])
def test_files_survive_a_program_of_the_same_user(tier: str) -> None:
    """Where no spare user exists, everything is wiped and written anew."""
    vandal = solve(
        "import os\nos.remove('more.txt')\nos.remove('numbers.txt')\nopen('numbers.txt', 'w').write('9')\nreturn 0"
    )
    with Spawner(side(), FILES, limits(), tier=tier) as spawner:
        assert output(spawner.run(vandal, seed=1)) == 0
        assert output(spawner.run(HONEST, seed=1)) == [42, 6]
        assert spawner.isolation == tier


@pytest.mark.parametrize("tier", ["namespaces", "limits"])
def test_a_directory_nested_beyond_a_paths_length_is_wiped(tier: str) -> None:
    """Without landlock, which walks the whole way up at every step, so that the nesting itself takes long."""
    program = "import os\nfor _ in range(3_000):\n    os.mkdir('d')\n    os.chdir('d')\ndef solve(x): return 0"
    with Spawner(side(), FILES, limits(), tier=at_most(tier)) as spawner:
        assert output(spawner.run(program, seed=1)) == 0
        assert output(spawner.run(solve("import os\nreturn len(os.listdir('.'))"), seed=1)) == len(FILES)


def test_the_problems_side_that_cannot_be_loaded_is_said_so() -> None:
    class Gone:
        def __reduce__(self) -> Any:
            return (__import__, ("no_such_module_here",))

    with (
        Spawner(pickle.dumps(Gone()), {}, limits()) as spawner,
        pytest.raises(SpawnerFailed, match="no_such_module_here"),
    ):
        spawner.run(HONEST, seed=1)


# -- programs that fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "outcome", "error"),
    [
        ("def solve(x):\n    return x / 0", "crashed", "ZeroDivisionError: division by zero"),
        ("def solve(x:", "crashed", "SyntaxError"),
        ("def other(x): return 1", "crashed", "the program defines no function 'solve'"),
        ("def solve(): return 1", "crashed", "TypeError"),
        ("x = 'a\0b'", "crashed", "null bytes"),
        (solve("import sys\nsys.exit(3)"), "crashed", "SystemExit: 3"),
        ("raise SystemExit", "crashed", "SystemExit"),
        ("raise KeyboardInterrupt", "crashed", "KeyboardInterrupt"),
        (solve("return solve(x)"), "crashed", "RecursionError"),
        (solve("import os\nos._exit(0)"), "crashed", "before it returned"),
        (solve("import os\nos._exit(3)"), "crashed", "exit code 3"),
        (solve("import os\nos.kill(os.getpid(), 9)"), "crashed", "SIGKILL"),
        (solve("import ctypes\nctypes.string_at(0)"), "crashed", "SIGSEGV"),
        (solve("import os\nos.abort()"), "crashed", "SIGABRT"),
        (solve("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()"), "crashed", "cannot be shown"),
        (solve("raise ValueError('x' * 10**6 + '\\ud800')"), "crashed", "ValueError: xxx"),
        (solve("raise ValueError('\\x1b[2J \\u202e')"), "crashed", r"ValueError: \x1b[2J \u202e"),
        (solve("return bytearray(8 << 30)"), "memory", "256 MiB"),
        (solve("import numpy\nreturn numpy.zeros(1 << 30)"), "memory", "256 MiB"),
        (solve("a = []\nwhile True:\n    a.append([0] * 1000)"), "memory", "256 MiB"),
        (solve("return 'x' * (5 << 20)"), "too_large", "4,194,304 bytes"),
        (solve("return [1.5] * (1 << 20)"), "too_large", "4,194,304 bytes"),
        (solve("return (n for n in range(3))"), "bad_type", "output is a generator"),
        (solve("return {'a': [1, object()]}"), "bad_type", "output['a'][1] is an object"),
        (solve("a = []\nfor _ in range(10**5): a = [a]\nreturn a"), "bad_type", "nested deeper"),
        (solve("import os\nwhile True: os.write(3, b'x' * (1 << 20))"), "too_large", "4,194,304 bytes"),
    ],
)  # fmt: skip
def test_a_failure_has_its_own_name(spawner: Spawner, program: str, outcome: str, error: str) -> None:
    report = spawner.run(program, seed=1)
    assert (report.outcome, report.output) == (outcome, None)
    assert error in report.error
    assert "\n" not in report.error
    assert len(report.error) < 700


def test_a_traceback_shows_the_programs_own_lines(spawner: Spawner) -> None:
    report = spawner.run("def helper(y):\n    return y['no']\n\ndef solve(x):\n    return helper({})\n", seed=1)
    assert report.error == "KeyError: 'no'"
    assert "return y['no']" in report.traceback
    assert 'File "candidate.py", line 5, in solve' in report.traceback
    assert "zygote" not in report.traceback


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
        "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')",
        "import os, threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nwhile True: pass",
        "print('before the end')\nwhile True: pass",
    ],
)
def test_what_never_ends_is_ended_on_time(hasty: Spawner, body: str) -> None:
    before = hasty.pid
    report = hasty.run(solve(body), seed=1)
    assert report.outcome == "timeout"
    assert "0.5 s" in report.error
    assert report.seconds >= 0.5
    assert ("before the end" in report.stdout) == ("before" in body)
    assert in_time(hasty, HONEST) == [42, 6]
    assert hasty.pid == before, "the program alone was ended"


def test_a_program_that_has_returned_leaves_nothing_running(spawner: Spawner) -> None:
    program = """
import atexit, threading, time, sys
def solve(x):
    atexit.register(lambda: time.sleep(1000))
    threading.Thread(target=time.sleep, args=(1000,)).start()
    sys.stdout = None
    return x
"""
    report = spawner.run(program, seed=1)
    assert output(report) == 21
    assert report.seconds < TIME_S


def test_a_flood_of_output_neither_blocks_nor_grows(spawner: Spawner) -> None:
    program = solve("import sys\nfor _ in range(256): sys.stdout.write('x' * (1 << 20))\nprint('the end')\nreturn 1")
    report = spawner.run(program, seed=1)
    assert output(report) == 1
    assert report.stdout.endswith("the end\n")
    assert len(report.stdout) <= 16_000


# -- programs that start others --------------------------------------------------------------------------------------


CROWD = """
for _ in range(200):
    try:
        if os.fork() == 0: time.sleep(1000)
    except OSError: pass
"""
ESCAPE = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
"""
CHAIN = """
if os.fork() == 0:
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError: pass
"""
BOMB = """
while True:
    try: os.fork()
    except OSError: pass
"""
PROGRAM = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)"


@pytest.fixture(scope="module")
def crowded() -> Iterator[dict[tuple[str, bool], Spawner]]:
    """(tier, whether it is hasty) -> a sandbox."""
    with ExitStack() as held:
        found = {}
        for tier in ("namespaces", "limits"):
            for is_hasty in (False, True):
                given = limits(timeout_s=0.5 if is_hasty else TIME_S)
                found[tier, is_hasty] = held.enter_context(Spawner(side(), FILES, given, tier=at_most(tier)))
                found[tier, is_hasty].start()
        yield found


@pytest.mark.parametrize("tier", ["namespaces", "limits"])
@pytest.mark.parametrize(
    ("attack", "outcome"),
    [(attack + end, outcome) for attack in (CROWD, ESCAPE, CHAIN, PROGRAM)
     for end, outcome in (("\nreturn 1", None), ("\nwhile True: pass", "timeout"), ("\nos._exit(1)", "crashed"))]
    + [(BOMB, "timeout")],
)  # fmt: skip
def test_nothing_a_program_starts_survives_it(
    crowded: dict[tuple[str, bool], Spawner], attack: str, outcome: str | None, tier: str
) -> None:
    spawner = crowded[tier, outcome == "timeout"]
    uid = in_time(spawner, solve("import os\nreturn os.getuid()"))
    report = spawner.run("import os, time\n" + solve(attack), seed=1)
    assert report.outcome == outcome
    assert tree.children(zygote(spawner)) == []
    if uid != os.getuid():
        assert running_as(uid) == []
    assert in_time(spawner, HONEST) == [42, 6]


def test_a_timed_program_may_start_nothing() -> None:
    with Spawner(side(), {}, limits(processes=1), tier=at_most("limits")) as spawner:
        report = spawner.run(solve("import os\nreturn os.fork()"), seed=1)
        assert report.outcome == "crashed"
        assert "BlockingIOError" in report.error


# -- programs that want more than they were given --------------------------------------------------------------------


def test_patched_clocks_change_no_measurement(spawner: Spawner) -> None:
    program = """
import time
for name in ('time', 'monotonic', 'perf_counter', 'process_time'):
    setattr(time, name, lambda: 0.0)
def solve(x):
    return sum(range(5 * 10**6))
"""
    report = spawner.run(program, seed=1)
    assert report.seconds >= report.cpu_s * 0.5 > 0.01


def test_a_program_sees_no_key_and_no_variable_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-top-secret")
    monkeypatch.setenv("SOME_SETTING", "private")
    program = """
import os
def solve(x):
    found = dict(os.environ)
    for pid in ('self', os.getppid()):
        try:
            found[str(pid)] = open(f'/proc/{pid}/environ', 'rb').read().decode()
        except OSError:
            pass
    return found
"""
    with Spawner(side(), {}, limits()) as spawner:
        found = output(spawner.run(program, seed=1))
    assert not [value for value in found.values() if "secret" in value or "private" in value]
    assert found["HOME"] == found["TMPDIR"]
    assert set(found) <= {"PATH", "LANG", "LANGUAGE", "TZ", "HOME", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH"} | {
        name for name in found if name.startswith(("LC_", "PYTHON")) or name.endswith("_NUM_THREADS")
    }


@pytest.fixture
def groups() -> Iterator[None]:
    """Whoever runs the tests is in a group that programs must leave."""
    before = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([4242])
    yield
    if os.geteuid() == 0:
        os.setgroups(before)


@pytest.mark.usefixtures("groups")
def test_a_program_has_four_descriptors_and_no_privilege(own: Spawner) -> None:
    program = """
import ctypes, os
def solve(x):
    open_ones = []
    for fd in range(64):
        try:
            os.fstat(fd)
            open_ones.append(fd)
        except OSError:
            pass
    libc = ctypes.CDLL(None)
    capabilities = ctypes.create_string_buffer(24)
    libc.capget(ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)), capabilities)
    leads = os.getsid(0) == os.getpid()
    return [open_ones, capabilities.raw, libc.prctl(39, 0, 0, 0, 0), os.getgroups(), leads]
"""
    descriptors, capabilities, no_new, groups, leads = output(own.run(program, seed=1))
    assert descriptors == [0, 1, 2, 3]
    assert no_new == 1
    assert leads
    assert capabilities == bytes(24)
    if "uid" in own.isolation:
        assert groups == []


def test_a_program_is_under_every_limit_and_cannot_raise_one(spawner: Spawner) -> None:
    program = """
import resource
def solve(x):
    found = {}
    for name in ('CPU', 'NPROC', 'FSIZE', 'NOFILE', 'CORE', 'MEMLOCK'):
        number = getattr(resource, 'RLIMIT_' + name)
        found[name] = resource.getrlimit(number)[1]
        try:
            resource.setrlimit(number, (found[name] + 1,) * 2)
            found[name] = 'raised'
        except (ValueError, PermissionError):
            pass
    try:
        with open('big', 'wb') as file:
            file.write(bytes(70 << 20))
    except OSError as error:
        found['write'] = error.errno
    return found
"""
    spawner.start()
    processes = 32 if "uid" in spawner.isolation else None
    found = output(spawner.run(program, seed=1))
    assert found.pop("CPU") == TIME_S * (os.cpu_count() or 1) + 2
    assert processes in (None, found.pop("NPROC"))
    assert found == {"FSIZE": 64 << 20, "NOFILE": 64, "CORE": 0, "MEMLOCK": 0, "write": errno.EFBIG}


def test_a_program_cannot_kill_or_trace_who_runs_it(spawner: Spawner) -> None:
    spawner.start()
    if spawner.isolation == "limits":
        pytest.skip("programs run under the user's own id here, so they can signal the user's processes")
    before = spawner.pid
    program = """
import ctypes, os
def solve(x):
    said = []
    try:
        os.kill(os.getppid(), 9)
    except PermissionError as error:
        said.append('kill')
    if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) != 0:
        said.append('ptrace')
    try:
        open(f'/proc/{os.getppid()}/mem', 'rb')
    except PermissionError:
        said.append('mem')
    return said
"""
    assert output(spawner.run(program, seed=1)) == ["kill", "ptrace", "mem"]
    report = spawner.run(solve("import os\nos.kill(-1, 9)\nreturn 0"), seed=1)
    assert report.outcome in (None, "crashed")  # a kill of all it may kill spares the caller
    assert spawner.pid == before


def test_forged_bytes_are_at_most_data(spawner: Spawner) -> None:
    """A program may write its answer itself; what arrives is an output like any other, or nothing."""
    forged = b"o" + encode({"score": 1e9})
    report = spawner.run(solve(f"import os\nos.write(3, {forged!r})\nos._exit(0)"), seed=1)
    assert output(report) == {"score": 1e9}
    report = spawner.run(solve(f"import os\nos.write(3, {forged!r})\nreturn 1"), seed=1)
    with pytest.raises(Malformed):
        output(report)
    for junk in (b"ejunk", b"e" + encode(("scored", "x", "")), b"e" + encode(3), b"\xff" * 100):
        report = spawner.run(solve(f"import os\nos.write(3, {junk!r})\nos._exit(0)"), seed=1)
        assert report.outcome == "crashed"


# -- the sandbox itself ----------------------------------------------------------------------------------------------


def test_a_lost_sandbox_is_one_bad_row(own: Spawner) -> None:
    uid = output(own.run(solve("import os\nreturn os.getuid()"), seed=1))
    before = zygote(own)
    killer = kill_once(before, children=1)
    report = own.run(solve("while True: pass"), seed=1)
    killer.wait()
    assert report.outcome == "crashed"
    if uid != os.getuid():
        assert wait_until(lambda: not running_as(uid), within_s=60)  # the program died with its sandbox
    assert "replaced" in report.error
    assert not tree.is_alive(before)
    assert output(own.run(HONEST, seed=1)) == [42, 6]
    assert zygote(own) != before


def test_a_stuck_sandbox_is_killed_and_replaced(own: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epsilon_lab.processes.spawner._GRACE_S", 0.5 - TIME_S)
    own.start()
    os.kill(zygote(own), signal.SIGSTOP)
    report = own.run(HONEST, seed=1)
    assert report.outcome == "timeout"
    assert "replaced" in report.error


@pytest.mark.skipif(os.geteuid() != 0, reason="survivors can only be told by a user id of their own")
def test_survivors_of_a_lost_sandbox_die_with_its_successor() -> None:
    with Spawner(side(), FILES, limits(), tier="limits+uid") as spawner:
        uid = output(spawner.run(solve("import os\nreturn os.getuid()"), seed=1))
        killer = kill_once(spawner.pid or 0, children=2)
        report = spawner.run("import os, time\n" + solve(ESCAPE + "\nos.wait()\nwhile True: pass"), seed=1)
        killer.wait()
        assert report.outcome == "crashed"
        assert running_as(uid)
        spawner.start()
        assert wait_until(lambda: not running_as(uid), within_s=60)


@pytest.mark.parametrize("tier", ["namespaces+landlock+seccomp", "namespaces", "limits"])
@pytest.mark.parametrize("busy", [False, True])
def test_nothing_outlives_a_worker_that_is_killed(busy: bool, tier: str, tmp_path: Path) -> None:
    """A worker's SIGKILL closes the channel: the sandbox kills what runs, wipes its directory, and goes."""
    program = (
        solve(
            "import os\ntry:\n    if os.fork() == 0:\n        if os.fork():\n            os._exit(0)\n"
            "except OSError:\n    pass\nwhile True: pass"
        )
        if busy
        else HONEST
    )
    script = f"""
import functools, pickle, sys, time
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.spawner import Spawner
side = pickle.dumps(functools.partial(tuple, (None, (1,))))
limits = Limits(timeout_s=100, memory_mb=100, output_mb=1)
spawner = Spawner(side, {{"numbers.txt": b"1"}}, limits, tier={at_most(tier)!r})
spawner.start()
print(spawner.pid, flush=True)
spawner.run({program!r}, seed=1)
print("done", flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o711)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as worker:
        assert worker.stdout is not None
        keeper = int(worker.stdout.readline())
        forks = tree.children(keeper)[0] if tier != "limits" else keeper
        if busy:
            running = 1 if "seccomp" in tier else 2
            assert wait_until(lambda: len(tree.children(forks)) == running, within_s=60)
        else:
            assert worker.stdout.readline() == "done\n"
        below = tree.children(forks)
        worker.kill()
    assert wait_until(lambda: not any(map(tree.is_alive, [keeper, forks, *below])), within_s=60)
    assert os.listdir(tmp_path) == []


def test_a_sandbox_holds_no_other_sandboxs_channel() -> None:
    """A second sandbox that inherited the first one's descriptor would keep it alive for ever."""
    with Spawner(side(), {}, limits()) as first:
        first.start()
        with Spawner(side(), {}, limits()) as second:
            second.start()
            pid = first.pid or 0
            first.close()
            assert not tree.is_alive(pid)


def test_a_sandbox_starts_whatever_its_channels_descriptor() -> None:
    """A busy process gives it any number, the one that the sandbox moves it to among them, and those beside it."""
    script = f"""
import os
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.sandbox import _CONTROL_FD
from epsilon_lab.processes.spawner import Spawner
limits = Limits(timeout_s=5, memory_mb=100, output_mb=1)
while os.open(os.devnull, os.O_RDONLY) < _CONTROL_FD - 5: pass
for _ in range(7):
    with Spawner(None, {{}}, limits, preload=None, tier={at_most("limits")!r}) as spawner:
        spawner.start()
    os.open(os.devnull, os.O_RDONLY)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_arrays_come_back(spawner: Spawner) -> None:
    report = spawner.run(solve("import numpy\nreturn [numpy.arange(6).reshape(2, 3), numpy.float32(0.5)]"), seed=1)
    array, number = output(report)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert number == np.float32(0.5)


def test_running_two_sandboxes_side_by_side_mixes_nothing() -> None:
    with Spawner(side(inputs=(1,)), FILES, limits()) as one, Spawner(side(inputs=(2,)), FILES, limits()) as two:
        assert [output(s.run(solve("return x"), seed=1)) for s in (one, two, one)] == [1, 2, 1]
        one_uid, two_uid = (output(s.run(solve("import os\nreturn os.getuid()"), seed=1)) for s in (one, two))
        assert one_uid != two_uid or "uid" not in one.isolation
