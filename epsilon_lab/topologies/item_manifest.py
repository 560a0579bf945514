"""What manifests of items have in common: the items, read one by one, and three ways to map each.

However many items there are, one at a time is in memory; what is kept of all of them while they are looked through is
their ids, since each may be taken once. Everything is checked, every template filled and every input read before
anything runs, and once more while the items are written to the run's directory, for then the file may be another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import is_plain
from epsilon_lab.topologies.document import Malformed
from epsilon_lab.topologies.manifest import AnyText, Manifest, Table, Text, convert

_ID = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
_SUMMARY_WORDS = 24
"""Words of an item's text that `local_reduce` keeps, as Epsilon's does."""

_SCALARS = (str, int, float, bool, type(None))
_MAPS = "maps"

WIKI = (
    "is not in this version: it asks one site on the network, under no budget; fetch the pages into files, and name "
    "them as input_ref"
)
"""Why `direct_wiki` is refused."""

ItemId = Annotated[
    str,
    Meta(pattern=rf"^{_ID}\Z", description="an id of 1 to 100 letters, digits, '.', '_' and '-' (no '.' first)"),
]
Executor = Annotated[
    Literal["agent", "python_handler", "local_reduce", "direct_wiki"],
    Meta(description="'agent', 'python_handler' or 'local_reduce' ('direct_wiki' is not in this version)"),
]


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `items`."""

    id: ItemId
    input_ref: AnyText = ""
    input_text: AnyText = ""
    payload: Table = {}
    output_ref: AnyText = ""


class ItemFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every such document has."""

    items: Annotated[
        list[Annotated[Item, Meta(description="an object")]],
        Meta(min_length=1, description="a list of at least one item"),
    ]
    output_root: Text
    map_task_template: Text
    map_executor: Executor = "agent"
    map_payload: Table = {}


class Entry(NamedTuple):
    """An item as a task sees it."""

    id: str
    value: Any
    """What the task is given."""

    output_ref: str
    """Where its output is put, below the root."""


T = TypeVar("T", bound=ItemFields)


class ItemManifest(Manifest[T]):
    """A manifest of items that has been read, apart from the items.

    Args:
        path: The file.
        fields: What the document looks like.
        topology: Who reads it, for messages: `WorkQueue`.
        model: Who answers where an executor is `agent`.
        elsewhere: Fields of other topologies' manifests, each with what to do about it here.

    Raises:
        InvalidInput: Naming the place in the document.

    Attributes:
        root: The directory for outputs.
        map: What maps an item.
    """

    def __init__(
        self,
        path: str | Path,
        fields: type[T],
        *,
        topology: str,
        model: LLM | Performer | None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(path, fields, elsewhere=elsewhere, long="items")
        self.topology = topology
        self._model = model
        self.root = self.locate("$.output_root", self.values.output_root)
        self.prefix = self.root.relative_to(self.folder).as_posix()
        """The root as templates name it."""

        self.map = self._mapper()

    def _mapper(self) -> Callable[[Any], Any] | LLM | Performer:
        match self.values.map_executor:
            case "agent":
                return self.answerer("$.map_executor")
            case "python_handler":
                return functools.partial(
                    handle, self.named_handler("$.map_payload", self.values.map_payload), self.folder
                )
            case "local_reduce":
                return count_words
            case _:
                raise self.refused("$.map_executor", f"'direct_wiki' {WIKI}")

    def answerer(self, place: str) -> LLM | Performer:
        """Who answers where an executor is `agent`.

        Raises:
            InvalidInput: Nobody does.
        """
        if not isinstance(self._model, LLM | Performer):
            raise self.refused(
                place,
                "is 'agent', and there is no model to ask",
                f"give one: {self.topology}.from_manifest(path, model=LLM(...)); or use 'python_handler'",
            )
        return self._model

    def named_handler(self, place: str, payload: Mapping[str, Any]) -> Callable[..., Any]:
        """The function that a payload names.

        Raises:
            InvalidInput: It names none, or one that cannot be called as handlers are.
        """
        name = payload.get("handler")
        if not isinstance(name, str):
            raise self.refused(f"{place}.handler", "is missing", "name it as 'module:function'")
        return self.handler(f"{place}.handler", name, "task_id", "task_payload", "task_root")

    # -- items --------------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many items there are."""
        return self.document.count

    def entries(self, task_type: str, more: Callable[[int], Mapping[str, object]] | None = None) -> Iterator[Entry]:
        """Read the items one by one, in order, checked and filled in.

        Args:
            task_type: The word for it in templates.
            more: Further values for the template, from an item's place.

        Raises:
            InvalidInput: Naming the place in the document.
        """
        ids: set[str] = set()
        inputs: set[Path] = {self.path.resolve()}
        outputs: dict[Path, int] = {}
        for place, item in self._items():
            where = f"$.items[{place}]"
            if item.id in ids:
                raise self.refused(
                    f"{where}.id",
                    f"{item.id!r} is the id of $.items[{self._place_of(item.id)}] too",
                    "give each its own",
                )
            ids.add(item.id)
            if item.input_ref:
                inputs.add(self._input_file(where, item.input_ref))
            output_ref = f"{_MAPS}/{item.id}.json"
            if item.output_ref:
                output = self._output_file(where, item.output_ref)
                if output in outputs:
                    raise self._taken(place, outputs[output])
                outputs[output] = place
                output_ref = output.relative_to(self.root).as_posix()
            text = self._text(where, item)
            asked = self._asked(
                place, item, text, output_ref, {"task_type": task_type} | dict(more(place) if more else {})
            )
            yield Entry(item.id, asked, output_ref)
        self._check_outputs(ids, inputs, outputs)

    def _items(self) -> Iterator[tuple[int, Item]]:
        elements = enumerate(self.document.elements())
        while True:
            try:
                place, raw = next(elements)
            except StopIteration:
                return
            except (Malformed, OSError) as error:
                raise self.refused("$.items", f"cannot be read any more: {error}") from error
            yield place, self._item(place, raw)

    def _item(self, place: int, raw: bytes) -> Item:
        try:
            return _ITEM.decode(raw)
        except msgspec.ValidationError:
            pass
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.refused(f"$.items[{place}]", f"is not JSON: {error}") from error

        def refused(path: str, problem: str, remedy: str = "") -> InvalidInput:
            return self.refused(f"$.items[{place}]{path.removeprefix('$')}", problem, remedy)

        return convert(msgspec.json.decode(raw), Item, refused)

    def _place_of(self, item_id: str) -> int:
        return next(place for place, item in self._items() if item.id == item_id)

    def _input_file(self, where: str, ref: str) -> Path:
        path = self.locate(f"{where}.input_ref", ref)
        if not path.is_file():
            raise self.refused(f"{where}.input_ref", f"there is no file {ref!r} in {self.folder}")
        return path

    def _output_file(self, where: str, ref: str) -> Path:
        path = self.locate(f"{where}.output_ref", ref)
        if not path.is_relative_to(self.root) or path == self.root:
            raise self.refused(f"{where}.output_ref", f"is not below output_root, got {ref!r}")
        return path

    def _check_outputs(self, ids: set[str], inputs: set[Path], outputs: Mapping[Path, int]) -> None:
        """No output is written over another, nor over what is read."""
        stated = set(outputs.values())
        for path in inputs:
            place = outputs.get(path)
            if place is None and (of := self._default_of(path)) in ids and (of_id := self._place_of(of)) not in stated:
                place = of_id
            if place is not None:
                ref = path.relative_to(self.folder).as_posix()
                raise self.refused(
                    f"$.items[{place}].output_ref", f"would write over {ref!r}, which is read", "put it elsewhere"
                )
        for path, place in outputs.items():
            if (of := self._default_of(path)) in ids and (other := self._place_of(of)) not in stated:
                raise self._taken(max(place, other), min(place, other))

    def _default_of(self, path: Path) -> str:
        """The id of the item whose output is put there unless it says otherwise; empty where there is none."""
        return path.stem if path.parent == self.root / _MAPS and path.suffix == ".json" else ""

    def _taken(self, place: int, other: int) -> InvalidInput:
        return self.refused(
            f"$.items[{place}].output_ref", f"is where $.items[{other}] puts its output", "give each its own"
        )

    def _text(self, where: str, item: Item) -> str:
        """An item's text: its own, or that of the file it refers to; a handler reads the file itself."""
        if item.input_text or not item.input_ref or self.values.map_executor == "python_handler":
            return item.input_text
        return self.read_text(f"{where}.input_ref", item.input_ref)

    def _asked(self, place: int, item: Item, text: str, output_ref: str, more: Mapping[str, object]) -> Any:
        """What the task of an item is given."""
        output_ref = f"{self.prefix}/{output_ref}"
        instructions = self.fill(
            "$.map_task_template",
            self.values.map_task_template,
            {
                "item_id": item.id,
                "input_ref": item.input_ref,
                "input_text": text,
                "output_ref": output_ref,
                **payload_values(item.payload),
                **more,
            },
            remedies={"": f"give $.items[{place}] ({item.id}) what it asks for, or change the template"},
        )
        if self.values.map_executor == "agent":
            return instructions
        return {
            "manifest_item_id": item.id,
            "instructions": instructions,
            "input_ref": item.input_ref,
            "input_text": text,
            "output_ref": output_ref,
            "payload": item.payload,
            **more,
            **self.values.map_payload,
        }


_ITEM = msgspec.json.Decoder(Item)


def payload_values(payload: Mapping[str, Any]) -> dict[str, object]:
    """What a template can name of a payload: all of it, and each number or text in it."""
    scalars = {f"payload_{key}": value for key, value in payload.items() if isinstance(value, _SCALARS)}
    return {"payload_json": msgspec.json.encode(payload, order="sorted").decode(), **scalars}


# -- the ways to map, in a worker's process ----------------------------------------------------------------------------


def handle(handler: Callable[..., Any], folder: Path, item: dict[str, Any]) -> Any:
    """Call a manifest's handler for an item.

    Raises:
        InvalidInput: What it returned cannot be written as JSON.
    """
    return plain(handler(task_id=item["manifest_item_id"], task_payload=item, task_root=folder))


def plain(output: Any) -> Any:
    """What a handler returned.

    Raises:
        InvalidInput: It cannot be written as JSON.
    """
    if not is_plain(output):
        raise InvalidInput(f"the handler's output of type {type(output).__name__}", "is not JSON", "return plain data")
    return output


def count_words(item: dict[str, Any]) -> dict[str, Any]:
    """Count an item's words and keep the first of them: Epsilon's `local_reduce` of one item."""
    words = str(item["input_text"]).split()
    return {"item_id": item["manifest_item_id"], "word_count": len(words), "summary": " ".join(words[:_SUMMARY_WORDS])}
