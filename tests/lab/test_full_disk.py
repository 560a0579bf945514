"""A disk that fills up: nothing more is begun while what is under way can still be recorded; then it goes on."""

import errno
import os
import shutil
import subprocess
import warnings

import pytest

from epsilon_lab import LLM, Lab, WorkQueue
from epsilon_lab.errors import WorkspaceError
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import ModelServer, Text

MB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 24 MB of which 8 are to stay free."""
    monkeypatch.setenv("EPSILON_DISK_RESERVE_BYTES", str(8 * MB))
    place = tmp_path / "disk"
    place.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=False).returncode:
        pytest.skip("a disk can be mounted by root alone")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(place, leave):
    stat = os.statvfs(place)
    (place / "ballast").write_bytes(bytes(stat.f_bavail * stat.f_frsize - leave))


def held(path, bulk=1):
    def item(number):
        import os
        import select

        (path / f"began-{number}").touch()
        while not os.path.exists(path / "go"):
            select.select([], [], [], 0.02)
        return [number] * bulk

    return item


def test_what_is_under_way_is_finished_and_nothing_more_is_begun_until_there_is_room(small_disk, tmp_path):
    with Lab(small_disk / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(range(40), held(tmp_path)))
        assert wait_until(lambda: (tmp_path / "began-0").exists(), within_s=60)
        fill(small_disk, leave=6 * MB)
        assert wait_until(lambda: lab._core._host.shortage, within_s=60)
        (tmp_path / "go").touch()
        assert wait_until(lambda: run.frame("tasks")["status"].isin(["running"]).sum() == 0, within_s=60)
        done = (run.frame("tasks")["status"] == "completed").sum()
        assert 0 < done < 40, "what was under way is recorded"
        assert run.status == "running"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(WorkspaceError, match=r"is nearly full \([56] MB left\).*Free 16 MB, and it goes on"):
                lab.start(WorkQueue([1], abs))
        with pytest.warns(RuntimeWarning, match="nearly full"):
            assert lab.endpoint
        assert lab.sql("select type from events where type = 'lab.disk'").shape == (1, 1)
        (small_disk / "ballast").unlink()
        assert run.wait(60).results() == [[number] for number in range(40)]
        assert lab.start(WorkQueue([1], abs)).wait(60).results() == [1]


def test_a_disk_that_is_quite_full_interrupts_a_run_which_then_goes_on(small_disk, tmp_path, monkeypatch):
    """Nobody may have seen it coming: the reserve was used up by someone else at once."""
    monkeypatch.setenv("EPSILON_DISK_RESERVE_BYTES", "0")
    with Lab(small_disk / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(range(4), held(tmp_path, bulk=5_000)))
        assert wait_until(lambda: (tmp_path / "began-0").exists(), within_s=60)
        fill(small_disk, leave=0)
        (tmp_path / "go").touch()
        assert wait_until(lambda: run.status == "interrupted", within_s=60)
        assert "No space left" in run.reason
        assert f"lab.resume({run.run_id!r})" in run.reason
        (small_disk / "ballast").unlink()
        assert lab.resume(run.run_id).wait(60).results() == [[number] * 5_000 for number in range(4)]


@pytest.fixture
def unforeseen(monkeypatch):
    """Nobody looks how full the disk is."""
    monkeypatch.setenv("EPSILON_DISK_RESERVE_BYTES", "0")
    monkeypatch.setenv("TOY_KEY", "k")


def asking(server):
    return WorkQueue(["What?"], LLM("http/toy", api_base=server.url, api_key_env="TOY_KEY", retries=0))


def test_a_reply_that_comes_when_the_disk_is_full_has_its_room(small_disk, unforeseen):
    def answer(request):
        fill(small_disk, leave=0)
        return Text("that" * 5_000)

    with ModelServer(answer) as server, Lab(small_disk / "runs", workers=1) as lab:
        run = lab.start(asking(server))
        assert run.wait(60).results() == ["that" * 5_000]
        assert len(server.requests) == 1
        assert (run.path / "replies" / "item-000000-0.json").stat().st_size > 20_000
        (small_disk / "ballast").unlink()


def test_nothing_is_asked_where_the_reply_would_have_no_room(small_disk, unforeseen):
    with ModelServer(lambda request: Text("that")) as server, Lab(small_disk / "runs", workers=1) as lab:
        queue = asking(server)
        fill(small_disk, leave=100_000)
        run = lab.start(queue)
        assert wait_until(lambda: run.status == "interrupted", within_s=60)
        assert "262,144 bytes for what is to come cannot be written (No space left on device)" in run.reason
        assert not server.requests
        (small_disk / "ballast").unlink()
        assert lab.resume(run.run_id).wait(60).results() == ["that"]
        assert run.frame("tasks")["status"].tolist() == ["completed"]


def test_a_disk_that_fails_interrupts_the_run_which_goes_on_in_a_copy(tmp_path, monkeypatch):
    """A second sync of the same file would succeed and prove nothing."""
    sync, bad = os.fdatasync, []

    def fail(handle):
        if os.fstat(handle).st_ino in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    monkeypatch.setattr(os, "fdatasync", fail)
    with Lab(tmp_path / "runs", workers=1, durability="disk") as lab:
        run = lab.start(WorkQueue(range(4), held(tmp_path)))
        assert wait_until(lambda: (tmp_path / "began-0").exists(), within_s=60)
        bad.append((run.path / "journal.ndjson").stat().st_ino)
        (tmp_path / "go").touch()
        assert wait_until(lambda: run.status == "interrupted", within_s=60)
        assert "could not be put on disk (Input/output error); check that disk, copy the directory" in run.reason
        bad.clear()
        with pytest.raises(WorkspaceError, match="failed before in this process"):
            lab.resume(run.run_id)
        shutil.copytree(run.path, tmp_path / "runs" / "copy")
        assert lab.resume("copy", trust=True).wait(60).results() == [[number] for number in range(4)]
