"""Values travel as JSON where that loses nothing, else as pickles; what JSON cannot hold is never an error."""

from __future__ import annotations

import os

import pytest

from epsilon_lab.messages.values import is_plain, pack, unpack

NAME = os.fsdecode(b"caf\xe9.txt")  # as os.listdir gives a file's name that is no UTF-8


@pytest.mark.parametrize("value", [NAME, [NAME], {NAME: 1}, {"a": {"b": [NAME]}}])
def test_a_text_that_is_no_utf8_travels_as_it_is(value: object) -> None:
    assert not is_plain(value)
    assert unpack(pack(value)) == value


@pytest.mark.parametrize("value", ["café", {"é": ["ü", 1, None]}, "😀"])
def test_a_text_in_any_script_is_json(value: object) -> None:
    assert pack(value).form == "json"
    assert unpack(pack(value)) == value
