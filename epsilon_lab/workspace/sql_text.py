"""SQL as a person types it into a cell: which values it asks for by name, and what may be written next.

Both are read off the text without understanding it, and neither is a boundary: a query is checked, and its values are
bound, by DuckDB alone. What matters here is only to leave strings, quoted names and comments in peace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_SOLID = r"""
    '(?:[^']|'')*'              # a string
  | "(?:[^"]|"")*"              # a quoted name
  | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
  | --[^\n]*
  | /\*.*?\*/
"""
_VALUE = re.compile(
    rf"{_SOLID} | \$(?P<dollar>[A-Za-z_]\w*) | (?<=[\s(,=<>+*/|-]):(?P<colon>[A-Za-z_]\w*)", re.X | re.S
)
"""A `:name` stands after a space, a bracket or an operator, so that `x::int` and `list[1:n]` are left as they are."""

_FINISHED = re.compile(_SOLID, re.X | re.S)
_STRING = re.compile(r"'(?:[^']|'')*'" r'|"[^"]*"')
_SOURCE = re.compile(r"\b(?:from|join)\s+(?:\w+(?:\s+as)?(?:\s+\w+)?\s*,\s*)*\w*$", re.I)
"""After `from`, up to the name of a table, perhaps of one more."""

_ALIAS = re.compile(r"\b(?:from|join|,)\s*(\w+)(?:\s+as)?\s+(\w+)\b", re.I)

_WORDS = """
    select from where group by having order limit with as distinct join left right inner outer full cross using on
    union all except intersect case when then else end and or not in is null like ilike between exists asc desc
    nulls first last over partition qualify row_number describe explain filter cast unnest offset sample
    count sum avg min max median mode stddev quantile_cont any_value arg_max arg_min list string_agg histogram
    round abs coalesce length lower upper contains starts_with regexp_matches split_part concat
    epoch date_trunc date_diff now json_extract json_extract_string json_array_length true false
"""
KEYWORDS = tuple(_WORDS.split())
"""Words and functions that a query over these tables is made of; DuckDB knows more."""


class Prepared(NamedTuple):
    """A query as DuckDB takes it."""

    query: str
    names: tuple[str, ...]
    """The values it asks for, each once."""


def prepare(text: str) -> Prepared:
    """Find the values that a query asks for as `$name` or `:name`; DuckDB knows the first spelling only."""
    names: dict[str, None] = {}

    def spelled(found: re.Match[str]) -> str:
        name = found["dollar"] or found["colon"]
        if name is None:
            return found[0]
        names[name] = None
        return f"${name}"

    return Prepared(_VALUE.sub(spelled, text), tuple(names))


def quoted_names(text: str) -> list[str]:
    """The names that a query has in double quotes, each once, and no text of its strings and comments."""
    solid = (found[0] for found in _FINISHED.finditer(text))
    return list(dict.fromkeys(each[1:-1].replace('""', '"') for each in solid if each.startswith('"')))


class Proposal(NamedTuple):
    """What may be written next."""

    fragment: str
    """The end of the text, which each of the words replaces."""

    words: dict[str, str]
    """Word -> what it is, best first."""


def propose(
    before: str,
    after: str,
    tables: Mapping[str, Iterable[str]],
    *,
    names: Callable[[], Iterable[str]] = tuple,
    files: Callable[[], Iterable[str]] = tuple,
    variables: Iterable[str] = (),
) -> Proposal:
    """Say how the word before the cursor may go on.

    Args:
        before: The query up to the cursor.
        after: The rest of it.
        tables: Columns by table.
        names: Ids and names of runs, asked for in a string only.
        files: Files of runs that are tables, asked for in a quoted name only.
        variables: Names that may follow a `$`.

    Returns:
        In a string, names; in a quoted name, files; in a comment, nothing; after `table.`, its columns; after `from`
        and `join`, tables; else columns of the tables that the query names (of all, where it names none), then tables,
        then SQL's own words.
    """
    open_text = _FINISHED.sub(lambda found: " " * len(found[0]), before)
    if "/*" in open_text or re.search(r"--[^\n]*$", _STRING.sub("", before)):
        return Proposal("", {})
    if mark := re.search("""['"]""", open_text):
        fragment = before[mark.end() :]
        offered = ((name, "run") for name in names()) if mark[0] == "'" else ((name, "file") for name in files())
        doubled = {name.replace(mark[0], 2 * mark[0]): kind for name, kind in offered}
        return Proposal(fragment, {name: kind for name, kind in doubled.items() if name.startswith(fragment)})
    stem = re.sub(r"\w+$", "", open_text)
    fragment = open_text[len(stem) :]
    if stem.endswith("$"):
        return Proposal(fragment, {name: "variable" for name in sorted(variables) if name.startswith(fragment)})
    whole = f"{open_text} {_FINISHED.sub(' ', after)}"
    named = [name for name in tables if re.search(rf"\b{re.escape(name)}\b", whole, re.I)]
    words: dict[str, str]
    if owner := re.search(r"(\w+)\.$", stem):
        words = dict.fromkeys(_columns_of(owner[1], whole, tables), "column")
    elif _SOURCE.search(open_text):
        words = dict.fromkeys(tables, "table")
    else:
        columns = (column for name in named or tables for column in tables[name])
        keywords = [word.upper() for word in KEYWORDS] if fragment.isupper() else KEYWORDS
        words = dict.fromkeys(keywords, "keyword")
        words = dict.fromkeys(columns, "column") | dict.fromkeys(tables, "table") | words
    begun = {word: kind for word, kind in words.items() if word.lower().startswith(fragment.lower())}
    return Proposal(fragment, begun)


def _columns_of(owner: str, text: str, tables: Mapping[str, Iterable[str]]) -> list[str]:
    """The columns behind a table's name or alias; of one that nobody here knows, none."""
    known = {name.lower(): name for name in tables}
    aliases = {alias.lower(): name.lower() for name, alias in _ALIAS.findall(text)}
    found = known.get(owner.lower()) or known.get(aliases.get(owner.lower(), ""))
    return list(tables[found]) if found else []
