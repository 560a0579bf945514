"""All runs of a workspace as one mapping, so that a past run is found as a live one is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from epsilon_lab import formats
from epsilon_lab.runs import Home, Run
from epsilon_lab.searches import open_run
from epsilon_lab.workspace.layout import RunDirectory

_SHOWN = 20


class Runs(Mapping[str, Run]):
    """A workspace's runs by run_id or name, the newest first where a name was used again.

    Args:
        home: Their lab.
        handles: Handles that were given out and are given again, by run_id.
    """

    def __init__(self, home: Home, handles: Mapping[str, Run]) -> None:
        self._home = home
        self._handles = handles

    def __getitem__(self, key: str) -> Run:
        if not isinstance(key, str):
            raise KeyError(f"a run is found by its run_id or name, not by {key!r}")
        if key in self._handles:
            return self._handles[key]
        rows = self._home.store.sql(
            "select run_id, topology from runs where run_id = $key or name = $key "
            "order by run_id = $key desc, started_at desc limit 1",
            {"key": key},
        )
        if rows.empty:
            known = ", ".join(list(self)[:5]) or "none yet"
            raise KeyError(f"no run {key!r} in {self._home.path}; it has {known}")
        run_id, topology = rows.iloc[0]
        return self._handles.get(run_id) or open_run(self._home, RunDirectory(self._home.path / run_id), topology or "")

    def __iter__(self) -> Iterator[str]:
        return iter(self._home.store.sql("select run_id from runs order by started_at desc, run_id")["run_id"].tolist())

    def __len__(self) -> int:
        return len(self._home.store.sql("select run_id from runs"))

    def __repr__(self) -> str:
        return f"<Runs of {str(self._home.path)!r}>"

    def _repr_html_(self) -> str:
        rows = self._home.store.rows(
            "select name, status, topology, strftime(started_at, '%Y-%m-%d %H:%M:%S'), coalesce(reason, ''), run_id, "
            "count(*) over () from runs order by started_at desc limit ?",
            [_SHOWN],
        )
        header = ("name", "status", "topology", "started (UTC)", "reason", "run_id")
        more = rows[0][-1] - len(rows) if rows else 0
        told = f"<div>… and {more:,} more, in the table runs</div>" if more else ""
        return f'<div style="{formats.FONT}">{formats.table(header, [row[:-1] for row in rows])}{told}</div>'
