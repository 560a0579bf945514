"""A real Jupyter kernel, to be treated as users treat theirs: blocked, interrupted, restarted, killed.

What holds in a script need not hold in a kernel, which has a loop, threads and signal handlers of its own, so the
promises about cells are proved here and not against a stand-in. Each kernel has its own short directory for its
connection, settings, temporary files and workspace; whatever still belongs to that directory afterwards was left
behind (see census.py). The channels are sockets in that directory, so no port is taken.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from subprocess import Popen
from time import monotonic
from types import TracebackType
from typing import Any, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from epsilon_lab.errors import LabError
from epsilon_lab.testing.census import Leftover, Sighting, descendants, is_alive, living, wait_until

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class CellFailed(LabError):
    """A cell raised, or did not end in time; the message is what a user would have seen."""


@dataclass
class Cell:
    """What a cell has shown so far."""

    message_id: str
    stdout: str = ""
    stderr: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    """MIME bundles in order of their first appearance; an update replaces the bundle it updates."""

    error: str | None = None
    """`Name: message` of the exception that ended the cell."""

    traceback: str = ""
    _places: dict[str, int] = field(default_factory=dict)

    def take(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take in one message of the output channel."""
        match kind:
            case "stream" if content["name"] == "stdout":
                self.stdout += content["text"]
            case "stream":
                self.stderr += content["text"]
            case "error":
                self.error = f"{content['ename']}: {content['evalue']}"
                self.traceback = _COLOURS.sub("", "\n".join(content["traceback"]))
            case "display_data" | "execute_result":
                place = content.get("transient", {}).get("display_id")
                if place is not None:
                    self._places[place] = len(self.displays)
                self.displays.append(dict(content["data"]))

    def update(self, content: Mapping[str, Any]) -> None:
        """Take in an update of something displayed, if it was displayed by this cell."""
        place = self._places.get(content.get("transient", {}).get("display_id"))
        if place is not None:
            self.displays[place] = dict(content["data"])


class Kernel:
    """A kernel process with a directory of its own; use it as a context manager.

    Args:
        env: Environment variables on top of this process's.
        settle_s: Seconds that everything in its directory gets to end when the kernel is closed.

    Attributes:
        home: The kernel's working directory; `Lab("runs")` in a cell lies in it.
        pid: The kernel's process id.
    """

    def __init__(self, *, env: Mapping[str, str] | None = None, settle_s: float = 60) -> None:
        self._settle_s = settle_s
        self.home = Path(tempfile.mkdtemp(prefix="k-")).resolve()
        self.home.chmod(0o711)  # a candidate's user must reach its own directory below tmp/
        settings = {
            name: str(self.home / "etc") for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
        }
        (self.home / "tmp").mkdir(mode=0o711)
        self._env = {**os.environ, **settings, "TMPDIR": str(self.home / "tmp"), **(env or {})}
        self._env.pop("EPSILON_WORKSPACE", None)
        self._manager = KernelManager(
            transport="ipc", ip=str(self.home / "s"), connection_file=str(self.home / "connection.json")
        )
        self._cells: dict[str, Cell] = {}
        self._family: set[Sighting] = set()
        self._killed = False
        self._client: BlockingKernelClient | None = None

    def __repr__(self) -> str:
        return f"<Kernel in {str(self.home)!r}>"

    def __enter__(self) -> Self:
        try:
            self._manager.start_kernel(env=self._env, cwd=str(self.home))
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        return int(self._process.pid)

    @property
    def _process(self) -> Popen[bytes]:
        assert isinstance(self._manager.provisioner, LocalProvisioner)
        assert self._manager.provisioner.process is not None
        return self._manager.provisioner.process

    # -- cells ------------------------------------------------------------------------------------------------------

    def run(self, code: str, *, timeout_s: float = 60) -> Cell:
        """Run a cell to its end.

        Raises:
            CellFailed: It raised, or did not end in time.
        """
        cell = self.finish(self.begin(code), timeout_s=timeout_s)
        if cell.error is not None:
            raise CellFailed(f"{cell.traceback or cell.error}\n{cell.stderr}")
        return cell

    def value(self, expression: str, *, timeout_s: float = 60) -> Any:
        """Evaluate an expression in the kernel; its `repr` must be a Python literal."""
        code = f"print('\\x1evalue', repr({expression}))"
        return ast.literal_eval(self.run(code, timeout_s=timeout_s).stdout.rpartition("\x1evalue")[2].strip())

    def begin(self, code: str) -> Cell:
        """Send a cell and do not wait for it."""
        assert self._client is not None
        cell = Cell(self._client.execute(code, store_history=True, allow_stdin=False))
        self._cells[cell.message_id] = cell
        return cell

    def finish(self, cell: Cell, *, timeout_s: float = 60) -> Cell:
        """Wait until a cell has ended and all it showed has arrived; an exception is left in `error`.

        Raises:
            CellFailed: It did not end in time; it is still running.
        """
        self._read_until(
            cell, lambda kind, content: kind == "status" and content["execution_state"] == "idle", timeout_s
        )
        return cell

    def wait_for(self, cell: Cell, text: str, *, timeout_s: float = 60) -> None:
        """Wait until a running cell has printed a text.

        Raises:
            CellFailed: It did not in time, or ended without.
        """

        def arrived(kind: str, content: Mapping[str, Any]) -> bool:
            if kind == "status" and content["execution_state"] == "idle":
                raise CellFailed(
                    f"the cell ended without printing {text!r}:\n{cell.stdout}{cell.stderr}{cell.traceback}"
                )
            return text in cell.stdout

        if text not in cell.stdout:
            self._read_until(cell, arrived, timeout_s)

    def listen(self, until: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Take in what background threads show, until `until()` is true.

        Raises:
            CellFailed: It did not become true in time.
        """
        deadline = monotonic() + timeout_s
        while not until():
            if monotonic() > deadline:
                raise CellFailed(f"what was waited for did not happen within {timeout_s} s")
            self._take_one(0.1)

    def complete(self, text: str, *, timeout_s: float = 30) -> list[str]:
        """Ask for completions as a front end does on Tab: the cell as it would read with each.

        Args:
            text: The cell, the cursor in it written as `|`.
            timeout_s: Seconds to wait for the answer.
        """
        assert self._client is not None
        before, after = text.split("|")
        reply = self._client.complete(before + after, len(before), reply=True, timeout=timeout_s)["content"]
        start, end = reply["cursor_start"], reply["cursor_end"]
        return [f"{before[:start]}{match}{(before + after)[end:]}" for match in reply["matches"]]

    # -- life -------------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Interrupt it as a user's "stop" does: SIGINT to the kernel's process group."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Restart it as a user does: asked to shut down in order, then started anew."""
        self._family |= descendants(self.pid)
        self._disconnect()
        self._manager.restart_kernel()
        self._connect()

    def kill(self) -> None:
        """End the kernel process alone with SIGKILL, as the system does when memory runs out."""
        self._family |= descendants(self.pid)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)
        self._killed = True

    def close(self) -> None:
        """Shut it down, and wait until nothing that belongs to its directory is alive.

        Raises:
            Leftover: Something is still alive after `settle_s`.
        """
        self._disconnect()
        try:
            if self._manager.has_kernel and not self._killed:  # else its group would be killed, and orphans with it
                self._family |= descendants(self.pid)
                self._manager.shutdown_kernel()
            self._manager.cleanup_resources()
            self.wait_for_orphans()
        finally:
            shutil.rmtree(self.home, ignore_errors=True)

    def wait_for_orphans(self) -> None:
        """Wait until all that earlier lives of this kernel started has ended.

        Raises:
            Leftover: Something is still alive after `settle_s`.
        """
        alive = [] if self._killed or not self._manager.has_kernel else [self.pid]

        def orphans() -> set[int]:
            own = {process.pid for pid in alive for process in descendants(pid)} | set(alive)
            return ({process.pid for process in self._family if is_alive(process)} | living(self.home).keys()) - own

        if not wait_until(lambda: not orphans(), within_s=self._settle_s):
            raise Leftover(f"{self!r} left processes {sorted(orphans())}: {living(self.home)}")

    # -- channels ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        client = self._manager.client()
        client.start_channels()
        self._client = client
        client.wait_for_ready(timeout=60)

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        self._cells.clear()

    def _read_until(self, cell: Cell, done: Callable[[str, Mapping[str, Any]], bool], timeout_s: float) -> None:
        deadline = monotonic() + timeout_s
        while True:
            left = deadline - monotonic()
            if left <= 0:
                raise CellFailed(
                    f"the cell did not get there within {timeout_s} s; it printed:\n{cell.stdout}{cell.stderr}"
                )
            message = self._take_one(min(left, 1.0))
            if message is None:
                continue
            kind, parent, content = message
            if parent == cell.message_id and done(kind, content):
                return

    def _take_one(self, timeout_s: float) -> tuple[str, str, Mapping[str, Any]] | None:
        assert self._client is not None
        try:
            message = self._client.get_iopub_msg(timeout=timeout_s)
        except Empty:
            if not self._manager.is_alive():
                raise CellFailed("the kernel died") from None
            return None
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id", "")
        if kind == "update_display_data":
            for cell in self._cells.values():
                cell.update(content)
        elif parent in self._cells:
            self._cells[parent].take(kind, content)
        return kind, parent, content
