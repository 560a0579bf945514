"""Functions travel: identity, capture, refusal, loading."""

from __future__ import annotations

import asyncio
import functools
import importlib
import linecache
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from epsilon_lab.agents import function as under_test
from epsilon_lab.agents.function import identity, is_async, load_function, pack_function, resolve
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import name_of
from epsilon_lab.workspace.layout import RunDirectory

OFFSET = 3


def define(source: str, **names: Any) -> Callable[..., Any]:
    """Define `f` as a cell does: compiled under a name of its own, readable through linecache."""
    source = textwrap.dedent(source)
    file = f"<cell {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(source, file, "exec"), scope)
    return scope["f"]  # type: ignore[no-any-return]


def sha(source: str, **names: Any) -> str:
    return pack_function(define(source, **names)).sha256


# -- identity ------------------------------------------------------------------------------------------------------


def test_layout_comments_and_docstrings_do_not_matter() -> None:
    one = sha("def f(x):\n    return x + 1\n")
    two = sha("\n\ndef f( x ):\n    '''Add one.'''\n    # as promised\n    return (x + 1)\n")
    assert one == two


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2"),
        ("def f(x, y=1): return x + y", "def f(x, y=2): return x + y"),
        ("def f(x, *, y=1): return x + y", "def f(x, *, y=2): return x + y"),
        ("k = 1\ndef f(x): return x + k", "k = 2\ndef f(x): return x + k"),
        ("def h(x): return x\ndef f(x): return h(x)", "def h(x): return -x\ndef f(x): return h(x)"),
        ("f = lambda x: x + 1", "f = lambda x: x + 2"),
        ("class C:\n  n = 1\ndef f(x): return C.n", "class C:\n  n = 2\ndef f(x): return C.n"),
        (
            "class C:\n  def m(s): return 1\ndef f(x): return C().m()",
            "class C:\n  def m(s): return 2\ndef f(x): return C().m()",
        ),
        (
            "def f(x):\n  def g():\n    return k\n  return g()\nk = 1",
            "def f(x):\n  def g():\n    return k\n  return g()\nk = 2",
        ),
    ],
)
def test_what_it_does_and_captures_matters(one: str, two: str) -> None:
    assert sha(one) == sha(one)
    assert sha(one) != sha(two)


def test_closure_values_matter() -> None:
    def make(by: object) -> Callable[[int], object]:
        return lambda x: (x, by)

    assert identity(make(1)) == identity(make(1))
    assert identity(make(1)) != identity(make(2))
    assert identity(make(1)) != identity(make(1.0))
    assert identity(make(1)) != identity(make(True))
    assert identity(make([1, 2])) != identity(make([2, 1]))
    assert identity(make({"a", "b", "c"})) == identity(make({"c", "b", "a"}))
    assert identity(make(SimpleNamespace(a=1))) == identity(make(SimpleNamespace(a=1)))
    assert identity(make(SimpleNamespace(a=1))) != identity(make(SimpleNamespace(a=2)))


def test_arrays_matter_by_content() -> None:
    import numpy as np

    assert identity(np.arange(4)) == identity(np.arange(4))
    assert identity(np.arange(4)) != identity(np.arange(4).reshape(2, 2))
    assert identity(np.arange(4)) != identity(np.arange(4.0))
    assert identity(np.float64(1)) != identity(np.float32(1))


def test_cycles_end() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    other: list[object] = [1]
    other.append(other)
    assert identity(loop) == identity(other)
    assert sha("def f(n): return f(n - 1) if n else 0") == sha("def f(n): return f(n - 1) if n else 0")


def test_two_lambdas_on_a_line_are_two() -> None:
    one, two = (lambda x: x + 1), (lambda x: x + 2)
    assert identity(one) != identity(two)


PROGRAM = """
import sys
from epsilon_lab.agents.function import pack_function
words = {"alpha", "beta", "gamma", "delta"}
def f(x):
    return x in words
print(pack_function(f).sha256)
"""


def test_identity_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Pickle bytes are not: the order of a set differs with the hash seed."""
    found = set()
    for seed in ("1", "2"):
        script = tmp_path / f"script{seed}.py"
        script.write_text(PROGRAM)
        done = subprocess.run(
            [sys.executable, script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


# -- travelling ----------------------------------------------------------------------------------------------------


def travel(function: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    packed = pack_function(function)
    RunDirectory(tmp_path).save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
    return load_function(RunDirectory(tmp_path), packed.sha256)


def test_a_function_arrives_with_what_it_captures(tmp_path: Path) -> None:
    by = 4
    loaded = travel(lambda x: x * by + OFFSET, tmp_path)
    assert loaded(2) == 11
    assert load_function(RunDirectory(tmp_path), pack_function(lambda x: x * by + OFFSET).sha256) is loaded


def test_the_users_own_modules_travel_and_stay_unregistered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_tools_of_today.py").write_text("FACTOR = 7\ndef scaled(x):\n    return x * FACTOR\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    tools = importlib.import_module("my_tools_of_today")
    packed = pack_function(tools.scaled)
    before = identity(tools.scaled)
    assert cloudpickle.list_registry_pickle_by_value() == set()
    tools.FACTOR = 8
    assert identity(tools.scaled) != before
    monkeypatch.delitem(sys.modules, "my_tools_of_today")
    (tmp_path / "my_tools_of_today.py").unlink()
    assert cloudpickle.loads(packed.blob)(6) == 42


def test_installed_modules_travel_by_name() -> None:
    assert b"textwrap" in pack_function(textwrap.dedent).blob
    assert len(pack_function(textwrap.dedent).blob) < 200


def test_the_text_of_a_cell_travels(tmp_path: Path) -> None:
    function = define("def f(x):\n    return 1 / x  # the line\n")
    packed = pack_function(function)
    RunDirectory(tmp_path).save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
    file = function.__code__.co_filename
    del linecache.cache[file]
    load_function(RunDirectory(tmp_path), packed.sha256)
    assert "# the line" in linecache.getline(file, 2)


# -- refusal -------------------------------------------------------------------------------------------------------


class Live:
    __epsilon_live__ = True


def test_a_live_object_is_refused_wherever_it_hides() -> None:
    lab = Live()
    for function in (lambda: lab, lambda x=[{"deep": lab}]: x, functools.partial(print, lab)):
        with pytest.raises(InvalidInput, match="a live Live, which cannot travel"):
            pack_function(function)
    with pytest.raises(InvalidInput, match="'lab'"):
        pack_function(lambda: lab)


def test_what_cannot_be_pickled_is_named() -> None:
    guard = threading.Lock()

    def deep(x: int) -> int:
        with guard:
            return x

    def work(x: int) -> int:
        return deep(x)

    with pytest.raises(InvalidInput, match=r"function work: its variable 'guard' of type lock \(by way of deep\)"):
        pack_function(work)


def test_a_large_captured_value_is_warned_of_by_name() -> None:
    ballast, feather = bytes(17 * 1024 * 1024), b"x"
    with pytest.warns(RuntimeWarning, match="captures 'ballast', 17 MiB") as seen:
        pack_function(lambda: (ballast, feather))
    assert len(seen) == 1


def test_a_small_captured_value_is_not(recwarn: pytest.WarningsRecorder) -> None:
    feather = bytes(1024)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_function(lambda: feather)


# -- what a task runs ----------------------------------------------------------------------------------------------


async def an_async_leaf(x: int) -> int:
    return x


class Caller:
    async def __call__(self, x: int) -> int:
        return x


def test_is_async() -> None:
    assert is_async(an_async_leaf)
    assert is_async(functools.partial(an_async_leaf, 1))
    assert is_async(Caller())
    assert not is_async(len)
    assert not is_async(asyncio.Lock)


def test_name_of() -> None:
    assert name_of(functools.partial(an_async_leaf, 1)) == "an_async_leaf"
    assert name_of(lambda: 0) == "<lambda>"
    assert name_of(Caller()) == "Caller"


def test_resolve(tmp_path: Path) -> None:
    packed = pack_function(an_async_leaf)
    RunDirectory(tmp_path).save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
    entry = resolve(f"code:{packed.sha256}", RunDirectory(tmp_path))
    assert (entry.is_async, entry.takes_leaf) == (True, False)
    entry = resolve("epsilon_lab.agents.function:identity", RunDirectory(tmp_path))
    assert entry.takes_leaf
    assert entry.call is under_test.identity


@pytest.mark.parametrize("name", ["os:system", "epsilon_labs:x", "epsilon_lab.agents.function:nothing", "nonsense", ""])
def test_resolve_refuses_what_is_not_ours(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        resolve(name, RunDirectory(tmp_path))


def test_resolve_of_missing_code_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be loaded"):
        resolve("code:0000", RunDirectory(tmp_path))


def test_resolve_does_not_leave_the_run_directory(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="leads outside"):
        resolve("code:../../x", RunDirectory(tmp_path))
