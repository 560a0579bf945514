"""The manifests of map_reduce and sharded_queue: items, a way to map each, and a way to bring outputs together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.agents.flagging import Flagging, takes_flag
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.request import Request
from epsilon_lab.agents.work import Performer, Task
from epsilon_lab.ids import name_of
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.topologies.item_manifest import (
    WIKI,
    Entry,
    Executor,
    ItemFields,
    ItemManifest,
    payload_values,
    plain,
)
from epsilon_lab.topologies.levels import Levels, Spot
from epsilon_lab.topologies.manifest import AnyText, Table, Text
from epsilon_lab.topologies.output_layout import TOLD, Layout

_SUMMARIES = 16
"""Summaries of children that `local_reduce` keeps, as Epsilon's does."""


class ReductionFields(ItemFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both documents have."""

    reduce_task_template: AnyText = ""
    reduce_executor: Executor | None = None
    reduce_payload: Table = msgspec.field(default_factory=dict)
    task_type: Text


class MapReduceFields(ReductionFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document of a map_reduce."""

    reduce_task_template: Text
    reduce_arity: Annotated[int, Meta(ge=2, le=1_000_000, description="a whole number from 2 to 1000000")] = 8
    task_type: Text = "map_reduce"


class ShardedFields(ReductionFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document of a sharded_queue."""

    shard_count: Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")] = 8
    task_type: Text = "sharded_queue"


Fields = TypeVar("Fields", bound=ReductionFields)

_ELSEWHERE = {
    "MapReduce": {"shard_count": "levels are made by reduce_arity: leave it out here; it belongs to ShardedQueue"},
    "ShardedQueue": {"reduce_arity": "shards are as many as shard_count: leave it out here; it belongs to MapReduce"},
}


class ReductionManifest(ItemManifest[Fields]):
    """Such a manifest, apart from its items.

    Args:
        path: The file.
        fields: What the document looks like.
        topology: `MapReduce` or `ShardedQueue`.
        model: Who answers where an executor is `agent`.

    Raises:
        InvalidInput: Naming the place in the document.

    Attributes:
        reduce: What brings outputs together; None for nothing.
        layout: Where outputs go, and what reducers are asked.
    """

    def __init__(self, path: str | Path, fields: type[Fields], *, topology: str, model: LLM | Performer | None) -> None:
        super().__init__(path, fields, topology=topology, model=model, elsewhere=_ELSEWHERE[topology])
        values = self.values
        self.reduce = self._reducer()
        self.layout = Layout(
            root=str(self.root),
            prefix=self.prefix,
            template=values.reduce_task_template,
            values={"task_type": values.task_type, **payload_values(values.reduce_payload)},
        )
        # Whatever the reducer, the same names can be filled in: so a template that asks for another is refused now.
        known = dict.fromkeys(TOLD, "")
        self.fill(
            "$.reduce_task_template",
            values.reduce_task_template,
            self.layout.values | known,
            remedies={"": "a reducer is told of its children, and no item: put the rest into $.reduce_payload"},
        )

    def _reducer(self) -> Task | None:
        values = self.values
        if not (values.reduce_task_template or values.reduce_executor or values.reduce_payload):
            return None
        match values.reduce_executor or "agent":
            case "agent":
                if not values.reduce_task_template:
                    raise self.refused("$.reduce_task_template", "is missing", "say what a reducer is to do")
                return self.answerer("$.reduce_executor")
            case "python_handler":
                return Handler(
                    self.named_handler("$.reduce_payload", values.reduce_payload), self.folder, values.reduce_payload
                )
            case "local_reduce":
                return join_summaries
            case _:
                raise self.refused("$.reduce_executor", f"'direct_wiki' {WIKI}")

    def filled(self, shards: int | None) -> Iterator[Entry]:
        """The items, filled in.

        Args:
            shards: How many shards they are in, which templates can name; None for none.

        Raises:
            InvalidInput: Naming the place in the document.
        """
        if shards is None:
            return self.entries(self.values.task_type)
        levels = Levels(self.count, (shards,))
        return self.entries(
            self.values.task_type,
            lambda place: {"shard_id": f"shard-{levels.parent(Spot(0, place)).place:03d}"},
        )


# -- the ways to reduce, in a worker's process -------------------------------------------------------------------------


@dataclass(frozen=True)
class Handler:
    """A manifest's handler as a reducer: it is given where its children's outputs are, and the outputs too."""

    handler: Callable[..., Any]
    folder: Path
    payload: dict[str, Any]
    lane: Lane = "process"
    is_function: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The function's."""
        return name_of(self.handler)

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse nothing: it was looked at when the manifest was read."""

    def perform(self, request: Request, leaf: Leaf) -> Any:
        """Call it.

        Raises:
            InvalidInput: What it returned cannot be written as JSON.
        """
        payload = {
            **request.about,
            "child_outputs": list(request.inputs.values()),
            "instructions": request.task,
            **self.payload,
        }
        given = {"task_id": leaf.task_id, "task_payload": payload, "task_root": self.folder}
        if takes_flag(self.handler, *given):
            given["flag"] = Flagging(leaf, self.handler, request.verdicts)
        return plain(self.handler(**given))


def join_summaries(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up word counts, and put the first summaries side by side: Epsilon's `local_reduce` of a group."""
    summaries = [str(output["summary"]) for output in outputs[:_SUMMARIES]]
    return {"word_count": sum(output["word_count"] for output in outputs), "summary": " | ".join(summaries)}
