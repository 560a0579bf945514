"""`%load_ext epsilon_lab`: a cell of SQL over the live lab's tables, so that nobody has to write a query in quotes.

    %load_ext epsilon_lab

    %%labsql slow                      the answer, also kept as `slow`
    select task_id, finished_at - started_at as took
    from tasks where run_id = $run order by took desc

`$name` (or `:name`) is the value of the notebook's variable, bound and never pasted into the text; of a run it is its
run_id. `%labsql select ...` is the same in one line, as in `slow = %labsql select ...`. What is shown is a DataFrame,
cut as pandas cuts any; what is kept is whole.

IPython calls what is here and is never imported for it, but to hear which completions it takes.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.lab import Lab, open_labs
from epsilon_lab.runs import Run
from epsilon_lab.workspace.layout import LEAVES
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.sql_text import Proposal, prepare, propose

if TYPE_CHECKING:
    import pandas as pd

NAME = "labsql"
_MOST_FILES = 500
_CELL = re.compile(rf"\s*%%{NAME}\b(?P<options>[^\n]*)\n")
_LINE = re.compile(rf"^\s*(?:[\w.\[\]'\", ]+=\s*)?%{NAME}\b(?P<options>\s+--lab\s+\w+)?\s")
_OPTION = re.compile(r"(?:(?P<lab>--lab\s+)?(?P<name>\w*)|(?P<dash>-+\w*))$")
_USAGE = f"%%{NAME} [--lab variable] [variable to keep the answer in], and the query below it"


class SqlCell:
    """What `%labsql` and `%%labsql` do in one IPython shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def register(self) -> None:
        """Give the shell the magics, and their completions; once more does nothing more."""
        from IPython.core.magic import no_var_expand  # noqa: PLC0415 - who calls this has it

        def labsql(line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> pd.DataFrame:
            return self._run(line, cell, {**self._shell.user_ns, **(local_ns or {})})

        labsql.__doc__ = __doc__
        labsql.needs_local_scope = True  # type: ignore[attr-defined]  # how IPython is asked for it
        self._shell.register_magic_function(no_var_expand(labsql), "line_cell", NAME)
        matchers = self._shell.Completer.custom_matchers
        self.unregister_matcher()
        matchers.append(_matcher(self._complete))

    def unregister(self) -> None:
        """Take all of it back."""
        for kind in self._shell.magics_manager.magics.values():
            kind.pop(NAME, None)
        self.unregister_matcher()

    def unregister_matcher(self) -> None:
        """Take the completions back."""
        matchers = self._shell.Completer.custom_matchers
        matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != NAME]

    # -- answering -------------------------------------------------------------------------------------------------

    def _run(self, line: str, cell: str | None, names: Mapping[str, Any]) -> pd.DataFrame:
        try:
            lab, rest = _options(line, names)
            keep, query = (rest.strip(), cell) if cell is not None else ("", rest)
            if keep:
                _check_name(keep, names)
            answer = (lab or _the_lab(names)).sql(*_bound(query, names))
        except LabError as error:
            error._render_traceback_ = partial(_in_red, error)  # type: ignore[attr-defined]  # IPython's own hook
            raise
        if keep:
            self._shell.user_ns[keep] = answer
        return answer

    # -- completing ------------------------------------------------------------------------------------------------

    def _complete(self, text: str, cursor: int) -> Proposal | None:
        """What may be written at a place of a cell; None where it is no SQL."""
        names = self._shell.user_ns
        if cell := _CELL.match(text):
            if cursor >= cell.end():
                start, end = cell.end(), len(text)
            else:
                return _complete_options(text[:cursor], names)
        else:
            begin = text.rfind("\n", 0, cursor) + 1
            end = len(text) if (stop := text.find("\n", cursor)) < 0 else stop
            if not (found := _LINE.match(text[begin:cursor])):
                return None
            start = begin + found.end()
        if cell is None and (asked := re.search(r"--lab\s+(\w*)$", text[start:cursor])):
            return Proposal(asked[1], _labs_from(asked[1], names))
        return propose(
            text[start:cursor],
            text[cursor:end],
            {name: table.columns for name, table in TABLES.items()},
            names=lambda: _run_names(text, names),
            files=lambda: _run_files(text, names),
            variables=[name for name, value in names.items() if not name.startswith("_") and _is_value(value)],
        )


def load(shell: Any) -> None:
    """Load the extension into an IPython shell."""
    SqlCell(shell).register()


def unload(shell: Any) -> None:
    """Take it out again."""
    SqlCell(shell).unregister()


def _options(line: str, names: Mapping[str, Any]) -> tuple[Lab | None, str]:
    """The lab that a line names, if any, and the rest of the line."""
    found = re.match(r"\s*--(?P<option>\w*)\s*(?P<value>[^\s]*)\s*(?P<rest>.*)", line, re.S)
    if found is None:
        return None, line
    if found["option"] != "lab":
        raise InvalidInput(f"%{NAME}", f"has no option --{found['option']}", f"write {_USAGE}")
    lab = names.get(found["value"])
    if not isinstance(lab, Lab):
        some = ", ".join(_labs(names)) or "none"
        raise InvalidInput("--lab", f"{found['value']!r} is no variable that holds a Lab", f"those that do: {some}")
    return lab, found["rest"]


def _check_name(name: str, names: Mapping[str, Any]) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidInput(f"%%{NAME}", f"{name!r} is no name for a variable", f"write {_USAGE}")
    if isinstance(names.get(name), Lab):
        raise InvalidInput(f"%%{NAME}", f"{name!r} holds the lab itself", f"to ask that lab: %%{NAME} --lab {name}")


def _labs(names: Mapping[str, Any]) -> dict[str, Lab]:
    """Variables that hold an open lab."""
    return {name: lab for name, lab in names.items() if isinstance(lab, Lab) and lab.is_open and name[:1] != "_"}


def _the_lab(names: Mapping[str, Any]) -> Lab:
    """The one lab that is open: at work, or looking on as a variable.

    Raises:
        LabError: There is none, or there are several.
    """
    found = {lab.path: lab for lab in (*_labs(names).values(), *open_labs())}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        told = ", ".join(f"--lab {name}" for name in _labs(names)) or "keep each in a variable, and name it with --lab"
        raise LabError(f"{len(found)} labs are open; say which one is meant: {told}")
    raise LabError('no lab is open in this notebook; open one first: lab = Lab("runs")')


def _bound(query: str, names: Mapping[str, Any]) -> tuple[str, dict[str, object] | None]:
    """A query and its values, taken from the notebook's variables."""
    prepared = prepare(query)
    if missing := [name for name in prepared.names if name not in names]:
        raise InvalidInput(f"${missing[0]}", "is no variable of this notebook", f"set it first: {missing[0]} = ...")
    return prepared.query, {name: _value(names[name]) for name in prepared.names} or None


def _value(value: Any) -> object:
    """A variable as a value that DuckDB takes: numpy's and pandas' become Python's own, a run its id."""
    if isinstance(value, Run):
        return value.run_id
    if isinstance(value, set | frozenset):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _is_value(value: object) -> bool:
    return not callable(value) and not isinstance(value, ModuleType | Lab)


def _in_red(error: LabError) -> list[str]:
    """The error, its first line red, without a traceback: nothing of that would be the query's."""
    first, _, rest = f"{type(error).__name__}: {error}".partition("\n")
    return [f"\x1b[31m{first}\x1b[0m", *rest.split("\n")] if rest else [f"\x1b[31m{first}\x1b[0m"]


def _complete_options(before: str, names: Mapping[str, Any]) -> Proposal | None:
    """How the line of `%%labsql` itself may go on."""
    if (found := _OPTION.search(before)) is None:
        return None
    if found["dash"]:
        return Proposal(found["dash"], {"--lab": "option"})
    return Proposal(found["name"], _labs_from(found["name"], names) if found["lab"] else {})


def _labs_from(fragment: str, names: Mapping[str, Any]) -> dict[str, str]:
    return {name: "lab" for name in _labs(names) if name.startswith(fragment)}


def _run_names(text: str, names: Mapping[str, Any]) -> list[str]:
    """Ids and names of the runs of the lab that a cell asks, the latest first."""
    rows = _asked(text, names, "select run_id, name from runs order by started_at desc")
    return list(dict.fromkeys(str(row[place]) for place in (0, 1) for row in rows))


def _run_files(text: str, names: Mapping[str, Any]) -> list[str]:
    """Files that its runs have made and that are tables: by the run's name and the path that a task gave it, by all."""
    query = f"""
        select name, regexp_replace(path, '^{LEAVES}/[^/]+/[^/]+/', ''), run_id, path
        from artifacts join runs using (run_id) where regexp_matches(lower(path), '\\.(csv|tsv|ndjson|jsonl|parquet)$')
        order by created_at desc, path limit {_MOST_FILES}
    """  # noqa: S608 - our own words
    rows = _asked(text, names, query)
    return list(dict.fromkeys(f"{row[place]}/{row[place + 1]}" for place in (0, 2) for row in rows))


def _asked(text: str, names: Mapping[str, Any], query: str) -> list[tuple[Any, ...]]:
    found = re.search(r"--lab\s+(\w+)", text)
    lab = _labs(names).get(found[1]) if found else _the_lab(names)
    return [] if lab is None else lab.store.rows(query)


def _matcher(complete: Callable[[str, int], Proposal | None]) -> Callable[..., dict[str, Any]]:
    """Completions as IPython asks for them since 8.6: in a cell of ours, ours and no others."""
    from IPython.core.completer import SimpleCompletion  # noqa: PLC0415 - who calls this has it

    def match(context: Any) -> dict[str, Any]:
        lines = context.full_text.split("\n")
        cursor = sum(len(line) + 1 for line in lines[: context.cursor_line]) + context.cursor_position
        try:
            proposal = complete(context.full_text, cursor)
        except LabError:  # a lab that cannot be asked proposes nothing
            proposal = None
        if proposal is None:
            return {"completions": []}
        return {
            "completions": [SimpleCompletion(text=word, type=kind) for word, kind in proposal.words.items()],
            "matched_fragment": proposal.fragment,
            "ordered": True,
            "suppress": True,
        }

    match.matcher_api_version = 2  # type: ignore[attr-defined]  # how IPython is told
    match.matcher_identifier = NAME  # type: ignore[attr-defined]  # as above
    match.matcher_priority = 1_000.0  # type: ignore[attr-defined]  # before those that would look at it as Python
    return match
