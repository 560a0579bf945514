"""A workspace on a network file system: said, leased instead of locked, and not promised to survive a power cut."""

import os
import subprocess
import sys

import pytest

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.clock import ManualClock
from epsilon_lab.errors import InvalidInput, LabError, WorkspaceLocked
from epsilon_lab.testing.census import wait_until
from epsilon_lab.workspace import mounts
from epsilon_lab.workspace.lease import SKEW_S, TERM_S, Lease
from epsilon_lab.workspace.lock import WorkspaceLock


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A workspace of which the system says that another machine serves it."""
    said = tmp_path / "mountinfo"
    said.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:50 / {tmp_path} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", said)
    return tmp_path / "runs"


def test_it_is_said_and_works(runs):
    with pytest.warns(RuntimeWarning, match=r"lies on nfs4, a network file system.*kept by a lease"):
        lab = Lab(runs, workers=1)
    with lab:
        assert (runs / "lab" / "lease").exists()
        assert lab.start(WorkQueue([1, 2], abs)).wait(60).results() == [1, 2]
    lab.close()
    assert not (runs / "lab" / "lease").exists(), "given back"


def test_disk_is_refused_before_anything_is_made(runs):
    with pytest.raises(InvalidInput, match=r"durability: 'disk' cannot be promised: .* lies on nfs4"):
        Lab(runs, durability="disk")
    assert not runs.exists()


def test_another_process_is_named_and_one_that_is_gone_is_not_waited_for(runs, tmp_path):
    code = (
        "import sys; from pathlib import Path; from epsilon_lab.workspace import mounts;"
        "mounts.MOUNTINFO = Path(sys.argv[2]); from epsilon_lab.workspace.lock import WorkspaceLock;"
        "WorkspaceLock(sys.argv[1]).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(runs), str(tmp_path / "mountinfo")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WorkspaceLocked, match=rf"open in process {holder.pid} on .* or wait 1[45]\d s"):
            WorkspaceLock(runs).acquire()
        holder.kill()
        holder.wait()
        lock = WorkspaceLock(runs)
        lock.acquire()
        assert os.fstat(lock.fileno())
        lock.release()


def test_a_lab_whose_lease_was_taken_writes_nothing_more_and_says_so(runs, monkeypatch):
    monkeypatch.setattr(Lease.__init__, "__kwdefaults__", {"clock": None, "renew_s": 0.02})
    with pytest.warns(RuntimeWarning, match="nfs4"):
        lab = Lab(runs, workers=1)
    run = lab.start(WorkQueue([1], input))
    clock = ManualClock(2e9 + TERM_S + SKEW_S)
    thief = Lease(runs / "lab" / "lease", lambda: None, clock=clock, renew_s=60)
    assert thief.acquire() is None
    assert wait_until(lambda: lab._core.failure is not None, within_s=60)
    with pytest.raises(LabError, match=r"lease on the workspace .* ran out, and another process has taken it"):
        lab.sql("select 1")
    assert wait_until(lambda: run._runner.done.done(), within_s=60)
    size = (runs / "lab" / "journal.ndjson").stat().st_size
    lab.close()
    assert (runs / "lab" / "journal.ndjson").stat().st_size == size
    thief.release()
