"""One writer a workspace."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from epsilon_lab.errors import WorkspaceError, WorkspaceLocked
from epsilon_lab.workspace.lock import WorkspaceLock

HOLD = """
import sys
from epsilon_lab.workspace.lock import WorkspaceLock
WorkspaceLock(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_named(tmp_path, holder):
    with pytest.raises(WorkspaceLocked, match="read_only=True") as caught:
        WorkspaceLock(tmp_path).acquire()
    assert (caught.value.pid, caught.value.host) == (holder.pid, socket.gethostname())


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    assert lock.is_held
    lock.release()


def test_a_second_lock_of_this_process_is_refused_until_the_first_is_released(tmp_path):
    first, second = WorkspaceLock(tmp_path), WorkspaceLock(tmp_path)
    first.acquire()
    first.acquire()
    with pytest.raises(WorkspaceLocked):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    assert json.loads(second.path.read_text())["pid"] == os.getpid()
    second.release()


def test_a_child_does_not_inherit_the_lock(tmp_path):
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    code = "print('here', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, close_fds=False) as child:
        assert child.stdout.readline() == b"here\n"  # the program has begun, so descriptors that close then are closed
        lock.release()
        again = WorkspaceLock(tmp_path)
        again.acquire()
        again.release()
        child.communicate(b"\n")


def test_a_holder_with_an_unreadable_note_is_still_a_holder(tmp_path):
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    lock.path.write_text("{")
    with pytest.raises(WorkspaceLocked, match="another process"):
        WorkspaceLock(tmp_path).acquire()
    lock.release()


def test_a_place_that_cannot_be_written_names_the_path(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(WorkspaceError, match=r"file.*cannot be written to"):
        WorkspaceLock(file).acquire()


SHARE = HOLD.replace(
    "WorkspaceLock(sys.argv[1]).acquire()",
    """
import subprocess
lock = WorkspaceLock(sys.argv[1])
lock.acquire()
subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=(lock.fileno(),), stdin=int(sys.argv[2]))
""",
)


@pytest.fixture
def worker(tmp_path):
    """A process that shares the lock of one that was killed; it ends when its lifeline, the result, is written to."""
    lifeline, end = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", SHARE, str(tmp_path), str(lifeline)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(lifeline,),
    ) as holder:
        os.close(lifeline)
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        yield end, holder.pid
    os.close(end)


def test_what_is_left_of_a_killed_holder_is_waited_for(tmp_path, worker):
    end, _ = worker
    lock = WorkspaceLock(tmp_path)
    later = threading.Timer(0.2, os.write, (end, b"\n"))
    later.start()
    lock.acquire()
    assert later.finished.is_set(), "not before it had ended"
    later.join()
    lock.release()


def test_what_does_not_end_is_told(tmp_path, worker, monkeypatch):
    end, pid = worker
    monkeypatch.setattr("epsilon_lab.workspace.lock._PATIENCE_S", 0.05)
    with pytest.raises(WorkspaceLocked, match=rf"held by workers of process {pid} .*, which is gone; end what it left"):
        WorkspaceLock(tmp_path).acquire()
    os.write(end, b"\n")
    monkeypatch.undo()
    lock = WorkspaceLock(tmp_path)
    lock.acquire()
    lock.release()


def test_only_a_lock_that_is_held_can_be_shared(tmp_path):
    with pytest.raises(WorkspaceError, match="only a lock that is held"):
        WorkspaceLock(tmp_path).fileno()
