"""What a generation taught, in words a proposer can act on: what worked, what hurt, what is untried.

It is read off the programs and their scores alone, so that the same rows give the same text, and every line names the
candidates it rests on. Programs are compared after layout and comments are taken out, and with the better of their
parents: what differs there is what the score is about. It claims no cause; where several lines changed, it shows them
all (as far as they fit) and leaves the judgement to the reader.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from epsilon_lab.agents.prompt import Message, Prompt
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.search.context import Direction
from epsilon_lab.search.sources import diff, normalise, parse

_MOST = 3
"""Candidates told of one by one in a section, and lines shown of each side of a change."""

_NAMED = 12
"""Candidates a line names at most; the rest are counted."""

_WIDTH = 100
"""Characters shown of a line of a program, or of an error."""

SECTIONS = ("What worked", "What hurt", "What is untried")

BRIEF_FORM = (
    f"Write Markdown with exactly three sections, {', '.join(f'`## {title}`' for title in SECTIONS)}: short bullet "
    "points, at most 300 words in all."
)
"""The form that a model's brief is asked for in, as a sentence for the model."""


class BriefRow(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate, as far as a brief is concerned."""

    candidate_id: str
    strategy: str
    parents: tuple[str, ...] = ()
    outcome: str = "scored"
    score: float | None = None
    error: str = ""
    source: str | None = None
    """None where no program was proposed."""


class Brief(msgspec.Struct, frozen=True, kw_only=True):
    """A brief."""

    text: str
    """Markdown."""

    cited: tuple[str, ...]
    """The candidates it names, in order of appearance."""


@dataclass(frozen=True)
class Generation:
    """What a brief is made from.

    Args:
        number: The generation.
        direction: Which scores are better.
        rows: Its candidates.
        parents: The candidates it was made from, and the seed program, as far as known.
        best_id: The best candidate so far, of any generation; None where all are rejected.
        seed_source: The seed program.
        alternatives: The problem's other bodies for functions of the seed program.
    """

    number: int
    direction: Direction
    rows: Sequence[BriefRow]
    parents: Sequence[BriefRow]
    best_id: str | None
    seed_source: str
    alternatives: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def known(self) -> dict[str, BriefRow]:
        """Every row by id."""
        return {row.candidate_id: row for row in (*self.parents, *self.rows)}

    @cached_property
    def scored(self) -> list[BriefRow]:
        """Rows with a score, best first."""
        return sorted((row for row in self.rows if row.score is not None), key=self._order)

    def _order(self, row: BriefRow) -> tuple[float, str]:
        assert row.score is not None
        return (self.gain(row.score, 0.0) * -1, row.candidate_id)

    def gain(self, score: float, base: float) -> float:
        """How much better a score is than another; negative if it is worse."""
        return score - base if self.direction == "maximize" else base - score

    def base(self, row: BriefRow) -> BriefRow | None:
        """What a candidate is measured against: the better of its parents, or the seed program."""
        parents = [self.known[name] for name in row.parents or (SEED_CANDIDATE,) if name in self.known]
        return min((parent for parent in parents if parent.score is not None), key=self._order, default=None)


def write_brief(generation: Generation) -> Brief:
    """Write the deterministic brief of a generation."""
    bodies = (_worked(generation), _hurt(generation), _untried(generation))
    parts = [f"# Generation {generation.number}"]
    for title, lines in zip(SECTIONS, bodies, strict=True):
        parts.append(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines or ["Nothing to report."]))
    text = "\n\n".join(parts) + "\n"
    return Brief(text=text, cited=cited(text, generation.known))


def brief_prompt(generation: Generation, statement: str, task: str = "") -> Prompt:
    """Write the messages that ask a model for a brief: the deterministic one, and the programs it is about.

    Args:
        generation: What it is about.
        statement: The problem's.
        task: What it is asked for besides, in its problem's own words.
    """
    system = (
        "You read the results of one generation of a program search and write the brief for whoever proposes the next "
        f"one. {BRIEF_FORM} Cite the ids of the candidates every point rests on. Say only what the results bear out; "
        "under what is untried, name concrete ideas to try next."
    )
    programs = [f"### {row.candidate_id}, score {_number(row.score)}\n\n{_fenced(row)}" for row in generation.scored]
    user = [
        f"# The problem\n\n{statement.strip()}",
        f"# What was counted\n\n{write_brief(generation).text.strip()}",
        "# The best programs of the generation\n\n" + ("\n\n".join(programs[:_MOST]) or "None has a score."),
        *[f"# What is asked for\n\n{task.strip()}"] * bool(task.strip()),
    ]
    return (Message("system", system), Message("user", "\n\n".join(user) + "\n"))


def cited(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Find the candidates that a text names, in order of appearance."""
    ids = set(known)
    found = (quoted or plain for quoted, plain in re.findall(r"`([\w-]+)`|\b(g\d+-c\d+)\b", text))
    return tuple(dict.fromkeys(name for name in found if name in ids))


# -- the sections ----------------------------------------------------------------------------------------------------


def _worked(generation: Generation) -> list[str]:
    better = [row for row in generation.scored if _change(generation, row) > 0]
    lines = [_told(generation, row) for row in better[:_MOST]]
    if rest := better[_MOST:]:
        lines.append(f"Also better than what they were made from: {_ids(rest)}.")
    if not better and generation.scored:
        best = generation.scored[0]
        lines.append(f"No candidate beat what it was made from; the best of them is {_told(generation, best)}")
    return lines


def _hurt(generation: Generation) -> list[str]:
    worse = [row for row in generation.scored if _change(generation, row) < 0]
    lines = [_told(generation, row) for row in sorted(worse, key=lambda row: _change(generation, row))[:_MOST]]
    if rest := sorted(worse, key=lambda row: _change(generation, row))[_MOST:]:
        lines.append(f"Also worse than what they were made from: {_ids(rest)}.")
    same = [row for row in generation.scored if _change(generation, row) == 0]
    if same:
        lines.append(f"Changed nothing in the score: {_ids(same)}.")
    failures: dict[str, list[BriefRow]] = {}
    for row in generation.rows:
        if row.score is None:
            failures.setdefault(row.outcome, []).append(row)
    for outcome, rows in sorted(failures.items(), key=lambda item: (-len(item[1]), item[0])):
        example = next((row for row in rows if row.error), None)
        why = f"; `{example.candidate_id}`: {_code(example.error)}" if example else ""
        lines.append(f"{len(rows)} × {outcome}: {_ids(rows)}{why}")
    return lines


def _untried(generation: Generation) -> list[str]:
    lines = []
    scored = [row for row in generation.scored if row.source is not None]
    idle = {row.strategy for row in generation.rows} - {row.strategy for row in scored}
    for strategy in sorted(idle):
        rows = [row for row in generation.rows if row.strategy == strategy]
        lines.append(f"`{strategy}` has not had a fair try: none of its candidates has a score ({_ids(rows)}).")
    if not scored:
        return lines
    seed = _functions(generation.seed_source)
    tried = [_functions(row.source or "") for row in scored]
    if untouched := [name for name in seed if all(one.get(name) == seed[name] for one in tried)]:
        lines.append(
            f"{', '.join(f'`{name}()`' for name in untouched)}: as in the seed program in every scored candidate "
            f"({_ids(scored)})."
        )
    bodies = {form for one in tried for form in one.values()}
    for name, others in generation.alternatives.items():
        unused = [body for body in others if not bodies.issuperset(_functions(body).values())]
        if unused:
            lines.append(
                f"{len(unused)} of {len(others)} known alternatives of `{name}()` are in no scored candidate "
                f"({_ids(scored)})."
            )
    changed = set().union(*(_kinds(_base_source(generation, row), row.source or "") for row in scored))
    if unchanged := [kind for kind in _KINDS if kind not in changed]:
        lines.append(f"No scored candidate changed {', '.join(unchanged)} ({_ids(scored)}).")
    best = generation.known.get(generation.best_id or "")
    used = {parent for row in generation.rows for parent in row.parents or (SEED_CANDIDATE,)}
    if best is not None and best.candidate_id not in used:
        lines.append(f"Nothing was made from the best program yet, `{best.candidate_id}` ({_number(best.score)}).")
    return lines


# -- words -----------------------------------------------------------------------------------------------------------


def _change(generation: Generation, row: BriefRow) -> float:
    """How much better a candidate is than what it was made from; 0 where that is not known."""
    base = generation.base(row)
    if base is None or base.score is None or row.score is None:
        return 0.0
    return generation.gain(row.score, base.score)


def _told(generation: Generation, row: BriefRow) -> str:
    """A candidate, what it was made from, what became of the score, and what differs."""
    base = generation.base(row)
    parents = f" of {', '.join(f'`{name}`' for name in row.parents)}" if row.parents else ""
    score = _number(row.score) if base is None else f"{_number(base.score)} → {_number(row.score)}"
    removed: list[str] = []
    added: list[str] = []
    for line in diff(_plain(_base_source(generation, row)), _plain(row.source or "")).splitlines()[2:]:
        if line[1:].strip() and line[0] in "+-":
            (added if line[0] == "+" else removed).append(line[1:].strip())
    shown = [f"{verb} {_some(lines)}" for verb, lines in (("adds", added), ("removes", removed)) if lines]
    against = f" against `{base.candidate_id}`" if base is not None and len(row.parents) != 1 else ""
    return f"`{row.candidate_id}` ({row.strategy}{parents}): {score}{against}" + (
        f"; it {' and '.join(shown)}." if shown else "."
    )


def _base_source(generation: Generation, row: BriefRow) -> str:
    base = generation.base(row)
    return generation.seed_source if base is None or base.source is None else base.source


def _some(lines: list[str]) -> str:
    more = f" and {len(lines) - _MOST} more lines" if len(lines) > _MOST else ""
    return ", ".join(_code(line) for line in lines[:_MOST]) + more


def _code(text: str) -> str:
    """Text of a stranger, as a code span on one line."""
    line = " ".join(text.split()).replace("`", "'")
    return f"`{line if len(line) <= _WIDTH else line[:_WIDTH] + '…'}`"


def _ids(rows: Iterable[BriefRow]) -> str:
    names = [f"`{row.candidate_id}`" for row in rows]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _number(score: float | None) -> str:
    return "none" if score is None else f"{score:.6g}"


def _fenced(row: BriefRow) -> str:
    ticks = "`" * (max((len(run) for run in re.findall(r"`{3,}", row.source or "")), default=2) + 1)
    return f"{ticks}python\n{(row.source or '').rstrip()}\n{ticks}"


# -- programs --------------------------------------------------------------------------------------------------------

_KINDS: dict[str, tuple[type[ast.AST], ...]] = {
    "constants": (ast.Constant,),
    "operators": (ast.operator, ast.cmpop, ast.boolop, ast.unaryop),
    "conditions": (ast.If, ast.IfExp, ast.Match),
    "loops and comprehensions": (ast.For, ast.While, ast.comprehension),
    "calls": (ast.Call,),
    "data structures": (ast.List, ast.Dict, ast.Set, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp),
    "functions": (ast.FunctionDef, ast.Lambda, ast.ClassDef),
    "imports": (ast.Import, ast.ImportFrom),
}


def _kinds(before: str, after: str) -> set[str]:
    """The kinds of parts that two programs do not have alike."""
    try:
        trees = (parse(before), parse(after))
    except SyntaxError:
        return set()
    old, new = ([node for node in ast.walk(tree) if not isinstance(node, ast.expr_context)] for tree in trees)

    def parts(nodes: list[ast.AST], types: tuple[type[ast.AST], ...]) -> Counter[str]:
        shallow = (ast.Constant, ast.Import, ast.ImportFrom)
        return Counter(
            ast.dump(node)
            if isinstance(node, shallow)
            else ast.dump(node.func)
            if isinstance(node, ast.Call)
            else f"{type(node).__name__} {getattr(node, 'name', '')}"
            for node in nodes
            if isinstance(node, types)
        )

    return {kind for kind, types in _KINDS.items() if parts(old, types) != parts(new, types)}


def _functions(source: str) -> dict[str, str]:
    """The normal form of each function of a program; empty where it does not parse."""
    try:
        tree = parse(source)
    except SyntaxError:
        return {}
    return {node.name: normalise(ast.unparse(node)) for node in tree.body if isinstance(node, ast.FunctionDef)}


def _plain(source: str) -> str:
    """A program without layout and comments, for comparing line by line."""
    try:
        return ast.unparse(parse(source))
    except SyntaxError:
        return source
