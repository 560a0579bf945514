"""A sandbox's process: sets itself up as strong as it may, has itself attacked, and then forks programs.

Started fresh by `Spawner`, it imports what programs are likely to use (they may be unable to read the interpreter's
files once they have another user id), and then holds nothing but the candidate's side of one problem: no scorer, no
key, no descriptor besides its channel. It is not dumpable, so a program cannot trace it; it is a subreaper, so what
forks twice and calls `setsid` comes back to be killed.

Where it lives in namespaces it is two processes: the first one inside them, and its keeper outside, which cleans up.
"""

from __future__ import annotations

import ast
import importlib
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from epsilon_lab.processes import namespaces, native, probe, tree
from epsilon_lab.processes.account import one_line
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.confinement import Confinement, tier, usable_uid
from epsilon_lab.processes.data import decode
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.scratch import Scratch
from epsilon_lab.processes.zygote import Zygote

PRELOADED = """
    abc array ast base64 binascii bisect bz2 calendar cmath codecs collections collections.abc concurrent.futures
    concurrent.futures.thread contextlib copy csv dataclasses datetime decimal difflib enum fnmatch fractions functools
    gc glob graphlib gzip hashlib heapq hmac inspect io itertools json keyword linecache locale logging lzma math mmap
    numbers operator os os.path pathlib pickle pprint queue random re secrets shutil signal stat statistics string
    struct subprocess sys tempfile textwrap threading time timeit tokenize traceback types typing unicodedata uuid
    warnings weakref zlib zoneinfo _strptime
    encodings.ascii encodings.cp1252 encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_32
    encodings.utf_8_sig
    numpy numpy.fft numpy.lib.stride_tricks numpy.linalg numpy.ma numpy.polynomial numpy.random
    epsilon_lab.processes.arrays
""".split()  # noqa: SIM905 - a list of ninety quoted names is harder to read
"""What a program can import whatever its user id may read; besides these, what its problem's seed program imports."""

_CONTROL_FD = 50  # out of the way of the descriptors a program gets


def main(fd: int) -> None:
    """Serve one spawner until its channel closes."""
    if fd != _CONTROL_FD:  # which it may be by chance: then it is where it should be
        os.dup2(fd, _CONTROL_FD)
        os.close(fd)
    os.set_inheritable(_CONTROL_FD, False)
    channel = Channel(socket.socket(fileno=_CONTROL_FD))
    with suppress(ChannelClosed):
        setup = channel.receive()
        if setup["python"] != list(sys.version_info[:2]):  # of a container's image
            theirs, ours = (".".join(map(str, version)) for version in (setup["python"], sys.version_info[:2]))
            channel.send({"error": f"the sandbox has Python {ours} and the lab {theirs}; take an image with {theirs}"})
            return
        uid = usable_uid(setup["uids"])
        scratch = Scratch(setup["files"], uid)
        try:
            if "namespaces" in setup["mechanisms"]:
                _serve_inside(channel, setup, scratch, uid)
            else:
                _serve(channel, setup, scratch, Confinement(uid, in_namespaces=False, readable=_site(setup)))
        finally:
            tree.reap_children()
            scratch.remove()


def _serve_inside(channel: Channel, setup: dict[str, Any], scratch: Scratch, uid: int | None) -> None:
    """Serve from a child in namespaces of its own; this process stays outside, cleans up, and ends as the child does.

    What the machine refuses is told, and nothing is served: half a way into a namespace there is no way back.
    """
    try:
        namespaces.enter(uid)
    except OSError as error:
        channel.send({"refused": {"namespaces": str(error)}})
        return
    child = os.fork()
    if child:
        channel.close()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        scratch.remove()
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)
    try:
        native.prctl(native.PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            namespaces.seal()
            scratch.bound(setup["limits"]["file_mb"] << 20)
        except OSError as error:
            channel.send({"refused": {"namespaces": str(error)}})
            os._exit(0)
        with suppress(ChannelClosed):
            _serve(channel, setup, scratch, Confinement(uid, in_namespaces=True, readable=_site(setup)))
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the end of this process
        traceback.print_exc()
    finally:
        os._exit(1)


def _serve(channel: Channel, setup: dict[str, Any], scratch: Scratch, confinement: Confinement) -> None:
    if tree.become_subreaper():
        native.prctl(native.PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a first process is spared only signals that it has no handler for
    sys.dont_write_bytecode = True
    sys.path.extend(path for path in _site(setup) if path not in sys.path)
    if setup["preload"] is not None:
        _load(PRELOADED)
        _load(setup["preload"])
    try:
        run, inputs = _candidate_side(setup["side"], setup["sys_path"])
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises on import is told to the user
        channel.send({"error": one_line(error)})
        return
    if setup["uids"] and confinement.uid is None:
        confinement.refused["uid"] = "no spare user id can be taken"
    if "landlock" in setup["mechanisms"]:
        confinement.add_landlock(scratch.path)
    if "seccomp" in setup["mechanisms"]:
        confinement.add_seccomp()
    found = _probed(channel, scratch, confinement)
    zygote = Zygote(
        channel=channel,
        scratch=scratch,
        confinement=confinement,
        limits=Limits(**setup["limits"]),
        entry=setup["entry"],
        run=run,
        inputs=inputs,
    )
    channel.send(found)
    zygote.serve()


def _probed(channel: Channel, scratch: Scratch, confinement: Confinement) -> dict[str, Any]:
    """Let a hostile program try what this sandbox should stop, and tell what it did stop."""
    hostile = Zygote(
        channel=channel,
        scratch=scratch,
        confinement=confinement,
        limits=probe.LIMITS,
        entry="solve",
        run=None,
        inputs=(scratch.witness, scratch.room),
    )
    report = hostile.see_through(probe.PROGRAM, 0, None)
    if report["outcome"] is not None:
        done, refused = list(probe.DEEDS), {"proof": report["error"]}
    else:
        done = decode(report["output"]) + ["survivors"] * (not tree.is_childless())
        refused = dict(probe.broken(confinement.held, done))
    return {
        "isolation": tier(probe.believed(confinement.held, done)),
        "not_stopped": done,
        "refused": confinement.refused | refused,
    }


def _site(setup: dict[str, Any]) -> list[str]:
    """Where the lab's process finds installed libraries."""
    return [path for path in setup["sys_path"] if path.endswith(("site-packages", "dist-packages"))]


def _load(names: Iterable[str]) -> None:
    for name in names:
        with suppress(Exception):  # a program that needs it will say so itself, in its own row
            importlib.import_module(name)


def _candidate_side(blob: bytes | None, search: list[str]) -> tuple[Callable[[Any], Any] | None, tuple[Any, ...]]:
    """Unpickle `run` and the inputs; their modules are searched where the lab's own process would."""
    if blob is None:
        return None, ()
    own = sys.path[:]
    sys.path[:] = search or own
    try:
        run, inputs = pickle.loads(blob)()
    finally:
        sys.path[:] = own
    return run, tuple(inputs)


def imported_by(source: str) -> list[str]:
    """Names of the modules a trusted program imports; none if it does not parse."""
    try:
        parsed = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names: set[str] = set()
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return sorted(names)
