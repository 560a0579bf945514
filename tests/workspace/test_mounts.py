"""Which file system a path lies on."""

from pathlib import Path

import pytest

from epsilon_lab.workspace import mounts
from epsilon_lab.workspace.mounts import file_system, is_remote, type_of

MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:50 / /home rw,relatime shared:2 master:7 - nfs4 server:/home rw,vers=4.2
41 40 8:1 / /home/me/fast rw - xfs /dev/sda1 rw
42 27 0:51 / /mnt/two\040words rw - cifs //server/share rw
43 27 0:52 / /data rw - nfs server:/data rw
44 27 8:2 / /data rw - btrfs /dev/sdb rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/runs", "ext4"),
        ("/home/me/runs", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/me", "ext4"),
        ("/home/me/fast/runs", "xfs"),
        ("/mnt/two words/runs", "cifs"),
        ("/data/runs", "btrfs"),
        ("/", "ext4"),
    ],
)
def test_the_innermost_mount_counts_and_the_last_of_those_on_top_of_each_other(path, kind):
    assert type_of(path, MOUNTS) == kind


def test_only_what_another_machine_serves_is_remote():
    assert [is_remote(kind) for kind in ("nfs", "nfs4", "cifs", "fuse.sshfs")] == [True] * 4
    assert [is_remote(kind) for kind in ("ext4", "xfs", "btrfs", "overlay", "tmpfs", "")] == [False] * 6


def test_this_machine_says_where_its_files_lie(tmp_path):
    assert file_system("/proc/self/stat") == "proc"
    assert file_system(tmp_path / "not" / "there") not in ("", "proc")


def test_where_the_system_does_not_say_nothing_is_known(monkeypatch):
    monkeypatch.setattr(mounts, "MOUNTINFO", Path("/none"))
    assert file_system("/tmp") == ""
    assert type_of("/tmp", "") == ""
