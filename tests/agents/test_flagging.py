"""`flag` as a function sees it: who is given it, which case it makes, what it answers, what it refuses."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from epsilon_lab.agents.calling import call
from epsilon_lab.agents.flagging import Flagging, takes_flag
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.work import work_of
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import case_id
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import CaseFlagged
from epsilon_lab.messages.values import as_json, pack, stored
from epsilon_lab.workspace.layout import RunDirectory

ASKED: dict[str, Any] = {"question": "Are they one?", "options": ["same", "different"]}


def merge(outputs: list[str], *, flag: Any = None) -> Any:
    return flag(key=outputs, **ASKED)


@pytest.fixture
def leaf(tmp_path: Path) -> Leaf:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    return Leaf(run, "reduce-l01-n0000", 1, 7)


@pytest.fixture
def flag(leaf: Leaf) -> Flagging:
    return Flagging(leaf, merge, "")


def test_it_is_given_to_whoever_has_a_parameter_for_it() -> None:
    def needs(item: Any, flag: Any) -> None: ...

    def item_of_that_name(flag: Any) -> None: ...

    def own_default(item: Any, flag: bool = False) -> None: ...

    def anything(item: Any, **more: Any) -> None: ...

    assert takes_flag(merge)
    assert takes_flag(needs)
    assert takes_flag(functools.partial(merge))
    for function in (item_of_that_name, own_default, anything, functools.partial(merge, flag=1), len, int, "merge"):
        assert not takes_flag(function)
    assert not work_of("task", needs).is_light
    assert work_of("task", item_of_that_name).is_light


def test_a_function_is_called_with_it_and_told_what_was_decided(leaf: Leaf) -> None:
    work = work_of("reduce", merge, form="outputs")
    work.save(leaf.run)
    leaf.run.save("verdicts/0001.json", msgspec.json.encode({case_id("merge", ["ann", "bo"]): "same"}), kind="verdicts")
    given = tuple((name, stored(pack(name))) for name in ("ann", "bo"))
    asked = Call(code=work.sha256, form="outputs", inputs=given)
    assert call(as_json(asked), leaf) is None
    assert call(as_json(msgspec.structs.replace(asked, verdicts="verdicts/0001.json")), leaf) == "same"
    assert [line.told for line in leaf.flags] == [None, "same"]
    assert leaf.flags[0] == CaseFlagged(
        case_id="c-056f421ef128",  # known by who asks and what about alone: it never changes
        kind="merge",
        question="Are they one?",
        options=("same", "different"),
        flagged_by="merge",
        task_id="reduce-l01-n0000",
        key=["ann", "bo"],
    )


def test_a_verdict_that_another_group_has_offered_is_none_here_and_counts_as_told(leaf: Leaf) -> None:
    leaf.run.save("verdicts/0001.json", msgspec.json.encode({case_id("merge", "bo"): "elsewhere"}), kind="verdicts")
    assert Flagging(leaf, merge, "verdicts/0001.json")(key="bo", **ASKED) is None
    assert leaf.flags[0].told == "elsewhere"  # or it would be made again for ever


def test_a_case_is_known_by_who_asks_and_what_about(flag: Flagging, leaf: Leaf) -> None:
    def of(key: Any) -> str:
        flag(key=key, **ASKED)
        return leaf.flags[-1].case_id

    assert of({"a": 1, "b": 2}) == case_id("merge", {"b": 2, "a": 1})
    assert of(("x", "y")) == case_id("merge", ["x", "y"]) != case_id("merge", ["y", "x"])
    assert of({"y", "x"}) == case_id("merge", ["x", "y"])
    assert of(np.int64(3)) == of(3) != of("3")
    assert case_id("merge", 3) != case_id("join", 3)


def test_the_same_key_twice_is_one_case_and_another_question_under_it_a_mistake(flag: Flagging, leaf: Leaf) -> None:
    flag(key="a", **ASKED, score=1)
    flag(key="a", **ASKED, score=2)
    assert [line.score for line in leaf.flags] == [1.0]
    with pytest.raises(InvalidInput, match=r"key='a'.*another question"):
        flag(key="a", question="Who?", options=ASKED["options"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"key": None}, "what the case is about"),
        ({"key": []}, "what the case is about"),
        ({"key": ["a", math.nan]}, "plain JSON, and has nan"),
        ({"key": object}, "plain JSON"),
        ({"key": 2**64}, "plain JSON"),
        ({"question": " "}, "key='a'.*question"),
        ({"options": ["same"]}, "two or more different"),
        ({"options": ["same", "same"]}, "two or more different"),
        ({"options": {"same", "different"}}, "must be a list"),
        ({"options": "yes"}, "must be a list"),
        ({"options": ["same", ""]}, "option: must be a non-empty"),
        ({"options": ["same", 1]}, "option: must be a non-empty"),
        ({"score": math.inf}, "score: must be a finite number"),
        ({"reason": 1}, "reason: must be a str"),
        ({"kind": ""}, "kind: must be a non-empty"),
        ({"question": "caf\udce9"}, "cannot be encoded"),
    ],
)
def test_what_is_no_question_is_refused_and_leaves_nothing(
    flag: Flagging, leaf: Leaf, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        flag(**({"key": "a", **ASKED} | wrong))
    assert not leaf.flags


def test_evidence_is_what_can_be_shown_of_it(flag: Flagging, leaf: Leaf) -> None:
    frame = pd.DataFrame({"n": [1, 2], "name": ["a", None]})
    evidence = {
        "array": np.arange(3),
        "mean": np.float64(0.5),
        "nan": math.nan,
        "sets": {"b", "a"},
        "code": 1j,
        "id": 2**64,
    }
    flag(key="a", **ASKED, evidence=evidence | {"rows": frame, "column": frame.n, "day": pd.Timestamp("2026-11-21")})
    shown = leaf.flags[0].evidence
    assert msgspec.msgpack.encode(shown)  # a frame carries it
    assert (
        msgspec.json.decode(msgspec.json.encode(shown))
        == shown
        == {
            "array": [0, 1, 2],
            "mean": 0.5,
            "nan": "nan",
            "sets": ["a", "b"],
            "code": "1j",
            "id": "18446744073709551616",
            "rows": [{"n": 1, "name": "a"}, {"n": 2, "name": shown["rows"][1]["name"]}],
            "column": [1, 2],
            "day": "2026-11-21T00:00:00",
        }
    )
    around: list[Any] = []
    around.append(around)
    with pytest.raises(InvalidInput, match="holds itself"):
        flag(key="b", **ASKED, evidence=around)
