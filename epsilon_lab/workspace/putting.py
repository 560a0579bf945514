"""Putting away what has ended: the rows of such runs leave memory for the catalogue while their lab is open.

They are in memory, so no journal is read for it; they are written down by a thread of its own, and no cell waits for
that. A query that comes later goes on with the catalogue in the place of those rows.

Not every run that has ended is put away: one with cases is decided about, which changes it, and to read its journal
anew for each decision would take longer than anything was gained. These go when the lab is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING

from epsilon_lab.workspace.catalogue import Catalogue
from epsilon_lab.workspace.feed import Feed, Kept
from epsilon_lab.workspace.store import Handed, listed

if TYPE_CHECKING:
    import duckdb

_SHARE = 16
"""The catalogue's file is copied to add to it: that part of its bytes, in journals, is worth it."""


class Putting:
    """What is put away, and has been, while tables are open.

    Args:
        catalogue: Where it goes.
        worth_keeping: Bytes of journals that take longer to read than they should the next time.
    """

    def __init__(self, catalogue: Catalogue, worth_keeping: int) -> None:
        self._catalogue = catalogue
        self._worth_keeping = worth_keeping
        self._begun: set[str] = set()
        self._thread: threading.Thread | None = None
        self._done: Future[frozenset[str]] = Future()

    def due(self, feeds: Iterable[Feed], live: Collection[str], *, at_the_end: bool = False) -> dict[str, Feed]:
        """The runs whose rows are in memory and need not be; none, while that is little.

        Args:
            feeds: All journals that are followed.
            live: The runs that a lab is at.
            at_the_end: Nobody will decide about anything any more.
        """
        ended = {
            feed.run_id: feed
            for feed in feeds
            if feed.run_id is not None and feed.run_id not in live and feed.kept is None and feed.fold.is_over
        }
        if not at_the_end:  # what was put away before, and has changed since, may change again
            ended = {name: feed for name, feed in ended.items() if name not in self._begun and not feed.fold.has_cases}
        size = sum(feed.size for feed in ended.values())
        return ended if size >= self._worth_keeping and size >= self._catalogue.size // _SHARE else {}

    @property
    def is_at_it(self) -> bool:
        """Whether it has begun, and nobody has asked yet what became of it."""
        return self._thread is not None

    def begin(self, kept: dict[str, Kept], reader: duckdb.DuckDBPyConnection) -> None:
        """Put some runs' rows away.

        Args:
            kept: The runs, and what their journals are.
            reader: Sees their rows; closed in the end.
        """
        self._begun |= kept.keys()

        def work() -> None:
            try:
                self._done.set_result(frozenset(kept) if self.put(kept, reader) else frozenset())
            except BaseException as error:  # noqa: BLE001 - for whoever asks
                self._done.set_exception(error)

        self._done = Future()
        self._thread = threading.Thread(target=work, name="catalogue", daemon=True)
        self._thread.start()

    def put(self, kept: dict[str, Kept], reader: duckdb.DuckDBPyConnection) -> bool:
        """Put some runs' rows away, and wait for it; whether that could be done. As for `begin`."""
        which = listed(kept)

        def rows(table: str) -> Handed:
            return Handed(reader, f"from journals.{table} where run_id in ({which})")

        with closing(reader):
            return self._catalogue.add(kept, rows)

    def done(self) -> frozenset[str]:
        """The runs that have been put away since this was asked last."""
        return self.finish() if self._done.done() else frozenset()

    def finish(self) -> frozenset[str]:
        """The same, once it has come to an end."""
        if self._thread is None:
            return frozenset()
        self._thread.join()
        self._thread = None
        return self._done.result()
