"""Functions that travel: packed once by what they are, loaded once by each worker.

A function defined in a cell has no module that a worker could import, so it travels as a cloudpickle in the run
directory; so do the user's own modules, everything that is neither installed nor ours, because a run directory must
answer elsewhere too. Its name is its identity: the SHA-256 of the normalised source and of all it captures. Pickle
bytes would not do, they differ for equal sets and objects; neither would file names, a cell has another each time.

Where there is no source to read (`exec`, a lambda, which shares its line) the compiled code stands in for it.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import importlib
import inspect
import io
import linecache
import os
import pickle
import re
import sys
import sysconfig
import textwrap
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import name_of
from epsilon_lab.workspace.layout import RunDirectory

CAPTURE_LIMIT = 16 * 1024 * 1024
"""Bytes: a captured value that is larger is warned of."""

_HOUSE = "epsilon_lab"
_DUMPING = threading.Lock()  # which modules travel by value is cloudpickle's global state
_MEMBERS_OF_NO_INTEREST = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"})


class PackedFunction(NamedTuple):
    """A function, ready to be written as `code/<sha256>.pkl`."""

    sha256: str
    """What it is: equal for equal source and equal captured values."""

    blob: bytes
    name: str
    """For people."""


class Entry(NamedTuple):
    """What a task runs."""

    call: Callable[..., Any]
    is_async: bool
    takes_leaf: bool
    """Called with (payload, leaf), as our own leaves are; a user's function of one item is called with the item."""


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling it gives a coroutine."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - the method, not whether there is one
    )


# -- packing ---------------------------------------------------------------------------------------------------------


def pack_function(function: Callable[..., Any]) -> PackedFunction:
    """Pack a function with all it captures; the copies are made now.

    Raises:
        InvalidInput: It cannot be pickled, or it captures a live Lab or Run.

    Warns:
        RuntimeWarning: A captured value is above `CAPTURE_LIMIT`.
    """
    name = name_of(function)
    try:
        # A second pickle follows the first: the text that tracebacks will need. `pickle.loads` stops before it.
        blob = _dumps(function) + pickle.dumps(_sources(function))
    except _LiveObject as error:
        raise InvalidInput(
            f"function {name}",
            f"captures {_culprit(function) or 'a value'}, a live {error.kind}, which cannot travel to a worker",
            "take what you need from it before, and let the function capture that",
        ) from None
    except Exception as error:
        culprit = _culprit(function)
        what = f"{culprit} cannot be pickled" if culprit else "it cannot be pickled"
        raise InvalidInput(
            f"function {name}", f"{what} ({error})", "make what it captures inside the function, or pass plain data"
        ) from error
    if len(blob) > CAPTURE_LIMIT:
        for variable, value in _captured(function):
            size = len(_dumps(value))
            if size > CAPTURE_LIMIT:
                warnings.warn(
                    f"function {name} captures {variable!r}, {size / 2**20:.0f} MiB, and each worker gets a copy; "
                    f"write it to a file and let the function read it",
                    RuntimeWarning,
                    stacklevel=2,
                )
    return PackedFunction(identity(function), blob, name)


class _LiveObject(LabError):
    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    def reducer_override(self, obj: Any) -> Any:
        if getattr(type(obj), "__epsilon_live__", False):
            raise _LiveObject(type(obj).__name__)
        return super().reducer_override(obj)


def _dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    with _DUMPING, _own_modules_by_value():
        _Pickler(buffer).dump(value)
    return buffer.getvalue()


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    registered = []
    before = cloudpickle.list_registry_pickle_by_value()
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType) and module.__name__ not in before and _travels(module):
            with suppress(ValueError):  # it goes by another name in sys.modules
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    roots = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(os.path.realpath(root) + os.sep for root in roots)


def _travels(module: types.ModuleType) -> bool:
    """Tell whether a module is the user's own: Python source that is neither installed nor ours."""
    root = module.__name__.partition(".")[0]
    file = getattr(module, "__file__", None)
    if root in (_HOUSE, "__main__") or root in sys.stdlib_module_names or not file or not file.endswith(".py"):
        return False
    return not (re.search(r"[/\\](site|dist)-packages[/\\]", file) or os.path.realpath(file).startswith(_installed()))


def _by_value(name: str | None) -> bool:
    """Tell whether what a module of this name defines travels by value."""
    module = sys.modules.get(name or "")
    return module is None or name == "__main__" or _travels(module)


def _captured(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function takes along, by the name a user knows it by."""
    if isinstance(function, functools.partial):
        yield from _arguments(function)
        function = function.func
    if inspect.ismethod(function):
        yield "self", function.__self__
        function = function.__func__
    if not isinstance(function, types.FunctionType):
        yield from vars(function).items() if hasattr(function, "__dict__") else ()
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell
            yield name, cell.cell_contents
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(parameters[len(parameters) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _arguments(partial: functools.partial[Any]) -> Iterator[tuple[str, Any]]:
    """The arguments a partial holds, by place or name."""
    yield from ((f"argument {place}", value) for place, value in enumerate(partial.args))
    yield from partial.keywords.items()


def _culprit(function: Any, depth: int = 3) -> str:
    """Find the captured variable that cannot be pickled; empty if there is none."""
    for name, value in _captured(function):
        try:
            _dumps(value)
        except Exception:  # noqa: BLE001 - whatever a stranger's __reduce__ raises
            deeper = _culprit(value, depth - 1) if depth and isinstance(value, types.FunctionType) else ""
            return f"{deeper} (by way of {name})" if deeper else f"its variable {name!r} of type {type(value).__name__}"
    return ""


def _global_names(code: types.CodeType) -> list[str]:
    """Names that the code, and code nested in it, looks up globally; sorted."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_global_names(constant))
    return sorted(names)


def _sources(function: Any) -> dict[str, str]:
    """The text of cells, which are files on no disk, so that a worker's traceback can show the line."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    todo = [function]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        value = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
        if isinstance(value, types.FunctionType) and _by_value(value.__module__):
            file = value.__code__.co_filename
            if file not in found and not Path(file).exists() and (lines := linecache.getlines(file)):
                found[file] = "".join(lines)
            todo += [captured for _, captured in _captured(value)]
    return found


# -- identity --------------------------------------------------------------------------------------------------------


def identity(value: Any) -> str:
    """The SHA-256 of what a function, or any value it may capture, is."""
    return _Identity().of(value).hex()


class _Identity:
    """One walk over a value. Nothing here is told by `id`, `repr` of an address, order of a set, or place of a file."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes]] = {}  # the value is kept, so that its id is not given away

    def of(self, value: Any) -> bytes:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(...)):
            return self._digest(type(value).__qualname__, repr(value).encode("utf-8", "surrogatepass"))
        if id(value) in self._known:
            return self._known[id(value)][1]
        self._known[id(value)] = (value, self._digest("cycle", str(len(self._known)).encode()))
        found = self._digest(type(value).__qualname__, *self._parts(value))
        self._known[id(value)] = (value, found)
        return found

    @staticmethod
    def _digest(kind: str, *parts: bytes) -> bytes:
        digest = hashlib.sha256(kind.encode())
        for part in parts:
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.digest()

    def _parts(self, value: Any) -> Iterator[bytes]:
        match value:
            case list() | tuple():
                yield from map(self.of, value)
            case set() | frozenset():
                yield from sorted(map(self.of, value))
            case dict():
                yield from (self.of(part) for item in value.items() for part in item)
            case bytearray() | memoryview():
                yield bytes(value)
            case types.CodeType():
                yield from self._code(value)
            case types.FunctionType() if _by_value(value.__module__):
                yield _source(value) or self.of(value.__code__)
                for name, captured in _captured(value):
                    yield name.encode()
                    yield self.of(captured)
            case type() if _by_value(value.__module__):
                yield from map(self.of, value.__bases__)
                for name, member in sorted(vars(value).items()):
                    if name not in _MEMBERS_OF_NO_INTEREST:
                        yield name.encode()
                        yield self.of(member)
            case types.FunctionType() | type():
                yield f"{value.__module__}:{value.__qualname__}".encode()
            case types.ModuleType():
                yield value.__name__.encode()
                if _travels(value):
                    with suppress(OSError, SyntaxError, TypeError):
                        yield _normalised(inspect.getsource(value))
            case staticmethod() | classmethod():
                yield self.of(value.__func__)
            case property():
                yield from map(self.of, (value.fget, value.fset, value.fdel))
            case types.MethodType():
                yield self.of(value.__func__)
                yield self.of(value.__self__)
            case _ if type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
                yield f"{value.dtype.str} {value.shape}".encode()
                yield self.of(value.tolist()) if value.dtype.hasobject else value.tobytes()
            case _:
                yield from self._reduced(value)

    def _code(self, code: types.CodeType) -> Iterator[bytes]:
        yield code.co_code
        yield from (str(names).encode() for names in (code.co_names, code.co_varnames, code.co_freevars))
        yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags}".encode()
        has_docstring = code.co_flags & inspect.CO_NEWLOCALS and not code.co_name.startswith("<")
        yield from map(self.of, code.co_consts[1:] if has_docstring else code.co_consts)

    def _reduced(self, value: Any) -> Iterator[bytes]:
        """Any other object: what it would be rebuilt from."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - whatever a stranger's __reduce__ raises; packing it says so
            reduced = f"{type(value).__module__}:{type(value).__qualname__}"
        if isinstance(reduced, str):  # a global's name
            yield f"{getattr(value, '__module__', '')}:{reduced}".encode()
            return
        yield from (self.of(list(part) if isinstance(part, Iterator) else part) for part in reduced)


def _source(function: types.FunctionType) -> bytes:
    """A function's source, normalised; empty where it has none of its own.

    The names of the compiled code go with it: a file that was edited since it was imported shows another text.
    """
    if function.__code__.co_name == "<lambda>":
        return b""
    try:
        text = _normalised(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return b""
    code = function.__code__
    return text + repr((code.co_name, code.co_varnames, code.co_names, code.co_freevars)).encode()


def _normalised(source: str) -> bytes:
    """Source without comments, layout, positions and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree).encode("utf-8", "surrogatepass")


# -- loading ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def load_function(run: RunDirectory, sha256: str) -> Callable[..., Any]:
    """Load a function that was packed into a run directory; unpickles once a process.

    Raises:
        LabError: The run directory has no such function, or it cannot be unpickled here.
    """
    try:
        stream = io.BytesIO(run.read_bytes(f"code/{sha256}.pkl"))
        function: Callable[..., Any] = pickle.load(stream)
        for file, text in pickle.load(stream).items():
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    except Exception as error:
        raise LabError(
            f"function code/{sha256}.pkl of run {run.run_id} cannot be loaded "
            f"({type(error).__name__}: {error}); is a package missing that the kernel has?"
        ) from error
    return function


@functools.lru_cache(maxsize=256)
def resolve(entry: str, run: RunDirectory) -> Entry:
    """Find what a task runs.

    Args:
        entry: `module:function` of epsilon_lab, or `code:<sha256>`.
        run: The run directory.

    Raises:
        LabError: There is no such function.
    """
    where, _, name = entry.partition(":")
    if where == "code":
        function = load_function(run, name)
        return Entry(function, is_async(function), takes_leaf=False)
    if not where.startswith(f"{_HOUSE}."):
        raise InvalidInput(f"entry {entry!r}", "is neither code:<sha256> nor a function of epsilon_lab")
    try:
        function = getattr(importlib.import_module(where), name)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"entry {entry!r}", f"does not exist ({error})") from error
    return Entry(function, is_async(function), takes_leaf=True)
