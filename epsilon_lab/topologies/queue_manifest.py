"""The manifest of a work queue: items, and one of three ways to map each.

What is in it is checked, every template filled and every input read before anything runs. The three ways are functions
that travel like any other, and one request to a model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from epsilon_lab.agents.llm import LLM
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import is_plain
from epsilon_lab.topologies.manifest import AnyText, Manifest, Table, Text

_ID = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
_OF_REDUCERS = dict.fromkeys(
    ("reduce_task_template", "reduce_executor", "reduce_payload", "reduce_arity", "shard_count"),
    "a work queue maps and does not reduce: leave it out here; it belongs to MapReduce and ShardedQueue",
)
_SUMMARY_WORDS = 24
"""Words of an item's text that `local_reduce` keeps, as Epsilon's does."""

_SCALARS = (str, int, float, bool, type(None))

ItemId = Annotated[
    str,
    Meta(pattern=rf"^{_ID}\Z", description="an id of 1 to 100 letters, digits, '.', '_' and '-' (no '.' first)"),
]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `items`."""

    id: ItemId
    input_ref: AnyText = ""
    input_text: AnyText = ""
    payload: Table = {}
    output_ref: AnyText = ""


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document."""

    items: Annotated[
        list[Annotated[Item, Meta(description="an object")]],
        Meta(min_length=1, description="a list of at least one item"),
    ]
    output_root: Text
    map_task_template: Text
    map_executor: Annotated[
        Literal["agent", "python_handler", "local_reduce"],
        Meta(description="'agent', 'python_handler' or 'local_reduce' ('direct_wiki' is not in this version)"),
    ] = "agent"
    map_payload: Table = {}
    task_type: Text = "work_queue"


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as a queue of tasks."""

    ids: list[str]
    items: list[Any]
    """What each task is given."""

    task: Callable[[Any], Any] | LLM
    output_root: str
    output_refs: list[str]
    """Where each output is put, below the root."""


def read_queue(path: str | Path, model: LLM | None) -> Queue:
    """Read a manifest; see `WorkQueue.from_manifest`.

    Raises:
        InvalidInput: Naming the place in the document.
    """
    manifest = Manifest(path, Fields, elsewhere=_OF_REDUCERS)
    fields = manifest.values
    root = manifest.locate("$.output_root", fields.output_root)
    refs = _output_refs(manifest, root)
    task: Callable[[Any], Any] | LLM
    match fields.map_executor:
        case "agent":
            if not isinstance(model, LLM):
                raise manifest.refused(
                    "$.map_executor",
                    "is 'agent', and there is no model to ask",
                    "give one: WorkQueue.from_manifest(path, model=LLM(...)); or map by 'python_handler'",
                )
            task = model
        case "python_handler":
            name = fields.map_payload.get("handler")
            if not isinstance(name, str):
                raise manifest.refused("$.map_payload.handler", "is missing", "name it as 'module:function'")
            handler = manifest.handler("$.map_payload.handler", name, "task_id", "task_payload", "task_root")
            task = functools.partial(handle, handler, manifest.folder)
        case "local_reduce":
            task = count_words
    items: list[Any] = []
    for index, item in enumerate(fields.items):
        ref = f"{root.relative_to(manifest.folder).as_posix()}/{refs[index]}"
        text = _input(manifest, index)
        instructions = _instructions(manifest, index, text, ref)
        if fields.map_executor == "agent":
            items.append(instructions)
            continue
        items.append(
            {
                "manifest_item_id": item.id,
                "task_type": fields.task_type,
                "instructions": instructions,
                "input_ref": item.input_ref,
                "input_text": text,
                "output_ref": ref,
                "payload": item.payload,
                **fields.map_payload,
            }
        )
    return Queue(
        ids=[item.id for item in fields.items], items=items, task=task, output_root=str(root), output_refs=refs
    )


def _output_refs(manifest: Manifest[Fields], root: Path) -> list[str]:
    """Where outputs go, below the root; ids and places are each taken once, and no input is written over."""
    ids: dict[str, int] = {}
    places: dict[Path, int] = {}
    found = []
    given = {manifest.path.resolve()} | {
        manifest.locate(f"$.items[{index}].input_ref", item.input_ref)
        for index, item in enumerate(manifest.values.items)
        if item.input_ref
    }
    for index, item in enumerate(manifest.values.items):
        if item.id in ids:
            raise manifest.refused(
                f"$.items[{index}].id", f"{item.id!r} is the id of $.items[{ids[item.id]}] too", "give each its own"
            )
        ids[item.id] = index
        place = f"$.items[{index}].output_ref"
        path = manifest.locate(place, item.output_ref) if item.output_ref else root / "maps" / f"{item.id}.json"
        if not path.is_relative_to(root):
            raise manifest.refused(place, f"is not below output_root, got {item.output_ref!r}")
        if path in given:
            raise manifest.refused(place, f"would write over {item.output_ref!r}, which is read", "put it elsewhere")
        if path in places:
            raise manifest.refused(place, f"is where $.items[{places[path]}] puts its output", "give each its own")
        places[path] = index
        found.append(path.relative_to(root).as_posix())
    return found


def _input(manifest: Manifest[Fields], index: int) -> str:
    """An item's text: its own, or that of the file it refers to; a handler reads the file itself."""
    item = manifest.values.items[index]
    place = f"$.items[{index}].input_ref"
    if item.input_ref and not manifest.locate(place, item.input_ref).is_file():
        raise manifest.refused(place, f"there is no file {item.input_ref!r} in {manifest.folder}")
    if item.input_text or not item.input_ref or manifest.values.map_executor == "python_handler":
        return item.input_text
    return manifest.read_text(place, item.input_ref)


def _instructions(manifest: Manifest[Fields], index: int, text: str, output_ref: str) -> str:
    item = manifest.values.items[index]
    values: dict[str, object] = {
        "item_id": item.id,
        "input_ref": item.input_ref,
        "input_text": text,
        "output_ref": output_ref,
        "payload_json": msgspec.json.encode(item.payload, order="sorted").decode(),
        "task_type": manifest.values.task_type,
    }
    values |= {f"payload_{key}": value for key, value in item.payload.items() if isinstance(value, _SCALARS)}
    remedies = {"": f"give $.items[{index}] ({item.id}) what it asks for, or change the template"}
    return manifest.fill("$.map_task_template", manifest.values.map_task_template, values, remedies=remedies)


# -- the ways to map, in a worker's process ----------------------------------------------------------------------------


def handle(handler: Callable[..., Any], folder: Path, item: dict[str, Any]) -> Any:
    """Call a manifest's handler for an item.

    Raises:
        InvalidInput: What it returned cannot be written as JSON.
    """
    output = handler(task_id=item["manifest_item_id"], task_payload=item, task_root=folder)
    if not is_plain(output):
        raise InvalidInput(f"the handler's output of type {type(output).__name__}", "is not JSON", "return plain data")
    return output


def count_words(item: dict[str, Any]) -> dict[str, Any]:
    """Count an item's words and keep the first of them: Epsilon's `local_reduce` of one item."""
    words = str(item["input_text"]).split()
    return {"item_id": item["manifest_item_id"], "word_count": len(words), "summary": " ".join(words[:_SUMMARY_WORDS])}
