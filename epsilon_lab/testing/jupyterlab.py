"""A real JupyterLab and a real browser, for what only a browser can show: that a panel lives, and survives.

The waits are those that were found not to flake: the page is ready when the notebook's session context says so and its
kernel has answered, never when the status indicator says "idle", which it does before a kernel is attached; commands
are executed through the application object and return when they are done. Server, kernels and browser have a directory
of their own, take a free port that the system picks, and talk to 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from playwright.sync_api import Page, sync_playwright

from epsilon_lab.errors import LabError
from epsilon_lab.testing.census import wait_until, wait_until_none

_SERVER = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",
    "--ServerApp.terminals_enabled=False",
    "--IdentityProvider.token=",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",
)

_DIRECTORIES = (
    "IPYTHONDIR",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
)

_CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_IS_SHOWN = "(name) => window.jupyterapp?.shell?.currentWidget?.context?.path === name"

_READY = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await panel.revealed;
    window.jupyterapp.shell.collapseLeft();
}"""


class BrowserFailed(LabError):
    """The server or the page did not do what it was asked for."""


class JupyterLab:
    """A JupyterLab server with a directory of its own; use it as a context manager.

    Args:
        env: Environment variables for the server and its kernels, on top of this process's.
        settle_s: Seconds that everything in its directory gets to end when it is closed.

    Attributes:
        root: The directory that JupyterLab shows; notebooks are put here.
        url: Where it listens.
    """

    def __init__(self, *, env: Mapping[str, str] | None = None, settle_s: float = 30) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="j-")).resolve()
        self.home.chmod(0o711)
        self.root = self.home / "notebooks"
        self.url = ""
        self._settle_s = settle_s
        for name in ("notebooks", "tmp"):
            (self.home / name).mkdir(mode=0o711)
        self._env = {**os.environ, **{name: str(self.home / name.lower()) for name in _DIRECTORIES}}
        self._env |= {"TMPDIR": str(self.home / "tmp"), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

        self._settle("apputils-extension", "notification", {"fetchNews": "false", "checkForUpdates": False})

    def _settle(self, extension: str, plugin: str, values: Mapping[str, Any]) -> None:
        """Set what a user would set in JupyterLab's settings editor."""
        folder = self.home / "jupyterlab_settings_dir" / "@jupyterlab" / extension
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plugin}.jupyterlab-settings").write_text(json.dumps(values))

    def __repr__(self) -> str:
        return f"<JupyterLab at {self.url or 'no address yet'}>"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        with (self.home / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *_SERVER, f"--ServerApp.root_dir={self.root}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=self._env,
                start_new_session=True,
            )
        told = self.home / "jupyter_runtime_dir" / f"jpserver-{self._process.pid}.json"
        process = self._process

        def is_up() -> bool:
            if process.poll() is not None:
                raise BrowserFailed(f"JupyterLab ended while starting:\n{self.log()}")
            with contextlib.suppress(OSError, ValueError):
                self.url = json.loads(told.read_text())["url"]
            return bool(self.url)

        if not wait_until(is_up, within_s=60):
            raise BrowserFailed(f"JupyterLab did not say where it listens within 60 s:\n{self.log()}")

    def log(self) -> str:
        """The end of what the server printed."""
        return (self.home / "server.log").read_text(errors="replace")[-4000:]

    def write(self, name: str, cells: Sequence[str]) -> None:
        """Put a notebook of code cells into the root directory."""
        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"cell-{n}",
                    "metadata": {},
                    "source": cell,
                    "outputs": [],
                    "execution_count": None,
                }
                for n, cell in enumerate(cells)
            ],
        }
        (self.root / name).write_text(json.dumps(notebook))

    def close(self) -> None:
        """Stop the server, and wait until nothing that belongs to its directory is alive.

        Raises:
            Leftover: Something is still alive after `settle_s`.
        """
        try:
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)
                try:
                    self._process.wait(timeout=self._settle_s)
                except subprocess.TimeoutExpired:
                    os.killpg(self._process.pid, signal.SIGKILL)
                    self._process.wait()
            wait_until_none(self.home, within_s=self._settle_s)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)


class NotebookPage:
    """A notebook open in the browser, in the application that is on the page where there is one: to load it takes long.

    Attributes:
        page: Playwright's page, for what is not said here.
        complaints: Errors the page's console showed, and requests it made to anywhere but the server.
    """

    def __init__(self, page: Page, lab: JupyterLab, name: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._name = name
        self._address = f"{lab.url}lab/tree/{name}?reset"
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._check_address(request.url, lab.url))
        if page.url.startswith(lab.url):
            self.command("docmanager:open", path=name)
            self._wait_until_ready()
        else:
            self.reload()

    def _check_address(self, url: str, home: str) -> None:
        if not url.startswith((home, home.replace("http:", "ws:"), "data:", "blob:")):
            self.complaints.append(f"a request to {url}")

    def reload(self) -> None:
        """Open the notebook anew, and wait until its kernel answers."""
        self.page.goto(self._address, timeout=60_000)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        self.page.wait_for_function(_IS_SHOWN, arg=self._name, timeout=60_000)
        self.page.evaluate(_READY)

    def close(self) -> None:
        """Save the notebook, end its kernel and take it off the page."""
        self.save()
        self.command("notebook:shutdown-kernel")
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.dispose()")

    def command(self, name: str, **arguments: Any) -> None:
        """Execute one of JupyterLab's commands and wait for its end."""
        self.page.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }", [name, arguments]
        )

    def run_all(self) -> None:
        """Run all cells and wait for the last one's end.

        Raises:
            BrowserFailed: A cell showed an error.
        """
        self.command("notebook:run-all-cells")
        if errors := self.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").all():
            raise BrowserFailed(f"a cell failed:\n{errors[0].inner_text()}")

    def begin(self, cell: int) -> None:
        """Run one cell, counted from 0, and do not wait for its end."""
        self.page.evaluate(
            """(index) => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.content.deselectAll();
                panel.content.activeCellIndex = index;
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            cell,
        )

    def is_busy(self) -> bool:
        """Tell whether the kernel runs a cell."""
        return bool(
            self.page.evaluate(
                "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'"
            )
        )

    def restart_kernel(self) -> None:
        """Restart the kernel, keeping what the cells show, and wait until it answers."""
        self.page.evaluate(
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.restartKernel(); }"
        )
        self.page.evaluate(_READY)

    def save(self) -> None:
        """Save the notebook to disk."""
        self.command("docmanager:save")

    def screenshot(self, path: Path) -> None:
        """Take a picture of the page as it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)


def chromium() -> str | None:
    """Find the system's Chromium; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def browser_page(*, width: int = 1280, height: int = 1600) -> Iterator[Page]:
    """Open an empty page in headless Chromium, tall enough that JupyterLab draws every cell.

    Raises:
        BrowserFailed: There is no Chromium.
    """
    executable = chromium()
    if executable is None:
        raise BrowserFailed("no Chromium was found; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_CHROMIUM))
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()
