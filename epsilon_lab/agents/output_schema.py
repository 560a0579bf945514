"""What an output must look like, and whether one does.

A schema is JSON Schema as a dict, or a type that msgspec can write one of. It is told to the model and held against
what the model gives; a mismatch is put in words that say where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import msgspec

from epsilon_lab.errors import InvalidInput

Schema = Mapping[str, Any] | type
_WORDS = 300


class OutputSchema:
    """A schema, ready to be told and to be checked.

    Args:
        schema: JSON Schema (draft 2020-12), which refers to nothing outside itself; or a type: a `msgspec.Struct`, a
            dataclass, a `TypedDict`, `list[int]`.

    Raises:
        InvalidInput: It is none.
    """

    def __init__(self, schema: Schema) -> None:
        self._type: Any = None
        self._validator: Any = None
        if isinstance(schema, Mapping):
            self.told = _plain(schema)
            if away := next((ref for ref in _references(self.told) if not ref.startswith("#")), None):
                raise InvalidInput("Agent schema", f"refers to {away!r}", "put what it means into the schema itself")
            jsonschema = import_module("jsonschema")  # heavy, and only for those who use it
            referencing = import_module("referencing")  # jsonschema loads its vocabularies
            kind = jsonschema.Draft202012Validator
            try:
                kind.check_schema(self.told)
            except jsonschema.SchemaError as error:
                where = "/".join(map(str, error.absolute_path)) or "its top"
                raise InvalidInput("Agent schema", f"is no JSON Schema: {error.message} (at {where})") from error
            here = referencing.jsonschema.DRAFT202012.create_resource(self.told)
            resolver = referencing.Registry().resolver_with_root(here)
            for ref in _references(self.told):
                try:
                    resolver.lookup(ref)
                except Exception as error:
                    raise InvalidInput("Agent schema", f"refers to {ref!r}, which is not in it") from error
            self._validator = kind(self.told, registry=referencing.Registry())  # fetches nothing
            return
        try:
            self._type = schema
            msgspec.json.Decoder(schema)
            self.told = msgspec.json.schema(schema)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                "Agent schema", f"must be JSON Schema or a type that msgspec knows, got {schema!r} ({error})"
            ) from error

    @property
    def portable(self) -> Schema:
        """The schema as it can be pickled: of a user's own types, the JSON Schema.

        A type that was defined in a cell is packed by value, and `msgspec` does not survive that: a dataclass that it
        has looked at cannot be packed, and a `Struct` comes out without its fields, so that anything would fit.
        """
        is_own = str(getattr(self._type, "__module__", "")).startswith("epsilon_lab.")
        return self._type if self._type is not None and (is_own or "$defs" not in self.told) else self.told

    def argument(self, name: str, description: str) -> dict[str, Any]:
        """JSON Schema of an object whose one field is such an output."""
        own = dict(self.told)
        beside: dict[str, Any] = {
            key: own.pop(key) for key in ("$defs", "definitions") if key in own
        }  # where its references look
        own.pop("$schema", None)
        return {
            "type": "object",
            "properties": {name: {"description": description, **own}},
            "required": [name],
            **beside,
        }

    def mismatch(self, output: Any) -> str:
        """Say in what an output does not fit; empty where it does."""
        if self._type is not None:
            try:
                msgspec.convert(output, self._type)
            except msgspec.ValidationError as error:
                return str(error)
            return ""
        try:
            found = next(iter(self._validator.iter_errors(output)), None)
        except RecursionError:
            return "it is nested too deeply"
        except Exception as unresolvable:  # noqa: BLE001 - a reference to elsewhere, whose error is not jsonschema's
            return f"the schema cannot be applied: {unresolvable}"[:_WORDS]
        return "" if found is None else f"{found.message[:_WORDS]} (at {found.json_path})"


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(ref := schema.get("$ref"), str):
            yield ref
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(schema)), type=dict[str, Any])
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("Agent schema", f"cannot be written as JSON ({error})") from error
    return plain
