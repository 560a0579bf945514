"""Gates: what is a pass, what a rejection, and what no verdict at all."""

import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import Value, pack
from epsilon_lab.topologies.gates import Person, Ruling, ruling, shown


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, (True, "")),
        (True, (True, "")),
        (False, (False, "")),
        ("too short", (False, "too short")),
        ("", (False, "")),
        ({"verdict": "pass", "reason": "fine"}, (True, "fine")),
        ({"verdict": "fail", "reason": "late"}, (False, "late")),
        ({"status": "fail", "summary": "two errors", "errors": []}, (False, "two errors")),
    ],
)
def test_a_gate_s_answer_is_a_pass_or_a_rejection(answer, expected):
    assert ruling(pack(answer)) == Ruling(*expected)


@pytest.mark.parametrize("answer", [1, [], {}, {"verdict": "perhaps"}, {"verdict": True}, {"status": "ok"}])
def test_what_is_no_verdict_lets_nothing_through(answer):
    assert ruling(pack(answer)) is None


def test_what_is_no_plain_data_is_no_verdict_and_is_not_unpickled():
    bomb = Value("pickle", b"no pickle at all")
    assert ruling(bomb) is None
    assert ruling(Value("file", b"outputs/g.json")) is None
    assert ruling(None) is None
    assert shown(bomb) == "an object that is no plain data"
    assert shown(Value("file", b"outputs/g.json")) == "more than an answer, in outputs/g.json"


def test_a_person_s_first_option_passes():
    assert Person(options=("yes", "no", "unsure")).passes == ("yes",)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"options": ("yes",)}, "two or more"),
        ({"options": ("yes", "yes")}, "each once"),
        ({"options": "yes"}, "list of str"),
        ({"passes": ("maybe",)}, "not among the options"),
        ({"passes": ("pass", "reject")}, "all options"),
        ({"question": 3}, "question"),
        ({"role": None}, "role"),
    ],
)
def test_a_person_s_gate_is_refused_by_field(wrong, words):
    with pytest.raises(InvalidInput, match=words):
        Person(**wrong)
