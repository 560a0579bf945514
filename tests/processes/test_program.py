"""An outside program is confined, limited, and ended with everything it started; what became of it is said."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import epsilon_lab
from epsilon_lab.errors import InvalidInput
from epsilon_lab.processes.program import CannotStart, Finished, Kept, Program, run_program, run_program_async
from epsilon_lab.testing.census import living, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")

Run = Callable[..., Finished]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`run("echo")` in a directory of its own, `work`."""
    (tmp_path / "work").mkdir()

    def call(command: Any, *, timeout_s: float = 60.0, **options: Any) -> Finished:
        return run_program(command, cwd=tmp_path / "work", timeout_s=timeout_s, **options)

    return call


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


# -- what becomes of it -----------------------------------------------------------------------------------------------


def test_what_it_writes_and_how_it_ends(run: Run, tmp_path: Path):
    done = run("echo out; echo err >&2; echo data > made; exit 3")
    assert (done.code, done.outcome, done.stdout, done.stderr) == (3, "ended", "out\n", "err\n")
    assert not done.is_ok
    assert (tmp_path / "work/made").read_text() == "data\n"
    assert (tmp_path / "work/made").stat().st_uid == os.geteuid()
    assert run("kill -SEGV $$").code == -signal.SIGSEGV
    assert run(["printf", "%s", "$HOME *"]).stdout == "$HOME *"


def test_of_a_flood_head_and_tail_are_kept(run: Run):
    done = run("echo first; yes | head -c 3000000; echo last", output_limit=1000)
    assert done.stdout.startswith("first\n")
    assert done.stdout.endswith("last\n")
    assert "[2999011 bytes are left out here]" in done.stdout


def test_kept_keeps_all_that_fits():
    kept = Kept(10)
    for part in (b"0123", b"4567", b"89"):
        kept.add(part)
    assert str(kept) == "0123456789"
    kept.add(b"abcdefgh" * 9)
    assert str(kept) == "01234\n[72 bytes are left out here]\ndefgh"


def test_what_cannot_start_says_why(run: Run, tmp_path: Path):
    with pytest.raises(CannotStart, match="no program 'no-such-program' in PATH"):
        run(["no-such-program"])
    with pytest.raises(CannotStart, match="does not exist"):
        run(["./missing"])
    (tmp_path / "work/plain").write_text("no shebang")
    with pytest.raises(CannotStart, match="is not executable"):
        run(["./plain"])
    (tmp_path / "work/plain").chmod(0o755)
    with pytest.raises(CannotStart, match="Exec format error"):
        run(["./plain"])
    with pytest.raises(InvalidInput, match="is not a directory"):
        run_program("true", cwd=tmp_path / "nowhere", timeout_s=1)
    with pytest.raises(InvalidInput, match="command"):
        run([])


# -- its end ----------------------------------------------------------------------------------------------------------

DAEMON = "(setsid sleep 1000 >/dev/null 2>&1 &); "
"""A grandchild in a session of its own, that has lost its parent."""


def left(tmp_path: Path) -> dict[int, str]:
    return living(tmp_path / "work")


def test_at_the_time_limit_all_of_it_ends_whatever_it_ignores(run: Run, tmp_path: Path):
    done = run(f"trap '' TERM INT HUP; {DAEMON} echo ready; sleep 1000", timeout_s=3.0)
    assert (done.outcome, done.code, done.stdout) == ("timeout", None, "ready\n")
    assert not left(tmp_path)


@pytest.mark.parametrize("confine", [True, False])
def test_what_it_leaves_behind_ends_with_it(run: Run, tmp_path: Path, confine: bool):
    assert run(DAEMON + "sleep 1000 & echo done", confine=confine).stdout == "done\n"
    assert not left(tmp_path)


def test_kill_from_another_thread(tmp_path: Path):
    with Program(f"{DAEMON} echo ready; sleep 1000", cwd=tmp_path) as program:
        events = program.events(timeout_s=60)
        assert next(events) == ("stdout", b"ready\n")
        threading.Thread(target=program.kill).start()
        assert list(events) == []
    assert program.outcome == "killed"
    assert not living(tmp_path)


def test_an_exception_ends_it(tmp_path: Path):
    def interrupted() -> None:
        with Program(DAEMON + "sleep 1000", cwd=tmp_path):
            assert living(tmp_path)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not living(tmp_path)


def test_who_is_cancelled_has_ended_it_first(tmp_path: Path):
    async def main() -> None:
        done = await run_program_async("echo hello", cwd=tmp_path, timeout_s=60)
        assert done.stdout == "hello\n"
        os.mkfifo(tmp_path / "here")
        async with anyio.create_task_group() as group:
            long = functools.partial(run_program_async, cwd=tmp_path, timeout_s=60)
            group.start_soon(long, DAEMON + "echo > here; sleep 1000")
            await anyio.to_thread.run_sync((tmp_path / "here").read_text)  # until it writes
            group.cancel_scope.cancel()
        assert not living(tmp_path)

    anyio.run(main)


@pytest.mark.parametrize("confine", [True, False])
def test_who_runs_it_is_killed_and_nothing_is_left(tmp_path: Path, confine: bool):
    code = f"""
        from epsilon_lab.processes.program import run_program
        run_program({DAEMON + "echo > here; sleep 1000"!r}, cwd={str(tmp_path)!r}, timeout_s=600, confine={confine})
    """
    process = subprocess.Popen(python(code))
    assert wait_until((tmp_path / "here").exists, within_s=60)
    process.kill()
    process.wait()
    assert wait_until(lambda: not living(tmp_path), within_s=60)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_memory_is_limited_in_one_process_and_in_all(run: Run):
    assert "MemoryError" in run(python("bytearray(200 << 20)"), memory_mb=100).stderr
    many = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                held = bytearray(60 << 20)
                time.sleep(1000)
        time.sleep(1000)
    """
    assert run(python(many), memory_mb=100).outcome == "memory"


def test_a_fork_bomb_is_ended(run: Run, tmp_path: Path):
    """One that lives on: a wilder one meets the kernel's limit first, and its shells die of that."""
    assert run("for i in $(seq 100); do sleep 1000 & done; wait", processes=40).outcome == "processes"
    bomb = "import os\nfor _ in range(12):\n  os.fork()\nimport time; time.sleep(1000)"
    assert run(python(bomb), processes=40).outcome == "processes"
    assert not left(tmp_path)


def test_who_fills_the_disk_is_ended(run: Run):
    assert run("i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > f$i; done", disk_mb=20).outcome == "disk"
    assert "File size limit" in run("head -c 30000000 /dev/zero > g", disk_mb=20).stderr


def test_what_keeps_a_program_loads_nothing_that_would_make_its_start_slow():
    said = "import sys; import epsilon_lab.processes.keeper; print(*{'dataclasses', 'inspect'} & {*sys.modules})"
    house = Path(epsilon_lab.__file__).parents[1]
    assert (
        subprocess.run([sys.executable, "-S", "-c", said], cwd=house, check=True, stdout=subprocess.PIPE).stdout
        == b"\n"
    )
