"""A program's identity: what matters, what does not, and texts that are no programs."""

from __future__ import annotations

import ast
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.search.sources import SOURCE_LIMIT, code_hash, diff, normalise, parse, parses

PROGRAM = '''
def solve(values, n=2):
    """Add up."""
    total = 0
    for value in values:
        total += value * n
    return total
'''

NO_PROGRAMS = {
    "syntax": "def solve(:\n",
    "outside a function": "return 1",
    "NUL": "x = 1\0",
    "surrogate": "\ud800",
    "deep brackets": "(" * 100_000,
    "deep operators": "-" * 100_000 + "1",
    "deep attributes": "a" + ".a" * 200_000,
    "deep sums": "1" + "+1" * 200_000,
    "long number": "9" * 5_000,
    "too long": "x" * (SOURCE_LIMIT + 1),
}


@pytest.mark.parametrize(
    "same",
    [
        PROGRAM.replace("    total = 0", "    # start at nothing\n\n    total = 0  # so"),
        PROGRAM.replace('"""Add up."""\n    ', ""),
        PROGRAM.replace("total += value * n", "total += (value * n)"),
        PROGRAM.replace("total", "s").replace("value ", "v ").replace("for value", "for v"),
        PROGRAM.replace("\n", "\r\n"),
        '"""A module."""\n' + PROGRAM,
    ],
    ids=["comments", "docstring", "brackets", "local names", "line ends", "module docstring"],
)
def test_what_does_not_matter_does_not_change_the_hash(same):
    assert same != PROGRAM
    assert code_hash(same) == code_hash(PROGRAM)


@pytest.mark.parametrize(
    "other",
    [
        PROGRAM.replace("total = 0", "total = 1"),
        PROGRAM.replace("total = 0", "total = 0.0"),
        PROGRAM.replace("*", "+"),
        PROGRAM.replace("values", "items"),
        PROGRAM.replace("solve", "answer"),
        PROGRAM.replace("return total", "return value"),
    ],
    ids=["constant", "type of a constant", "operator", "parameter", "function", "another variable"],
)
def test_what_matters_changes_the_hash(other):
    assert code_hash(other) != code_hash(PROGRAM)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f():\n    x = 1\n    return g(x)", "def f():\n    y = 1\n    return g(x)"),
        ("def f(a=x):\n    x = 1", "def f(a=y):\n    y = 1"),
        ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1"),
        ("def f():\n    x = 1\n    return locals()", "def f():\n    y = 1\n    return locals()"),
        ("def f():\n    x = 1\n    return f'{x=}'", "def f():\n    y = 1\n    return f'{y=}'"),
        ("def f():\n    class C:\n        x = 1\n    return C", "def f():\n    class C:\n        y = 1\n    return C"),
        ("def f():\n    return [x for x in a] + [x]", "def f():\n    return [y for y in a] + [y]"),
        ("def f():\n    import x\n    return x", "def f():\n    import y\n    return y"),
        ("def f():\n    'x'\n    return f.__doc__", "def f():\n    'y'\n    return f.__doc__"),
    ],
)
def test_a_name_that_may_be_seen_from_elsewhere_stays(one, other):
    """Merging two different programs would judge only one of them."""
    assert code_hash(one) != code_hash(other)


@pytest.mark.parametrize("source", NO_PROGRAMS.values(), ids=NO_PROGRAMS)
def test_what_does_not_compile_is_said_in_one_line_and_known_by_its_text(source):
    problem = parses(source)
    assert problem
    assert "\n" not in problem
    assert normalise(source) == source
    assert code_hash(source) != code_hash(source + " ")
    with pytest.raises(SyntaxError):
        parse(source)


def test_a_program_that_python_warns_of_is_still_a_program():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parses("x = '\\d'; y = x is 1") is None
        assert code_hash("x = '\\d'") == code_hash("x  =  '\\\\d'")


@given(st.text())
def test_no_text_crashes(text):
    assert (parses(text) is None) or normalise(text) == text
    assert len(code_hash(text)) == 64


@given(
    st.recursive(
        st.sampled_from(["a", "b", "1", "2.5"]), lambda e: st.builds("({} {} {})".format, e, st.sampled_from("+-*<"), e)
    )
)
def test_layout_never_matters(expression):
    source = f"def f(a, b):\n    c = {expression}\n    return c\n"
    assert code_hash(ast.unparse(ast.parse(source))) == code_hash(source)


def test_a_diff_names_both_sides_and_is_empty_for_equals():
    assert diff("a\nb\n", "a\nb") == ""
    assert diff("a\nb", "a\nc", before_name="seed", after_name="g000-c001").splitlines() == [
        "--- seed",
        "+++ g000-c001",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]


# -- CPython 3.11 counts the depth of syntax trees in one place for all threads ----------------------------------------

LONG = "def f(x):\n" + "    return [x + 1, (2, (3, [4]))]\n" * 50


@contextmanager
def at_every_collection(action: Callable[[], None]) -> Iterator[None]:
    """Run Python code in this thread's frequent collections, as a finaliser may."""
    here, inside, before = threading.get_ident(), threading.Lock(), gc.get_threshold()

    def callback(phase: str, _: object) -> None:
        if phase == "start" and threading.get_ident() == here and inside.acquire(blocking=False):
            try:
                action()
            finally:
                inside.release()

    gc.callbacks.append(callback)
    gc.set_threshold(50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(callback)


def deeper(frames: int, action: Callable[[], object]) -> object:
    return deeper(frames - 1, action) if frames else action()


def test_a_tree_built_in_a_collection_does_not_fail_the_program_being_parsed():
    with at_every_collection(lambda: ast.parse("x = 1")):
        for _ in range(20):
            deeper(20, lambda: parse(LONG))
    assert gc.isenabled()


def test_a_program_parsed_by_another_thread_does_not_fail_who_is_in_the_middle_of_a_tree():
    """A cell of the user's, while the lab parses a model's program."""
    wanted, parsed, ended = threading.Semaphore(0), threading.Event(), threading.Event()

    def lab() -> None:
        while wanted.acquire() and not ended.is_set():
            parse("x = 1")
            parsed.set()

    def let_the_lab_parse() -> None:
        parsed.clear()
        wanted.release()
        parsed.wait(0.02)

    thread = threading.Thread(target=lab)
    thread.start()
    try:
        with at_every_collection(let_the_lab_parse):
            for _ in range(3):
                deeper(20, lambda: ast.parse(LONG))
    finally:
        ended.set()
        wanted.release()
        thread.join()
