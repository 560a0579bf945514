"""The end of a cell, as a moment: what a person should be told about a cell is told under it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class AfterCells:
    """Calls a function after each cell of this process's notebook; where there is none, never.

    Args:
        call: Takes nothing; runs in the thread of the cells.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        core = sys.modules.get("IPython")  # never imported for the answer
        self._shell: Any = core.get_ipython() if core is not None else None
        self._call = call
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._ended)

    def close(self) -> None:
        """Call no more; closing twice does nothing."""
        shell, self._shell = self._shell, None
        if shell is not None:
            with suppress(ValueError):  # a notebook that was reset has forgotten it
                shell.events.unregister("post_run_cell", self._ended)

    def _ended(self, *_: object) -> None:
        self._call()
