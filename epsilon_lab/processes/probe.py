"""A hostile program that a sandbox runs first, upon itself: what it is stopped from is what the sandbox may claim.

Configured is not the same as held: a kernel may lack a part, a container may switch one off. So every sandbox, once it
is set up, forks this program exactly as it will fork the candidates, and lets it try what each mechanism promises to
stop. A mechanism that let one of its promises be broken is not named in the tier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epsilon_lab.processes.limits import Limits

LIMITS = Limits(timeout_s=30, memory_mb=256, output_mb=1)
"""What the probe may take. It takes a few milliseconds, and on a machine that is busy it must not fail for that."""

DEEDS = {
    "network": "reaching the network",
    "files": "reading files of the user's",
    "writing": "writing outside its directory",
    "disk": "filling the disk",
    "signals": "signalling other processes",
    "tracing": "tracing other processes",
    "processes": "starting processes, which share out memory and time unseen",
    "survivors": "leaving processes behind",
    "programs": "executing other programs",
    "privileges": "becoming root in a namespace of its own",
    "memory": "taking more memory than it may",
}
"""What the probe tries, in words."""

PROMISES = {
    "namespaces": {"network", "writing", "disk", "signals", "survivors"},
    "landlock": {"files", "writing"},
    "seccomp": {"network", "signals", "tracing", "processes", "survivors", "programs", "privileges"},
    "uid": {"signals"},
}
"""What each mechanism stops."""

PROGRAM = """
import ctypes, os, socket

def network():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 9))

def files():
    open(witness, "rb").close()

def writing():
    open(witness, "ab").close()

def disk():
    about = os.statvfs(".")
    if 0 < about.f_blocks * about.f_frsize <= room and 0 < about.f_files <= 1 << 20:
        raise OSError("it is small")

def signals():
    parent = os.getppid()
    os.kill(parent if parent > 1 else -1, 0)  # the first in a namespace is out of reach anyhow; is there another?

def tracing():
    check(libc.ptrace(0x4206, os.getppid(), None, None))
    check(libc.ptrace(17, os.getppid(), None, None))

def privileges():
    check(libc.unshare(0x10000000))

def memory():
    bytearray(8 << 30)

def programs():
    try:
        os.execv("/nothing/there", ["nothing"])
    except FileNotFoundError:
        pass

def processes():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                libc.pause()
        os._exit(0)

def check(result):
    if result == -1:
        raise OSError

def solve(outside, bound):
    global witness, room, libc
    witness, room, libc = outside, bound, ctypes.CDLL(None)
    done = []
    for deed in (network, files, writing, disk, signals, tracing, memory, programs, processes, privileges):
        try:
            deed()
        except (OSError, MemoryError, AttributeError):
            continue
        done.append(deed.__name__)
    return done
"""
"""Its `solve` takes a file that its user may read and write, and the bytes its directory should hold at most; it
returns the deeds that it was not stopped from."""


def believed(held: Iterable[str], done: Iterable[str]) -> list[str]:
    """Keep the mechanisms that held what they promise.

    Args:
        held: The mechanisms that were entered.
        done: The deeds that were not stopped.
    """
    return [name for name in held if not PROMISES[name] & set(done)]


def broken(held: Iterable[str], done: Iterable[str]) -> Mapping[str, str]:
    """Tell of the mechanisms that did not: mechanism -> which of their promises."""
    return {
        name: "entered, and did not stop " + ", ".join(DEEDS[deed] for deed in DEEDS if deed in failed)
        for name in held
        if (failed := PROMISES[name] & set(done))
    }
