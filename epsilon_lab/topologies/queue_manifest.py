"""The manifest of a work queue: items, one task each, and nothing that brings their outputs together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer, Task
from epsilon_lab.topologies.item_manifest import ItemFields, ItemManifest
from epsilon_lab.topologies.manifest import Text

_OF_REDUCERS = dict.fromkeys(
    ("reduce_task_template", "reduce_executor", "reduce_payload", "reduce_arity", "shard_count"),
    "a work queue maps and does not reduce: leave it out here; it belongs to MapReduce and ShardedQueue",
)


class Fields(ItemFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document."""

    task_type: Text = "work_queue"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as a queue of tasks."""

    ids: list[str]
    items: list[Any]
    """What each task is given."""

    task: Task
    output_root: str
    output_refs: list[str]
    """Where each output is put, below the root."""


def read_queue(path: str | Path, model: LLM | Performer | None) -> Queue:
    """Read a manifest; see `WorkQueue.from_manifest`.

    Raises:
        InvalidInput: Naming the place in the document.
    """
    manifest = ItemManifest(path, Fields, topology="WorkQueue", model=model, elsewhere=_OF_REDUCERS)
    entries = list(manifest.entries(manifest.values.task_type))
    return Queue(
        ids=[entry.id for entry in entries],
        items=[entry.value for entry in entries],
        task=manifest.map,
        output_root=str(manifest.root),
        output_refs=[entry.output_ref for entry in entries],
    )
