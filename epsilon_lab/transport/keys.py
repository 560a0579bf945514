"""Who may dial a TCP end: CURVE keys, in files that only their owner can read.

A lab has a key pair of its own and makes one for its workers, once. What a worker needs is one file, `worker.key`: the
lab's public key, by which it knows that it speaks to this lab, and the secret key by which the lab knows it. Copy that
file, never its contents: a key stands on no command line, in no log, no error and no journal. Whoever holds the file
can run the lab's tasks and give the lab results that it unpickles; to shut such a holder out, delete the file and open
the lab again, which makes a fresh one.

The files are JSON and not ZeroMQ's certificates, because those keep a worker's two halves in separate files.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import zmq

from epsilon_lab.errors import InvalidInput, WorkspaceError

SERVER_KEY = "server.key"
WORKER_KEY = "worker.key"

_Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
"""32 bytes in Z85."""


class ServerKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a listener needs."""

    public: _Key
    secret: _Key
    admitted: frozenset[str] = frozenset()
    """Public keys of those who may dial."""

    def __repr__(self) -> str:
        return f"ServerKeys({len(self.admitted)} admitted)"


class ClientKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dialer needs."""

    server: _Key
    """The listener's public key."""

    public: _Key
    secret: _Key

    def __repr__(self) -> str:
        return "ClientKeys()"


_Keys = TypeVar("_Keys", ServerKeys, ClientKeys)


def lab_keys(directory: Path) -> ServerKeys:
    """Read a lab's keys, or make them where there are none: `server.key`, which never leaves, and `worker.key`.

    Args:
        directory: Where they lie; made with mode 0700.

    Raises:
        WorkspaceError: The directory cannot be written to.
        InvalidInput: A file can be read by others, or holds no keys, or the two do not belong together.
    """
    server, worker = directory / SERVER_KEY, directory / WORKER_KEY
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if not server.exists():
            public, secret = _pair()
            _write(server, ServerKeys(public=public, secret=secret))
        keys = _read(server, ServerKeys)
        if not worker.exists():
            public, secret = _pair()
            _write(worker, ClientKeys(server=keys.public, public=public, secret=secret))
    except OSError as error:
        raise WorkspaceError(f"keys cannot be kept in {directory} ({error.strerror}); make it writable") from error
    admitted = _read(worker, ClientKeys)
    if admitted.server != keys.public:
        raise InvalidInput(f"key file {worker}", "belongs to another lab", "delete it, and open the lab again")
    return msgspec.structs.replace(keys, admitted=frozenset([admitted.public]))


def read_client_key(path: Path | str) -> ClientKeys:
    """Read the file that a lab made for its workers.

    Raises:
        InvalidInput: It is not there, others can read it, or it holds no such keys. No part of it is shown.
    """
    return _read(Path(path), ClientKeys)


def _pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _write(path: Path, keys: ServerKeys | ClientKeys) -> None:
    """Write a file that was never readable by others; of two who write at once, one wins and both read the same."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(msgspec.json.encode(keys) + b"\n")
            file.flush()
            os.fsync(handle)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _read(path: Path, kind: type[_Keys]) -> _Keys:
    what = f"key file {path}"
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise InvalidInput(what, f"can be read by others (mode {mode:04o})", f"chmod 600 {path}")
            return msgspec.json.decode(file.read(4096), type=kind)
    except OSError as error:
        raise InvalidInput(what, f"cannot be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidInput(what, f"holds no {kind.__name__}", f"take {WORKER_KEY} from the lab's keys/") from None
