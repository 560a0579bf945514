"""The offline proposer: a real search operator that needs no model, and the control that a model has to beat.

It varies syntax trees. Constants are nudged, operators exchanged, expressions replaced by others of the program or of a
grammar over what is in scope, or wrapped by it; statements are deleted, doubled, moved and exchanged; two parents are
crossed by functions, statements or expressions; and a problem's own alternatives are put in whole. It knows nothing of
any problem, and nothing but the context's dice decides, so that a seed gives the same search anywhere.

Only code that the entry function can reach is varied: a change elsewhere would be a new text and the same program.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from epsilon_lab.errors import InvalidInput, ProposalFailed
from epsilon_lab.search.context import Context
from epsilon_lab.search.grammar import Scope, grow, scope_of
from epsilon_lab.search.program import Program, Site, blocks, copied, defines, sites, start_of
from epsilon_lab.search.sources import code_hash, parse, parses

TRIES = 40
"""How often a proposal is made anew because it is a program that is known, or none."""

GROWTH_LIMIT = 600
"""Nodes a program may have beyond three times the seed program's: bloat is not progress."""

HALF_ASSEMBLED = 360
"""Of how many programs that a problem's alternatives make half of the proposals are made of alternatives alone: where
there are more it is a larger share, and few are soon all known."""

EXCHANGED = 0.2
"""Share of alternatives among the other proposals' edits."""

_TOO_DEEP = 3
"""How often a program may be too deep to be varied before it is given up."""

_FAMILIES: tuple[tuple[type[ast.AST], ...], ...] = (
    (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq),
    (ast.And, ast.Or),
    (ast.BitAnd, ast.BitOr, ast.BitXor),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
)


@dataclass(frozen=True)
class Variation:
    """A proposer: `variation(context) -> source`.

    `fresh` is one to three edits of the seed program, `diverse` as many of the parent, `offspring` a crossing of two
    parents and up to two edits.

    Args:
        alternatives: Name of a function of the seed program -> other bodies for it, each a complete `def`.
        entry: The function of the program that is called.

    Raises:
        InvalidInput: An alternative is not one `def` of its function's name.
    """

    alternatives: Mapping[str, Sequence[str]] = field(default_factory=dict)
    entry: str = "solve"

    def __post_init__(self) -> None:
        for name, bodies in self.alternatives.items():
            for body in bodies:
                if (problem := parses(body)) is None:
                    match parse(body).body:
                        case [ast.FunctionDef(name=defined)] if defined == name:
                            continue
                    problem = f"it must be one `def {name}` and nothing else"
                raise InvalidInput(f"alternative of {name!r}", problem)

    def __call__(self, context: Context) -> str:
        """Make a program that is not the seed program, a parent, or one of the best.

        Returns:
            Its source, which always compiles. Where no new program was found in `TRIES` attempts, a known one.

        Raises:
            ProposalFailed: A program of the context does not compile, or is nested too deeply.
        """
        seed, parents = context.problem.source, [parent.source for parent in context.parents[:2]]
        shown = {seed, context.best.source, *parents, *(one.source for one in context.top)}
        known = {code_hash(source) for source in shown}
        try:
            limit = GROWTH_LIMIT + 3 * len(_parsed(seed))
            base, *others = [_parsed(source) for source in parents or [seed]]
        except (SyntaxError, RecursionError) as error:
            raise ProposalFailed(f"a program to vary does not compile: {error}") from error
        bodies = {name: [_parsed(body) for body in bodies] for name, bodies in self.alternatives.items()}
        material = [*others, *(body for some in bodies.values() for body in some)]
        proposal, too_deep = (parents or [seed])[0], 0
        for _ in range(TRIES):
            try:
                program = base.copy()
                self._vary(program, others, bodies, context.dice)
                source = program.text(material)
            except RecursionError:  # what compiles may still be too deep to vary
                if (too_deep := too_deep + 1) == _TOO_DEEP:
                    break
                continue
            except ValueError:  # or a number in it too long
                continue
            if len(program) <= limit and parses(source) is None:
                proposal = source
                if code_hash(source) not in known:
                    break
        return proposal

    def _vary(
        self, program: Program, others: Sequence[Program], bodies: Mapping[str, Sequence[Program]], dice: random.Random
    ) -> None:
        edits = dice.randint(1, 3)
        if others:
            _cross(program, others[0], dice)
            edits -= 1
        made = math.prod(1 + len(some) for some in bodies.values())
        share = 1.0 if dice.random() < made / (made + HALF_ASSEMBLED) else EXCHANGED
        for _ in range(edits):
            if bodies and dice.random() < share:
                _exchange(program, self.entry, bodies, dice)
            else:
                _edit(program, self.entry, dice)


@lru_cache(maxsize=256)
def _parsed(source: str) -> Program:
    """A program of the context, or an alternative, parsed once in a process; what is varied or put in is a copy."""
    return Program(source)


def _exchange(program: Program, entry: str, bodies: Mapping[str, Sequence[Program]], dice: random.Random) -> None:
    """Put in another of the problem's own bodies for a function."""
    usable = [one for one in program.reachable(entry) if isinstance(one, ast.FunctionDef) and bodies.get(one.name)]
    if usable:
        old = dice.choice(usable)
        _put(program, old, dice.choice(bodies[old.name]).tree.body[0])


def _cross(program: Program, donor: Program, dice: random.Random) -> None:
    """Take a part of the donor: some functions as they are, or a statement or an expression of one."""
    theirs = {name: one for one in donor.tree.body for name in defines(one)}
    pairs = [
        (ours, theirs[name])
        for ours in program.tree.body
        for name in defines(ours)[:1]
        if name in theirs and ast.dump(theirs[name]) != ast.dump(ours)
    ]
    if len(pairs) > 1 and dice.random() < 0.8:
        for ours, other in dice.sample(pairs, dice.randint(1, len(pairs) - 1)):
            _put(program, ours, other)
    elif pairs:
        ours, other = dice.choice(pairs)
        place = _Place(ours, scope_of(program.tree, ours))
        if dice.random() > 0.4 or not _graft(place, other, dice):
            _transplant(place, other, dice)


def _put(program: Program, old: ast.stmt, new: ast.stmt) -> None:
    body = program.tree.body
    body[next(index for index, one in enumerate(body) if one is old)] = copied(new)


class _Place(NamedTuple):
    """A statement of a module, a function mostly, and what may be named in it."""

    statement: ast.stmt
    scope: Scope


def _edit(program: Program, entry: str, dice: random.Random) -> None:
    """Change one thing in a reachable statement; larger ones are changed more often."""
    statements = [one for one in program.reachable(entry) if not isinstance(one, ast.Import | ast.ImportFrom)]
    if not statements:
        return
    statement = dice.choices(statements, [1 + sum(1 for _ in sites(one)) for one in statements])[0]
    place = _Place(statement, scope_of(program.tree, statement))
    edits = dict(_EDITS)
    while edits:
        edit = dice.choices(list(edits), list(edits.values()))[0]
        if edit(place, dice):
            return
        del edits[edit]


def _constant(place: _Place, dice: random.Random) -> bool:
    """Nudge a number, or put another."""
    numbers = [
        (site, site.node.value)
        for site in sites(place.statement)
        if isinstance(site.node, ast.Constant) and isinstance(site.node.value, int | float)
    ]
    if not numbers:
        return False
    site, value = dice.choice(numbers)
    new: Any
    if isinstance(value, bool):
        new = not value
    elif isinstance(value, int):
        far = value + (round(value * dice.gauss(0, 0.3)) or 1)
        new = dice.choice((value + 1, value - 1, far, far, -value, value * 2, value // 2, dice.randrange(-9, 10)))
    else:
        scaled, drawn = round(value * dice.gauss(1, 0.3), 6), round(dice.gauss(0, 1), 3)
        new = dice.choice((-value, value * 2, value / 2, scaled, drawn))
    site.put(ast.parse(repr(new), mode="eval").body)
    return bool(new != value)


def _operator(place: _Place, dice: random.Random) -> bool:
    """Exchange an operator for another of its family."""
    found = [
        (node, name, index, family)
        for node in ast.walk(place.statement)
        for name in ("op", "ops")
        for index, operator in enumerate(_listed(getattr(node, name, None)))
        for family in _FAMILIES
        if isinstance(operator, family)
    ]
    if not found:
        return False
    node, name, index, family = dice.choice(found)
    operators = _listed(getattr(node, name))
    operators[index] = dice.choice([other for other in family if not isinstance(operators[index], other)])()
    setattr(node, name, operators if name == "ops" else operators[0])
    return True


def _replace(place: _Place, dice: random.Random) -> bool:
    """Put an expression from the grammar, or another of the same function, where one is."""
    site = _choose_site(place.statement, dice)
    if site is None:
        return False
    scope = place.scope.inside(site.bound)
    kind = scope.kind_of(site.node)
    if kind is None or dice.random() < 0.4:
        return _transplant(place, place.statement, dice)
    site.put(grow(kind, scope, dice, depth=dice.randint(2, 4)))
    return True


def _wrap(place: _Place, dice: random.Random) -> bool:
    """Make an expression that is more than a literal part of a larger one."""
    whole = [site for site in sites(place.statement) if not isinstance(site.node, ast.Constant)]
    scopes = [(site, place.scope.inside(site.bound)) for site in whole]
    found = [(site, scope, kind) for site, scope in scopes if (kind := scope.kind_of(site.node)) is not None]
    if not found:
        return False
    site, scope, kind = dice.choice(found)
    site.put(grow(kind, scope, dice, depth=dice.randint(1, 2), around=site.node))
    return True


def _rearrange(place: _Place, dice: random.Random) -> bool:
    """Delete, double, move or exchange a statement."""
    usable = [block for block in blocks(place.statement) if len(block) > start_of(block)]
    if sum(len(block) - start_of(block) for block in usable) < 2:
        return False
    block = dice.choice(usable)
    index, other = (dice.randrange(start_of(block), len(block)) for _ in range(2))
    match dice.choice(("delete", "delete", "double", "move", "exchange")):
        case "delete":
            del block[index]
        case "double":
            block.insert(index, copied(block[index]))
        case "move":
            moved = block.pop(index)
            target = dice.choice([one for one in blocks(place.statement) if one] or [block])
            target.insert(dice.randint(start_of(target), len(target)), moved)
        case "exchange":
            block[index], block[other] = block[other], block[index]
    if not block:
        block.append(ast.Pass())
    return True


def _graft(place: _Place, donor: ast.stmt, dice: random.Random) -> bool:
    """Put a donor's statement before, or in place of, one that is there."""
    usable = [block for block in blocks(place.statement) if len(block) > start_of(block)]
    given = [one for block in blocks(donor) for one in block[start_of(block) :] if place.scope.admits(one)]
    if not usable or not given:
        return False
    block = dice.choice(usable)
    index = dice.randrange(start_of(block), len(block))
    block[index : index + dice.randint(0, 1)] = [copied(dice.choice(given))]
    return True


def _transplant(place: _Place, donor: ast.stmt, dice: random.Random) -> bool:
    """Put a donor's expression where one of its kind is and all it names is there."""
    site = _choose_site(place.statement, dice)
    if site is None:
        return False
    scope = place.scope.inside(site.bound)
    kind, old = scope.kind_of(site.node), ast.dump(site.node)
    nodes = [other.node for other in sites(donor)]
    fitting = [one for one in nodes if scope.kind_of(one) == kind and scope.admits(one) and ast.dump(one) != old]
    if fitting:
        site.put(copied(dice.choice(fitting)))
    return bool(fitting)


def _choose_site(statement: ast.stmt, dice: random.Random) -> Site | None:
    found = list(sites(statement))
    return dice.choice(found) if found else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


_EDITS: dict[Callable[[_Place, random.Random], bool], int] = {
    _constant: 3,
    _operator: 2,
    _replace: 5,
    _wrap: 3,
    _rearrange: 3,
}
"""An edit, which tells whether it found something to change -> how often it is tried, relative to the others."""
