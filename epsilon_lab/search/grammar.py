"""Expressions out of nothing: a small grammar over the names a program has in scope.

Two kinds are told apart, numbers and sequences of numbers, because without them nearly all that is grown raises. The
kinds are guesses, from annotations and from what a name is assigned; a wrong guess costs one candidate. The rules are
written as Python with holes, so that the grammar is what one reads; filling a hole with an expression that is there
already is how an expression is wrapped.
"""

from __future__ import annotations

import ast
import builtins
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from epsilon_lab.search.program import defines

Kind = Literal["NUMBER", "SEQUENCE", "TEST"]

TRIES = 5
"""How often an expression is grown anew because it names nothing and so can only be a constant."""

_LEAVES: dict[Kind, tuple[str, ...]] = {
    "NUMBER": ("CONSTANT", "NAME", "NAME", "NAMES[INDEX]", "NAMES[INDEX]", "sum(NAMES)"),
    "SEQUENCE": ("NAMES",),
    "TEST": ("NUMBER < NUMBER", "NUMBER == COUNT"),
}
_RULES: dict[Kind, tuple[str, ...]] = {
    "NUMBER": (
        "NUMBER + NUMBER",
        "NUMBER - NUMBER",
        "NUMBER * NUMBER",
        "NUMBER * NUMBER",
        "NUMBER % DIVISOR",
        "NUMBER % DIVISOR",
        "NUMBER / DIVISOR",
        "NUMBER // DIVISOR",
        "NUMBER ** 2",
        "-NUMBER",
        "abs(NUMBER)",
        "min(NUMBER, NUMBER)",
        "max(NUMBER, NUMBER)",
        "NUMBER if TEST else NUMBER",
        "NUMBER if TEST else NUMBER",
        "len(SEQUENCE)",
        "max(SEQUENCE)",
        "min(SEQUENCE)",
        "len(set(SEQUENCE))",
        "SEQUENCE.count(COUNT)",
        "sum((INSIDE for ITEM in SEQUENCE))",
        "sum((INSIDE for ITEM, OTHER in enumerate(SEQUENCE)))",
        "sum((INSIDE for ITEM, OTHER in zip(SEQUENCE, SEQUENCE[1:])))",
        "sum((INSIDE for ITEM, OTHER in zip(SEQUENCE, SEQUENCE)))",
    ),
    "SEQUENCE": (
        "SEQUENCE[COUNT:]",
        "SEQUENCE[:COUNT]",
        "SEQUENCE[::-1]",
        "SEQUENCE[::2]",
        "sorted(SEQUENCE)",
        "[INSIDE for ITEM in SEQUENCE]",
    ),
    "TEST": (
        "NUMBER < NUMBER",
        "NUMBER <= NUMBER",
        "NUMBER == NUMBER",
        "NUMBER == COUNT",
        "NUMBER != NUMBER",
        "NUMBER in SEQUENCE",
        "TEST and TEST",
        "TEST or TEST",
        "not TEST",
    ),
}
_HOLE = re.compile(r"\b(NUMBER|SEQUENCE|TEST|INSIDE|ITEM|OTHER|CONSTANT|DIVISOR|INDEX|COUNT|NAMES|NAME)\b")
_CONSTANTS = ("0", "1", "2", "3", "-1", "0.5")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_NUMBER_CALLS = {"len", "sum", "abs", "min", "max", "int", "float", "round", "pow"}
_SEQUENCE_CALLS = {"list", "tuple", "sorted", "range"}
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True)
class Scope:
    """What may be named at a place in a program, and what kind it probably is."""

    visible: frozenset[str]
    kinds: Mapping[str, Kind]
    constants: tuple[str, ...]
    """Numbers the program has already, as text."""

    def inside(self, bound: Iterable[str], kinds: Mapping[str, Kind] | None = None) -> Scope:
        """The scope within a comprehension that binds further names."""
        return replace(self, visible=self.visible | frozenset(bound), kinds={**self.kinds, **(kinds or {})})

    def names(self, kind: Kind) -> list[str]:
        """The visible names of a kind, in a fixed order."""
        return sorted(name for name, its in self.kinds.items() if its == kind and name in self.visible)

    def admits(self, node: ast.AST) -> bool:
        """Tell whether all that a piece of program names is there (what it binds itself is)."""
        names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
        own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        own.update(inner.arg for inner in ast.walk(node) if isinstance(inner, ast.arg))
        return {name.id for name in names} - own <= self.visible

    def kind_of(self, node: ast.AST | None) -> Kind | None:
        """Guess what kind an expression is; None where it is neither."""
        match node:
            case ast.Constant(value=bool()) | ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return "TEST"
            case ast.Constant(value=int() | float()) | ast.UnaryOp():
                return "NUMBER"
            case ast.Name(id=name):
                return self.kinds.get(name)
            case ast.BinOp(left=left, right=right):
                return self.kind_of(left) or self.kind_of(right)
            case ast.IfExp(body=body):
                return self.kind_of(body)
            case ast.Call(func=ast.Name(id=name)):
                return "NUMBER" if name in _NUMBER_CALLS else "SEQUENCE" if name in _SEQUENCE_CALLS else None
            case ast.Call(func=ast.Attribute(attr="count" | "index")):
                return "NUMBER"
            case ast.List() | ast.Tuple() | ast.ListComp():
                return "SEQUENCE"
            case ast.Subscript(value=value, slice=index) if self.kind_of(value) == "SEQUENCE":
                return "SEQUENCE" if isinstance(index, ast.Slice) else "NUMBER"
        return None


def scope_of(tree: ast.Module, statement: ast.stmt) -> Scope:
    """The scope within one of a module's statements: a function, mostly."""
    visible = set(_BUILTINS) | {name for outer in tree.body for name in defines(outer)}
    hidden = {
        name.id
        for node in ast.walk(statement)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }
    kinds: dict[str, Kind] = {}
    scope = Scope(frozenset(), kinds, ())
    constants = []
    nodes = list(ast.walk(statement))
    for node in nodes + nodes:  # a walk comes to a loop before it comes to the parameter that is looped over
        match node:
            case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
                visible.update(defines(node))
            case ast.arg(arg=name, annotation=annotation):
                visible.add(name)
                _learn(kinds, name, _annotated(annotation))
            case ast.Name(id=name, ctx=ast.Store()) if name not in hidden:
                visible.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                _learn(kinds, name, scope.kind_of(value))
            case ast.AugAssign(target=ast.Name(id=name)):
                _learn(kinds, name, "NUMBER")
            case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
                if _yields_numbers(scope, source):
                    for name in (inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)):
                        _learn(kinds, name, "NUMBER")
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                constants.append(repr(value))
    return Scope(frozenset(visible), kinds, tuple(dict.fromkeys(constants)))


def grow(kind: Kind, scope: Scope, dice: random.Random, *, depth: int, around: ast.expr | None = None) -> ast.expr:
    """Grow an expression of a kind, at most `depth` rules deep.

    Args:
        kind: What it is to be.
        scope: What it may name.
        dice: Chooses the rules.
        depth: 0 grows a leaf: a constant, a name, an item.
        around: An expression of that kind, which the new one is to contain.
    """
    inside = None if around is None else ast.unparse(around)
    for _ in range(TRIES):
        text = _grow(kind, scope, dice, depth, inside)
        if set(re.findall(r"\w+", text)) & scope.kinds.keys():
            break
    return ast.parse(text, mode="eval").body


def _grow(kind: Kind, scope: Scope, dice: random.Random, depth: int, around: str | None) -> str:
    numbers, sequences = scope.names("NUMBER"), scope.names("SEQUENCE")
    rules = _RULES[kind] if around is not None or (depth > 0 and dice.random() < 0.8) else _LEAVES[kind]
    usable = [
        rule
        for rule in rules
        if (numbers or "NAME" not in _HOLE.findall(rule))
        and (sequences or not {"NAMES", "SEQUENCE"} & set(_HOLE.findall(rule)))
        and (around is None or kind in _HOLE.findall(rule))
    ]
    rule = dice.choice(usable) if usable else "CONSTANT" if kind != "SEQUENCE" else "()"
    bound: dict[str, str] = {}
    for hole in ("ITEM", "OTHER"):
        if hole in rule:
            free = (name for name in ("x", "y", "z", "u", "v", "w") if name not in scope.visible | set(bound.values()))
            bound[hole] = next(free, "_" + hole.lower())
    inner = scope.inside(bound.values(), dict.fromkeys(bound.values(), "NUMBER"))
    here = dice.randrange(_HOLE.findall(rule).count(kind)) if around is not None and usable else -1

    def fill(match: re.Match[str]) -> str:
        nonlocal here
        hole = match[0]
        if hole == kind and around is not None:
            here -= 1
            if here == -1:
                return f"({around})"
        match hole:
            case "NUMBER" | "TEST" | "SEQUENCE":
                return f"({_grow(hole, scope, dice, depth - 1, None)})"
            case "INSIDE":
                return f"({_grow('TEST' if dice.random() < 0.3 else 'NUMBER', inner, dice, depth - 1, None)})"
            case "ITEM" | "OTHER":
                return bound[hole]
            case "NAME":
                return dice.choice(numbers)
            case "NAMES":
                return dice.choice(sequences)
            case "INDEX":
                return dice.choice(("0", "1", "2", "-1", "-2"))
            case "COUNT":
                return dice.choice(("0", "1", "2", "3"))
            case "DIVISOR":
                return dice.choice(("2", "3", "4", "5", _whole(dice)))
        return f"({dice.choice((*_CONSTANTS, *scope.constants, *[_whole(dice)] * 6))})"

    return _HOLE.sub(fill, rule)


def _whole(dice: random.Random) -> str:
    """A whole number from 2 to 100, of any magnitude alike: what is compared with the data is seldom a 2 or a 3."""
    return str(round(10 ** dice.uniform(0.3, 2)))


def _learn(kinds: dict[str, Kind], name: str, kind: Kind | None) -> None:
    if kind is not None:
        kinds.setdefault(name, kind)


def _annotated(annotation: ast.expr | None) -> Kind | None:
    if annotation is None:
        return None
    match re.split(r"\W", ast.unparse(annotation).removeprefix("np."))[0].lower():
        case "int" | "float" | "bool":
            return "NUMBER"
        case "tuple" | "list" | "sequence" | "ndarray":
            return "SEQUENCE"
    return None


def _yields_numbers(scope: Scope, source: ast.expr) -> bool:
    match source:
        case ast.Call(func=ast.Name(id="enumerate" | "zip" | "reversed"), args=args):
            return all(scope.kind_of(arg) == "SEQUENCE" for arg in args)
    return scope.kind_of(source) == "SEQUENCE"
