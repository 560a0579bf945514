"""Key files: made once, readable by their owner alone, shown nowhere."""

import stat

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.transport.keys import SERVER_KEY, WORKER_KEY, lab_keys, read_client_key


def test_they_are_made_once_and_nobody_else_can_read_them(tmp_path):
    directory = tmp_path / "keys"
    made = lab_keys(directory)
    assert lab_keys(directory) == made
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name for path in directory.iterdir()} == {SERVER_KEY, WORKER_KEY}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in directory.iterdir())


def test_the_workers_file_fits_and_the_labs_secret_stays(tmp_path):
    server = lab_keys(tmp_path)
    client = read_client_key(tmp_path / WORKER_KEY)
    assert client.server == server.public
    assert server.admitted == {client.public}
    assert server.secret not in (tmp_path / WORKER_KEY).read_text()


def test_a_deleted_file_shuts_its_holders_out(tmp_path):
    before = lab_keys(tmp_path)
    (tmp_path / WORKER_KEY).unlink()
    after = lab_keys(tmp_path)
    assert after.public == before.public
    assert not after.admitted & before.admitted


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("name", [SERVER_KEY, WORKER_KEY])
def test_a_file_that_others_can_read_is_refused(tmp_path, name, mode):
    lab_keys(tmp_path)
    (tmp_path / name).chmod(mode)
    with pytest.raises(InvalidInput, match="chmod 600"):
        lab_keys(tmp_path)


def test_a_workers_file_of_another_lab_is_refused(tmp_path):
    lab_keys(tmp_path / "a")
    lab_keys(tmp_path / "b")
    (tmp_path / "a" / WORKER_KEY).replace(tmp_path / "b" / WORKER_KEY)
    with pytest.raises(InvalidInput, match="another lab"):
        lab_keys(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b'{"server": "short"}', b"x" * 10_000])
def test_what_holds_no_keys_is_refused_and_not_shown(tmp_path, content):
    path = tmp_path / WORKER_KEY
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="holds no ClientKeys"):
        read_client_key(path)


def test_a_secret_is_in_no_repr_and_no_error(tmp_path):
    server = lab_keys(tmp_path)
    client = read_client_key(tmp_path / WORKER_KEY)
    assert server.secret not in repr(server)
    assert client.secret not in repr(client)
    path = tmp_path / WORKER_KEY
    path.write_bytes(msgspec.json.encode({"secret": client.secret, "public": client.public}))
    with pytest.raises(InvalidInput) as caught:
        read_client_key(path)
    assert client.secret not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.key.*No such file"):
        read_client_key(tmp_path / "none.key")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="keys cannot be kept"):
        lab_keys(tmp_path / "file" / "keys")
