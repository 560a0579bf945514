"""A case: what is a decision about it, and what is none."""

import pytest

from epsilon_lab.cases.case import Case
from epsilon_lab.cases.docket import Docket
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import CaseFlagged

ANN = Decider("ann")
LINE = CaseFlagged(case_id="c", kind="gate", question="Good?", options=("pass", "reject"))


def said(verdict="pass", *, case_id="c", decider=ANN, force=False, number=1):
    return Decide(case_id=case_id, verdict=verdict, decider=decider, force=force, number=number)


def docket(line=LINE):
    made = Docket()
    made.flag(line)
    return made


def test_a_verdict_names_its_decider_and_the_one_it_takes_the_place_of():
    cases = docket()
    first, second = cases.decide(said()), cases.decide(said("reject", force=True, number=2))
    assert (first.verdict, first.decider, first.decider_kind, first.supersedes) == ("pass", "ann", "HUMAN", None)
    assert (second.verdict, second.number, second.supersedes) == ("reject", 2, 1)


@pytest.mark.parametrize(
    ("decide", "words"),
    [
        (said("maybe"), "no option"),
        (said(number=2), "meanwhile"),
        (said(decider=Decider("bo", roles=("author",))), "role 'editor'"),
    ],
)
def test_what_is_no_decision_says_why(decide, words):
    editors = Decider("ann", roles=("editor",))
    case = Case(case_id="c", kind="gate", question="Good?", options=("pass", "reject"), role="editor")
    if "role" not in words:
        decide = Decide(**{**{f: getattr(decide, f) for f in decide.__struct_fields__}, "decider": editors})
    with pytest.raises(InvalidInput, match=words):
        case.decide(decide)


def test_a_decided_case_takes_another_verdict_only_by_force():
    cases = docket()
    assert cases.decide(said())
    assert cases.decide(said("reject", number=2)) is None
    assert cases.decide(said("reject", number=2, force=True))


def test_a_withdrawn_case_takes_no_verdict_and_a_decided_one_is_not_withdrawn():
    cases = docket()
    assert cases.withdraw("c", "done again").case_id == "c"
    assert cases.decide(said()) is None
    decided = docket()
    decided.decide(said())
    assert decided.withdraw("c", "done again") is None


def test_an_unknown_case_takes_no_verdict():
    assert docket().decide(said(case_id="d")) is None


def test_a_line_tells_the_decision_that_it_came_of():
    cases, again = docket(), docket()
    for decide in (said(), said("reject", force=True, number=2)):
        line = cases.decide(decide)
        assert again.decide(decision_in(line)) == line
    assert decision_in(LINE) is None


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "ann", "kind": "DOG"}, {"name": "ann", "roles": (1,)}])
def test_a_decider_is_refused_by_field(wrong):
    with pytest.raises(InvalidInput, match="Decider"):
        Decider(**wrong)
