"""A program's identity: two texts that differ in nothing that matters are one program, judged once.

Layout, comments, docstrings and the names of a function's own variables do not matter; everything else does, a
parameter's name too, for a caller may use it. What does not compile has no such form and is known by its raw text.
Renaming errs on the side of two programs: where a name might be seen from elsewhere, it stays.

Programs come from strangers: a text that is too long, too deep or not text at all is a text that does not compile,
never a crash.
"""

from __future__ import annotations

import ast
import difflib
import gc
import hashlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

SOURCE_LIMIT = 1_000_000
"""Characters: a longer text is not taken for a program."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_REFUSALS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_SEES_NAMES = {"locals", "vars", "eval", "exec", "dir"}
_one_at_a_time = threading.Lock()  # warning filters belong to the process
_COLLECTION_S = 1.0
"""Seconds a collection is waited for: it may be this very thread's, whose finaliser wants a program parsed."""


def parses(source: str) -> str | None:
    """Tell why a text is not a program, in one line; None if it compiles."""
    if len(source) > SOURCE_LIMIT:
        return f"the program has {len(source)} characters, more than {SOURCE_LIMIT}"
    try:
        with _quietly():
            compile(source, "candidate.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
    except (RecursionError, MemoryError):
        return "the program is nested too deeply"
    except _REFUSALS as error:
        return str(error)
    return None


def parse(source: str) -> ast.Module:
    """The syntax tree of a text that compiles.

    Raises:
        SyntaxError: It does not; the message says why.
    """
    if (problem := parses(source)) is not None:
        raise SyntaxError(problem)
    try:
        with _quietly(), _no_collection():
            return ast.parse(source)
    except (RecursionError, MemoryError) as error:
        raise SyntaxError("the program is nested too deeply") from error


def normalise(source: str) -> str:
    """The text's normal form: a dump of its syntax tree, or the text itself where it does not compile."""
    try:
        tree = parse(source)
        if "__doc__" not in source:
            _drop_docstrings(tree)
        for function in _outermost_functions(tree):
            _rename_locals(function)
        return ast.dump(tree)
    except _REFUSALS:
        return source


@lru_cache(maxsize=64)
def code_hash(source: str) -> str:
    """SHA-256, in hex, of the normal form."""
    return hashlib.sha256(normalise(source).encode("utf-8", "surrogatepass")).hexdigest()


def diff(before: str, after: str, *, before_name: str = "before", after_name: str = "after") -> str:
    """A unified diff of two texts; empty if they are equal line by line."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm="")
    return "\n".join(lines)


def is_docstring(statement: ast.stmt) -> bool:
    """Tell whether a statement is a bare string."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


@contextmanager
def _quietly() -> Iterator[None]:
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep garbage collections away while a syntax tree is built; within `_quietly`, so that one thread at a time does.

    CPython 3.11 counts a tree's depth in one place for all threads. A collection in the middle of building one may run
    Python code, and so another thread; if that one builds a tree too, whoever was in the middle ends with a
    SystemError, "AST constructor recursion depth mismatch", for an innocent text. So ours is built in one go, and not
    while someone else's collection runs, which may be in the middle of theirs: a user's cell, say.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        deadline = time.monotonic() + _COLLECTION_S
        while _collecting() and time.monotonic() < deadline:
            time.sleep(0.001)
        yield
    finally:
        if collects:
            gc.enable()


def _collecting() -> bool:
    """Tell whether a collection runs: while one does, asking for another does nothing."""
    before = gc.get_stats()[0]["collections"]
    gc.collect(0)
    return bool(gc.get_stats()[0]["collections"] == before)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | _Function) and node.body and is_docstring(node.body[0]):
            del node.body[0]


def _outermost_functions(tree: ast.Module) -> Iterator[_Function]:
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        if isinstance(node, _Function):
            yield node
        else:
            waiting.extend(ast.iter_child_nodes(node))


def _rename_locals(function: _Function) -> None:
    """Number the variables that the function itself binds by plain assignment.

    Inside it, nested functions included, such a name means that variable or one of a nested function's own, so that
    one new name for all of them changes nothing. No new name can occur in a program, so none is captured.
    """
    nodes = [node for statement in function.body for node in ast.walk(statement)]  # defaults belong to the outside
    fixed = {node.arg for node in [*ast.walk(function.args), *nodes] if isinstance(node, ast.arg)}
    for node in nodes:
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.Name) and node.id in _SEES_NAMES):
            return
        if isinstance(node, ast.Global | ast.Nonlocal):
            fixed.update(node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            fixed.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar | _Function) and node.name:
            fixed.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            fixed.add(node.rest)
    bound: set[str] = set()
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        if not isinstance(node, _Function | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            waiting.extend(ast.iter_child_nodes(node))
    numbers: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in bound - fixed:
            node.id = numbers.setdefault(node.id, f"${len(numbers)}")
