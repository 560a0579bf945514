"""A function by name, `module:function` or `file.py:function`: found where the run is started, then it travels.

So a worker needs neither the file nor the path that led to it, a run directory says by itself what ran, and a name that
leads nowhere is refused before anything is spent.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from epsilon_lab.errors import InvalidInput

_SHOWN = 80
_ENTRY = re.compile(r"[^\s:]+:[A-Za-z_][A-Za-z0-9_]*\Z")


def is_entry(task: object) -> bool:
    """Tell whether a task names a function, `module:function` or `file.py:function`, and is not said in words."""
    return isinstance(task, str) and _ENTRY.match(task) is not None


def find_function(
    what: str, name: str, folder: Path | None = None, *, locate: Callable[[str], Path] | None = None
) -> Callable[..., Any]:
    """Load a function by its name.

    A module is found as Python finds it, or else below `folder`; loading it runs its top level.

    Args:
        what: Whose name it is, for messages.
        name: The name.
        folder: Where files are looked for; None for the working directory.
        locate: Turns the name of a file into its path, and refuses what it may not name; None: any below `folder`, or
            anywhere by an absolute path.

    Raises:
        InvalidInput: It is no such name, its module cannot be imported, or has no such function.
    """
    where = Path.cwd() if folder is None else folder
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name.isidentifier()):
        raise InvalidInput(what, f"must name a function as 'module:function' or 'file.py:function', got {_shown(name)}")
    try:
        module = _module(module_name, where, locate or where.joinpath)
    except InvalidInput:
        raise
    except Exception as error:
        said = f"{module_name} cannot be imported ({type(error).__name__}: {error})"
        beside = where.joinpath(module_name).parent
        if isinstance(error, ModuleNotFoundError) and error.name and beside.joinpath(f"{error.name}.py").is_file():
            raise InvalidInput(what, said, f"it lies beside it: sys.path.insert(0, {str(beside)!r})") from error
        raise InvalidInput(what, said) from error
    found = getattr(module, function_name, None)
    if not callable(found):
        raise InvalidInput(what, f"{module_name} has no function {function_name}")
    return found  # type: ignore[no-any-return]  # a module's attributes are of any type


def _module(name: str, folder: Path, locate: Callable[[str], Path]) -> ModuleType:
    if name.endswith(".py"):
        return _loaded(locate(name))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        file = folder.joinpath(*name.split(".")).with_suffix(".py")
        if name.partition(".")[0] != (error.name or "").partition(".")[0] or not file.is_file():
            raise
    return _loaded(file)


def _loaded(file: Path) -> ModuleType:
    """Import a file as it now is, under a name of its own; like any module of the user's it travels by value."""
    file = file.absolute()
    if not file.is_file():
        raise ModuleNotFoundError(f"there is no file {file}")
    content = hashlib.sha256(bytes(file) + b"\0" + file.read_bytes()).hexdigest()
    name = f"{re.sub(r'[^a-zA-Z0-9_]', '_', file.stem)}_{content[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _shown(name: str) -> str:
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r} …"
