"""A process is known by its id and the moment of its birth."""

import os
import subprocess
import sys

import pytest

from epsilon_lab.workspace.presence import birth, is_there

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc")


def test_a_process_is_there_until_it_has_ended_though_nobody_asks():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        born = birth(process.pid)
        assert born is not None
        assert is_there(process.pid, born)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now, and stays one
        assert not is_there(process.pid, born)
        assert birth(process.pid) is None
    assert not is_there(process.pid, born)
    assert not is_there(process.pid, None)


def test_another_process_with_the_same_id_is_another():
    me = os.getpid()
    assert is_there(me, birth(me))
    assert not is_there(me, birth(me) - 1)
    assert is_there(me, None), "where the moment was not written down, the id has to do"
    assert is_there(1, None)
