"""What becomes of files that several tasks have made: pure rules over paths, no disk.

A task that is done leaves a layer: what it added, changed and deleted, against the layers that it began with. Layers
lie over each other in the order in which their tasks were settled: a later one wins, path by path. Where one has a file
and another has a directory of that name, the later one has it its way, as on a disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import msgspec

from epsilon_lab.errors import InvalidInput


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A file's content, as it was published."""

    sha256: str
    size: int
    """Bytes."""

    executable: bool = False


class Layer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one attempt published; its index, as JSON."""

    files: dict[str, Piece] = {}
    """Added and changed, by path."""

    deleted: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    """References of the layers that it began with, oldest first."""


class Source(NamedTuple):
    """Where a file of a tree comes from."""

    layer: str
    """The layer's reference; the file is `<layer>/<path>`."""

    piece: Piece


def overlay(layers: Iterable[tuple[str, Layer]]) -> dict[str, Source]:
    """Lay layers over each other.

    Args:
        layers: (reference, layer), oldest first.

    Returns:
        Path -> where its content is, sorted by path.
    """
    tree: dict[str, Source] = {}
    folders: dict[str, int] = {}
    for reference, layer in layers:
        for path in layer.deleted:
            _drop(tree, folders, path)
        for path, piece in layer.files.items():
            for folder in _folders(path):
                _drop(tree, folders, folder)
            if path in folders:
                for inner in [each for each in tree if each.startswith(f"{path}/")]:
                    _drop(tree, folders, inner)
            if path not in tree:
                for folder in _folders(path):
                    folders[folder] = folders.get(folder, 0) + 1
            tree[path] = Source(reference, piece)
    return dict(sorted(tree.items()))


def difference(before: Mapping[str, Piece], now: Mapping[str, Piece]) -> tuple[dict[str, Piece], tuple[str, ...]]:
    """What was added or changed, and what was deleted."""
    changed = {path: piece for path, piece in sorted(now.items()) if before.get(path) != piece}
    return changed, tuple(sorted(path for path in before if path not in now))


def check_path(what: str, path: str) -> str:
    """Refuse what is no plain path below a directory: absolute, with `..`, not in its shortest form.

    Raises:
        InvalidInput: It is none.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in path or pure.as_posix() != path:
        raise InvalidInput(what, f"{path!r} is no path below a directory", "name a file by a relative path")
    return path


def _drop(tree: dict[str, Source], folders: dict[str, int], path: str) -> None:
    if tree.pop(path, None) is not None:
        for folder in _folders(path):
            folders[folder] -= 1
            if not folders[folder]:
                del folders[folder]


def _folders(path: str) -> Iterator[str]:
    """The folders that a path is in, outermost first."""
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
