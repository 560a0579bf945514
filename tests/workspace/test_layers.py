"""Layers over each other, against a plain dict; and what an attempt changed, laid over what it began with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.workspace.layers import Layer, Piece, Source, check_path, difference, overlay

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PIECES = st.builds(Piece, st.sampled_from(["00", "11"]), st.integers(0, 2), st.booleans())
LAYERS = st.builds(
    Layer, files=st.dictionaries(PATHS, PIECES, max_size=4), deleted=st.lists(PATHS, max_size=2).map(tuple)
)


def naive(layers: list[tuple[str, Layer]]) -> dict[str, Source]:
    tree: dict[str, Source] = {}
    for reference, layer in layers:
        for path in layer.deleted:
            tree.pop(path, None)
        for path, piece in layer.files.items():
            tree = {
                other: source
                for other, source in tree.items()
                if not other.startswith(f"{path}/") and not path.startswith(f"{other}/")
            }
            tree[path] = Source(reference, piece)
    return dict(sorted(tree.items()))


@given(st.lists(LAYERS, max_size=5))
def test_a_tree_is_what_a_plain_dict_says(layers: list[Layer]) -> None:
    named = [(f"leaves/t{place}/{place}", layer) for place, layer in enumerate(layers)]
    assert overlay(named) == naive(named)
    assert list(overlay(named)) == sorted(overlay(named))


@given(st.lists(LAYERS, max_size=3), LAYERS)
def test_what_was_changed_laid_over_what_it_began_with_is_what_it_saw_at_its_end(
    before: list[Layer], wanted: Layer
) -> None:
    below = [(str(place), layer) for place, layer in enumerate(before)]
    began = {path: source.piece for path, source in overlay(below).items()}
    saw = {path: source.piece for path, source in overlay([("now", wanted)]).items()}
    changed, deleted = difference(began, saw)
    tree = overlay([*below, ("mine", Layer(files=changed, deleted=deleted))])
    assert {path: source.piece for path, source in tree.items()} == saw


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "./a", "a\0b"])
def test_what_is_no_plain_path_below_a_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="no path below a directory"):
        check_path("index", path)
