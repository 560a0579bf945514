"""Replies that fit their schema only after repair: what was repaired, and a question whether it may stand.

A model's reply is often data but for its form: fenced, with a comma too many, a number in quotes. Repair changes the
form and never the content: nothing is completed that was cut off, no value is made up, and what no rule knows how to
mend stays wrong and is said. Each change is a line, so that a decider sees what was done.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.confidence import ACCEPT, REJECT
from epsilon_lab.reducers.flag import Flag, asked

_ROUNDS = 50
"""Changes made to one value at most."""

_DIGITS = 400
"""A longer text is no number."""

_SHOWN = 2_000
"""Characters of a reply that evidence shows."""

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_WORD = re.compile(rf"({_STRING})|\b(True|False|None)\b", re.DOTALL)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LITERALS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}


class Repaired(NamedTuple):
    """What a reply says."""

    value: Any
    """The data; None where there is none."""

    changes: list[str]
    """What was changed, in words; none where it fits as it is."""

    problems: list[str]
    """Why it does not fit even so; none where it does."""


class Fitted(NamedTuple):
    """A reply, and what became of it."""

    value: Any
    """What counts; None where it fits nothing, or is rejected."""

    changes: list[str]
    problems: list[str]
    verdict: str | None
    """`accept`, `reject`, or None where nobody was asked or has decided."""


def repair(reply: object, schema: Mapping[str, Any]) -> Repaired:
    """Read a reply, and change its form until it fits a schema, if it can be made to.

    In a text: what stands around a fenced block or around the only object or list, commas before a closing bracket, and
    `True`, `False` and `None`. In its data, only where the schema is not met: a number, a truth value or null in
    quotes, a number where a text is due, a lone item where a list is due, an option in another case, a missing field
    that the schema gives a `default` for or lets be null.

    Args:
        reply: A text, or data.
        schema: JSON Schema (draft 2020-12).

    Raises:
        InvalidInput: The schema is none.
    """
    return _repair(reply, _validator(schema))


def flag_repairs(
    outputs: Iterable[tuple[str, object]] | Mapping[str, object],
    schema: Mapping[str, Any],
    *,
    flag: Flag | None = None,
) -> dict[str, Fitted]:
    """Read replies, and ask about each that does not fit as it is.

    What could be repaired counts until it is rejected. What could not has no value, whatever is decided: the verdict
    `do it again` is for whoever reruns the task.

    Args:
        outputs: Replies by a name for each: a mapping, or pairs.
        schema: JSON Schema (draft 2020-12).
        flag: Asks; None for nobody.

    Returns:
        By name, in the order they were given.

    Raises:
        InvalidInput: The schema is none, or a name is used twice.
    """
    validator = _validator(schema)
    found: dict[str, Fitted] = {}
    for name, reply in outputs.items() if isinstance(outputs, Mapping) else outputs:
        if name in found:
            raise InvalidInput("reducers.flag_repairs", f"has two replies named {name!r}", "give each its own name")
        value, changes, problems = _repair(reply, validator)
        verdict = None
        if changes or problems:
            shown = reply if isinstance(reply, str) else json.dumps(reply, default=repr)
            verdict = asked(flag)(
                key=["schema", name],
                kind="schema repair",
                question=f"May {name!r} stand as it was repaired?"
                if not problems
                else f"{name!r} does not fit. What now?",
                options=[ACCEPT, REJECT] if not problems else [REJECT, "do it again"],
                evidence={"reply": shown[:_SHOWN], "value": value, "changes": changes, "problems": problems},
                reason="; ".join(problems or changes)[:_SHOWN],
                score=float(bool(problems)) + min(len(changes), 9) / 10,
            )
        found[name] = Fitted(None if problems or verdict == REJECT else value, changes, problems, verdict)
    return found


def _repair(reply: object, validator: Any) -> Repaired:
    changes: list[str] = []
    value: Any = reply
    if isinstance(reply, str):
        try:
            value = _read(reply, changes)
        except (ValueError, RecursionError) as error:  # brackets in brackets without end are no data either
            if not validator.is_valid(reply):
                return Repaired(None, [], [f"it is no JSON: {error}"])
            changes, value = [], reply  # the schema wants a text
    value = json.loads(json.dumps(value)) if isinstance(value, dict | list) else value  # nobody else's data is changed
    for _ in range(_ROUNDS):
        try:
            wrong = sorted(validator.iter_errors(value), key=lambda each: [str(part) for part in each.absolute_path])
        except import_module("referencing").exceptions.Unresolvable as error:
            raise InvalidInput("reducers.repair schema", f"refers to what is not in it: {error}") from error
        change = next(filter(None, (_mend(value, each) for each in wrong)), None)
        if change is None:
            return Repaired(value, changes, [_words(each) for each in wrong])
        value = change[0]
        changes.append(change[1])
    return Repaired(value, changes, [f"more than {_ROUNDS} changes are needed"])


def _read(reply: str, changes: list[str]) -> Any:
    """The JSON in a text.

    Raises:
        ValueError: There is none, not even in another form.
    """
    try:
        return json.loads(reply, parse_constant=_refuse)
    except ValueError as error:
        first = error
    for text, words in _insides(reply):
        closed = _COMMA.sub(lambda match: match[1] or "", text)
        worded = _WORD.sub(lambda match: match[1] or _WORDS[match[2]], closed)
        try:
            value = json.loads(worded, parse_constant=_refuse)
        except ValueError:
            continue
        changes += [words] * bool(words)
        changes += ["a comma before a closing bracket was dropped"] * (closed != text)
        changes += ["Python's True, False or None was written as JSON's"] * (worded != closed)
        return value
    raise first


def _insides(reply: str) -> Iterator[tuple[str, str]]:
    """Where a reply's JSON may stand, with the words for what is left out."""
    yield reply, ""
    fenced = _FENCE.findall(reply)
    if len(fenced) == 1:
        yield fenced[0], "it was taken out of its fence"
    if len(fenced) < 2:
        begins = [place for place in map(reply.find, "{[") if place >= 0]
        if begins and (begin := min(begins)) < (end := reply.rfind("}" if reply[min(begins)] == "{" else "]") + 1):
            yield reply[begin:end], "the words around it were left out"


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _mend(value: Any, error: Any) -> tuple[Any, str] | None:
    """The value with one error mended, and the words for it; None where no rule knows how."""
    where = "/".join(map(str, error.absolute_path)) or "its top"
    if error.validator == "required":
        for name in error.validator_value:
            field = error.schema.get("properties", {}).get(name, {})
            if name not in error.instance and isinstance(field, dict):
                if "default" in field:
                    error.instance[name] = json.loads(json.dumps(field["default"]))
                    return value, f"{where}: {name!r} was missing and has the schema's default"
                if "null" in _types(field):
                    error.instance[name] = None
                    return value, f"{where}: {name!r} was missing and is null"
        return None
    if error.validator == "type":
        for wanted in _types(error.schema):
            made = _as(wanted, error.instance)
            if made is not None:
                return _put(
                    value, error.absolute_path, made[0]
                ), f"{where}: {error.instance!r:.80} became {made[0]!r:.80}"
    if error.validator in ("enum", "const") and isinstance(error.instance, str):
        options = error.validator_value if error.validator == "enum" else [error.validator_value]
        alike = [each for each in options if isinstance(each, str) and _plain(each) == _plain(error.instance)]
        if len(alike) == 1:
            return _put(
                value, error.absolute_path, alike[0]
            ), f"{where}: {error.instance!r:.80} became {alike[0]!r:.80}"
    return None


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else list(types)


def _as(wanted: str, given: Any) -> tuple[Any] | None:
    """The same content as another type of JSON; None where it has no such form."""
    text = given.strip() if isinstance(given, str) else None
    match wanted:
        case "integer" | "number" if text is not None and len(text) < _DIGITS and _NUMBER.fullmatch(text):
            if _INTEGER.fullmatch(text):
                return (int(text),)
            return (float(text),) if wanted == "number" and math.isfinite(float(text)) else None
        case "boolean" | "null" if text is not None and text.casefold() in _LITERALS:
            made = _LITERALS[text.casefold()]
            return (made,) if (made is None) == (wanted == "null") else None
        case "string" if isinstance(given, int | float) and not isinstance(given, bool):
            return (json.dumps(given),)
        case "array" if given is not None and not isinstance(given, list):
            return ([given],)
    return None


def _put(value: Any, path: Iterable[Any], made: Any) -> Any:
    *before, last = [None, *path]
    if not before:
        return made
    at = value
    for step in before[1:]:
        at = at[step]
    at[last] = made
    return value


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())


def _words(error: Any) -> str:
    where = "/".join(map(str, error.absolute_path)) or "its top"
    return f"{where}: {error.message:.300}"


def _validator(schema: Mapping[str, Any]) -> Any:
    jsonschema = import_module("jsonschema")  # heavy, and only for those who use it
    referencing = import_module("referencing")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise InvalidInput("reducers.repair schema", f"is no JSON Schema: {error.message} (at {where})") from error
    return jsonschema.Draft202012Validator(schema, registry=referencing.Registry())  # fetches nothing
