"""Near the lab, or far from it: how its broker is dialed, and where the files of its runs are found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from epsilon_lab.broker.client import Peer
from epsilon_lab.transport import curve, zeromq
from epsilon_lab.transport.base import Dialer
from epsilon_lab.transport.keys import read_client_key
from epsilon_lab.workers.execution import OpenRunDirectory, local_run
from epsilon_lab.workers.mirror import Mirrors


class Afar(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to work for a broker on another machine."""

    key_file: str
    """Absolute path of the key file that the lab made for its workers."""

    mirror: str
    """Absolute path of a directory to keep copies of runs' files in."""


def dial(address: str, peer_id: str, afar: Afar | None) -> Dialer:
    """Open a peer's end, as the broker is reached from here.

    Raises:
        InvalidInput: The address is not of the form that is dialed so, or the key file is not good.
    """
    if afar is None:
        return zeromq.dial(address, peer_id)
    return curve.dial(address, peer_id, read_client_key(afar.key_file))


def find_runs(peer: Peer, afar: Afar | None) -> OpenRunDirectory:
    """What finds the files of an assignment's run."""
    return local_run if afar is None else Mirrors(peer, Path(afar.mirror))
