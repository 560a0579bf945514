"""Where the outputs of a manifest's run are also put, outside the run directory, and by which names tasks know them.

The places are Epsilon's: `maps/` for items, `shards/` and `reduce/level-LL/` for what is made of them, and the last
output as `final-summary.json`.
"""

from __future__ import annotations

from array import array
from typing import Any

import msgspec

from epsilon_lab.topologies.levels import Spot
from epsilon_lab.topologies.template import parsed

NAMES = "items.names"
"""The file of a run directory that says what items are called, a line each: `["id", "where its output goes"]`."""

TOLD = ("reduce_label", "shard_id", "output_ref", "child_count", "child_output_refs_json", "child_output_refs_text")
"""What a reducer's template can name besides its manifest's values."""

FINAL = "final-summary.json"


class Names:
    """What items are called, by place, without an object for each.

    Args:
        lines: The content of that file.
    """

    def __init__(self, lines: bytes = b"") -> None:
        self._lines = lines
        self._ends = array("Q", [0])
        at = 0
        while at := lines.find(b"\n", at) + 1:
            self._ends.append(at)

    def _line(self, place: int) -> tuple[str, str]:
        return _LINE.decode(self._lines[self._ends[place] : self._ends[place + 1]])

    def id(self, place: int) -> str:
        """An item's own id; empty where items have none."""
        return self._line(place)[0] if self._lines else ""

    def ref(self, place: int) -> str:
        """Where its output goes, below the root."""
        return self._line(place)[1]


_LINE = msgspec.json.Decoder(tuple[str, str])


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says of outputs."""

    root: str
    """The directory, as an absolute path."""

    prefix: str
    """The same as templates name it, below the manifest's directory."""

    template: str = ""
    """What reducers are asked to do."""

    values: dict[str, Any] = {}
    """What the template may name, whatever the reducer."""

    def group_ref(self, spot: Spot, name: str, *, is_sharded: bool, is_top: bool) -> str:
        """Where a reducer's output goes, below the root."""
        if is_sharded:
            return FINAL if is_top else f"shards/{name}.json"
        return f"reduce/level-{spot.level:02d}/{name}.json"

    def about(self, name: str, output_ref: str, children: list[str]) -> dict[str, Any]:
        """What a reducer is told of the files: where it and its children have theirs."""
        return {
            "reduce_label": name,
            "output_ref": f"{self.prefix}/{output_ref}",
            "child_output_refs": [f"{self.prefix}/{ref}" for ref in children],
        }

    def instructions(self, about: dict[str, Any]) -> str:
        """The template, filled in."""
        refs = about["child_output_refs"]
        label = about["reduce_label"]
        listed = msgspec.json.encode(refs).decode(), "\n".join(refs)
        told = (label, label.removeprefix("reduce-"), about["output_ref"], len(refs), *listed)
        return parsed(self.template).fill(self.values | dict(zip(TOLD, told, strict=True)))
