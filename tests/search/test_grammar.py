"""Grown expressions: they compile, name only what is there, and mostly run."""

from __future__ import annotations

import ast
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.search.grammar import grow, scope_of

SOURCE = """
import math
SIZE = 4

def f(vector: tuple[int, ...], n: int, thing):
    total = 0.5
    for item in vector:
        total += item
    from math import floor
    other = thing.go()
    pairs = [a - b for a, b in zip(vector, vector[1:])]
    return total
"""


@pytest.fixture(scope="module")
def scope():
    tree = ast.parse(SOURCE)
    return scope_of(tree, tree.body[-1])


def test_kinds_are_guessed_from_annotations_and_assignments(scope):
    assert scope.names("SEQUENCE") == ["pairs", "vector"]
    assert scope.names("NUMBER") == ["item", "n", "total"]
    assert {"math", "SIZE", "f", "thing", "other", "floor", "len"} <= scope.visible
    assert not {"a", "b"} & scope.visible
    assert scope.constants == ("0.5", "1")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1", "NUMBER"),
        ("-n", "NUMBER"),
        ("n + thing", "NUMBER"),
        ("vector[0]", "NUMBER"),
        ("vector[1:]", "SEQUENCE"),
        ("len(thing)", "NUMBER"),
        ("vector.count(1)", "NUMBER"),
        ("sorted(thing)", "SEQUENCE"),
        ("[x for x in thing]", "SEQUENCE"),
        ("n < 2", "TEST"),
        ("not n", "TEST"),
        ("True", "TEST"),
        ("thing", None),
        ("thing[0]", None),
        ("'text'", None),
        ("thing.go()", None),
    ],
)
def test_the_kind_of_an_expression(scope, text, kind):
    assert scope.kind_of(ast.parse(text, mode="eval").body) == kind


@given(st.sampled_from(["NUMBER", "SEQUENCE", "TEST"]), st.integers(0, 5), st.integers())
def test_what_is_grown_compiles_and_names_only_what_is_there(kind, depth, seed):
    tree = ast.parse(SOURCE)
    scope = scope_of(tree, tree.body[-1])
    node = grow(kind, scope, random.Random(seed), depth=depth)
    assert scope.admits(node)
    compile(ast.fix_missing_locations(ast.Expression(node)), "grown", "eval")


@given(st.sampled_from([("NUMBER", "n - 7"), ("SEQUENCE", "vector[2:]"), ("TEST", "n < 77")]), st.integers())
def test_what_is_grown_around_an_expression_contains_it(case, seed):
    kind, text = case
    tree = ast.parse(SOURCE)
    inner = ast.parse(text, mode="eval").body
    node = grow(kind, scope_of(tree, tree.body[-1]), random.Random(seed), depth=2, around=inner)
    assert ast.dump(node) != ast.dump(inner)
    assert ast.dump(inner) in {ast.dump(one) for one in ast.walk(node)}


def test_most_of_what_is_grown_runs(scope):
    names = {"vector": (0, 1, 2, 2), "n": 4, "item": 1, "total": 1.5, "pairs": [1, 1, 0], "math": None}
    ran = 0
    for seed in range(300):
        node = grow("NUMBER", scope, random.Random(seed), depth=3)
        try:
            value = eval(compile(ast.fix_missing_locations(ast.Expression(node)), "grown", "eval"), dict(names))
        except (ArithmeticError, IndexError, TypeError, ValueError):
            continue
        ran += isinstance(value, int | float)
    assert ran > 240


def test_an_empty_scope_grows_constants():
    tree = ast.parse("def f():\n    return None\n")
    scope = scope_of(tree, tree.body[0])
    for kind in ("NUMBER", "SEQUENCE", "TEST"):
        for seed in range(30):
            assert scope.admits(grow(kind, scope, random.Random(seed), depth=2))


def test_a_bound_name_is_not_one_that_is_taken():
    tree = ast.parse("def f(x: int, y: int, z: int, u: int, v: int, w: int, values: list[int]):\n    return 0\n")
    scope = scope_of(tree, tree.body[0])
    for seed in range(200):
        node = grow("NUMBER", scope, random.Random(seed), depth=3)
        stored = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        assert not stored & {"x", "y", "z", "u", "v", "w"}


def test_numbers_of_any_magnitude_are_grown(scope):
    """A rule that compares with the data needs a 5 as well as a 50: all magnitudes up to 100 come alike."""
    texts = [ast.unparse(grow("NUMBER", scope, random.Random(seed), depth=2)) for seed in range(600)]
    found = [node.value for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    whole = [value for value in found if type(value) is int]
    assert max(whole) <= 100
    for low, high in ((4, 10), (10, 30), (30, 101)):
        assert sum(low <= value < high for value in whole) > len(whole) / 50
