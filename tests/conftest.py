"""What every test may rely on: nothing left behind by the test before, no way out to the network, no keys, no surprise.

The guards look at what is there before and after each test: threads, child processes, processes that belong to this
session's directories though nobody is their parent any more, sockets and pipes, unfinished asyncio tasks, and what
asyncio complains of. A test that leaves any of it behind fails, so that the culprit is named and not its successor.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from epsilon_lab.testing.census import children, living, pids, wait_until

SETTLE_S = 10.0
"""Seconds that threads and processes get to end after a test that has ended in order."""

LIBRARY_THREADS = ("IPythonHistorySavingThread",)
"""Beginnings of the names of threads that libraries start once and never end."""

LAB_THREADS = ("AnyIO worker thread", "asyncio_", "lab-desk")
"""The same, where a lab is open before and after the test: what it starts when it is first needed."""

DRIVER_THREADS = ("asyncio_",)
"""The same, in browser tests: the executor of the loop that drives the session's one browser."""

DRIVER_PROCESSES = ("playwright_chromiumdev_profile",)
"""Parts of the command lines of that browser's own processes, which it starts and ends as it sees fit."""

LIBRARY_CHILDREN = ("multiprocessing.resource_tracker",)
"""Processes that the standard library starts once and never ends."""

# -- the session's own directories, before anything is imported that would look for them ------------------------------

SCRATCH = Path(tempfile.mkdtemp(prefix="el-", dir=os.environ.get("TMPDIR", "/tmp")))  # short: socket paths lie below
SCRATCH.chmod(0o711)  # a candidate's user must reach its own scratch directory below
for name in ("MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
    os.environ[name] = str(SCRATCH / name.lower())
os.environ |= {
    "TMPDIR": str(SCRATCH),
    "EPSILON_WORKSPACE": str(SCRATCH / "runs"),
    "HYPOTHESIS_STORAGE_DIRECTORY": str(SCRATCH / "hypothesis"),
    "JUPYTER_PLATFORM_DIRS": "1",
    "MPLBACKEND": "Agg",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HF_HUB_OFFLINE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
tempfile.tempdir = None
for name in [name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))]:
    del os.environ[name]  # no test can spend anyone's money

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` says so, and children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "house", deadline=None, database=None, derandomize=True, print_blob=False, max_examples=60
)
hypothesis.settings.register_profile(
    "long", hypothesis.settings.get_profile("house"), derandomize=False, max_examples=1000
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long form of the drills, with random examples too")


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "house")


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="the long form of a drill; run with --long"))
    # The browser's driver keeps a loop running in this thread, where no other test could then run one: it comes last.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


# -- no way out ------------------------------------------------------------------------------------------------------


def _stay_at_home(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise PermissionError(f"tests are offline: a connection to {address!r} was refused")
    elif event == "socket.getaddrinfo" and not _needs_no_server(str(arguments[0] or "localhost")):
        raise PermissionError(f"tests are offline: a look-up of {arguments[0]!r} was refused")


def _needs_no_server(host: str) -> bool:
    """Tell whether a host is this machine, or a number in any of its spellings, which nobody has to be asked about."""
    if host == "localhost":
        return True
    with suppress(OSError):
        socket.inet_aton(host)
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) is not None
    return False


sys.addaudithook(_stay_at_home)


# -- nothing left behind ---------------------------------------------------------------------------------------------


class _Complaints(logging.Handler):
    """Collects what asyncio logs as errors: destroyed tasks, exceptions nobody asked for, unclosed connections."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _descriptors() -> dict[int, str]:
    """Open sockets, pipes and other kernel objects of this process, and files in the session's directories."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:", str(SCRATCH))) or "/pytest-of-" in target:
            found[int(name)] = target
    return found


def _pending_tasks() -> set[asyncio.Task[object]]:
    known = getattr(asyncio.tasks, "_scheduled_tasks", None) or getattr(asyncio.tasks, "_all_tasks", ())
    return {task for task in list(known) if not task.done()}


def _open_labs() -> set[object]:
    """The labs that are open in this process: a fixture's, if it is before a test."""
    module = sys.modules.get("epsilon_lab.lab")
    return set() if module is None else set(module._OPEN.values())


LAB_PROCESSES = (b"epsilon_lab.workers.guardian", b"epsilon_lab.search.judge_main", b"epsilon_lab.processes.sandbox")
"""What stands in the command lines of workers and of what they keep for the next task."""


def _is_a_worker_of(pid: int, owners: set[int]) -> bool:
    """Whether it is a worker that one of these processes has started: a lab starts workers when it thinks fit."""
    with suppress(OSError):  # it has ended meanwhile
        while pid not in owners:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if not any(name in command for name in LAB_PROCESSES):
                return False
            pid = _parent(pid)
    return True


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _above() -> set[int]:
    """The processes that this one descends from, of which one may adopt orphans."""
    found, pid = set(), os.getpid()
    while (pid := _parent(pid)) > 0:
        found.add(pid)
    return found


def _threads(known: tuple[str, ...]) -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(known)}


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    complaints = _Complaints()
    logging.getLogger("asyncio").addHandler(complaints)
    has_browser = request.node.get_closest_marker("browser") is not None
    known_threads = LIBRARY_THREADS + DRIVER_THREADS * has_browser
    known_processes = DRIVER_PROCESSES * has_browser
    threads, tasks, open_before, born_before = _threads(known_threads), _pending_tasks(), _descriptors(), pids()
    children_before, labs = set(children()), _open_labs()
    yield
    logging.getLogger("asyncio").removeHandler(complaints)

    roots = (SCRATCH, tmp_path_factory.getbasetemp())
    has_lab = not labs.isdisjoint(_open_labs())
    owners = born_before - _above() - (set() if has_lab else {os.getpid()})

    def left_children() -> dict[int, str]:
        return {
            pid: command
            for pid, command in children().items()
            if pid not in children_before
            and not any(name in command for name in LIBRARY_CHILDREN)
            and not _is_a_worker_of(pid, owners)
        }

    def left_orphans() -> dict[int, str]:
        born = pids() - born_before
        return {
            pid: command
            for root in roots
            for pid, command in living(root, among=born).items()
            if not _is_a_worker_of(pid, owners) and not any(part in command for part in known_processes)
        }

    def left_descriptors() -> set[str]:
        if has_lab:  # it has some for each worker
            return set()
        return {f"{fd}: {target}" for fd, target in _descriptors().items() if open_before.get(fd) != target}

    found = {}
    for what, left in {
        "threads": lambda: {thread.name for thread in _threads(known_threads + LAB_THREADS * has_lab) - threads},
        "child processes": left_children,
        "orphaned processes": left_orphans,
        "unfinished asyncio tasks": lambda: {
            repr(task) for task in _pending_tasks() - tasks if not (has_lab and task.get_loop().is_running())
        },
        "descriptors": left_descriptors,
    }.items():
        if (
            left()
            and not (gc.collect() and not left())
            and not wait_until(lambda left=left: not left(), within_s=SETTLE_S)
        ):
            found[what] = left()
    if complaints.lines:
        found["asyncio complaints"] = set(complaints.lines)
    if found:
        pytest.fail("left behind: " + "; ".join(f"{what}: {left}" for what, left in found.items()), pytrace=False)
