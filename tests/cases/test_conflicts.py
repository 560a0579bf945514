"""Verdicts about pairs that contradict each other: found, stated as a case, mended by it, and withdrawn with them."""

import pytest

from epsilon_lab.cases.conflicts import Comparisons
from epsilon_lab.cases.docket import CONFLICTS
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide, Rank, Retract
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import CaseFlagged
from tests.cases.record import docket_of

ANN = Decider("ann")


def pair(left, right, by="same_person", **more):
    return CaseFlagged(
        case_id=f"{by}-{left}-{right}", kind="pair", question="?", options=("same", "different", "unsure"),
        key=[left, right], flagged_by=by, task_id="t", **more,
    )  # fmt: skip


class Book:
    """A docket, spoken to in short."""

    def __init__(self, *pairs, **more):
        self.docket = docket_of(pair(*each, **more) for each in pairs)

    def says(self, verdict, *names, by="same_person", decider=ANN):
        case_id = names[0] if len(names) == 1 else f"{by}-{names[0]}-{names[1]}"
        news = Decide(case_id=case_id, verdict=verdict, decider=decider, force=True)
        self.docket.check(news)
        return self.docket.hear(news).lines

    def undo(self, case_id):
        news = Retract(case_id=case_id, decider=ANN)
        self.docket.check(news)
        return self.docket.hear(news).lines

    def conflicts(self, status="open"):
        cases = [self.docket[name] for name in list(self.docket._cases)]
        return [case for case in cases if case.flagged_by == CONFLICTS and case.status == status]


def test_the_shortest_chain_that_contradicts_is_the_case():
    book = Book("ab", "bc", "cd", "de", "ac", "ae", "ce")
    for names in ("ab", "bc", "cd", "de"):
        assert len(book.says("same", *names)) == 1
    _, line = book.says("different", "a", "e")
    assert line.options == (
        "a = b is wrong",
        "b = c is wrong",
        "c = d is wrong",
        "d = e is wrong",
        "a differs from e is wrong",
    )
    assert [each["case_id"][-3:] for each in line.evidence] == ["a-b", "b-c", "c-d", "d-e", "a-e"]
    assert line.evidence[0] == {
        "case_id": "same_person-a-b", "says": "a = b", "verdict": "same", "decider_kind": "HUMAN", "decider": "ann",
        "note": "",
    }  # fmt: skip
    assert (line.kind, line.flagged_by, line.task_id) == ("conflict", "conflicts", None)
    assert "the same by 4 other verdicts" in line.question
    assert book.says("same", "a", "c")[1:] == [], "it is a case already, though there is a shorter way by now"
    withdrawn, again = book.says("unsure", "b", "c")[1:]
    assert (withdrawn.case_id, len(again.options)) == (line.case_id, 4)


def test_a_contradiction_is_found_by_whichever_verdict_completes_it():
    for last in range(3):
        book = Book("ab", "bc", "ac")
        verdicts = [("same", "ab"), ("same", "bc"), ("different", "ac")]
        for verdict, names in [*verdicts[:last], *verdicts[last + 1 :]]:
            assert len(book.says(verdict, *names)) == 1
        assert len(book.says(verdicts[last][0], *verdicts[last][1])) == 2


def test_deciding_it_gives_the_named_pair_the_other_verdict_and_undoing_it_takes_that_back():
    book = Book("ab", "bc", "ac", role="editor")
    editor = Decider("eve", roles=("editor",))
    for verdict, names in [("same", "ab"), ("same", "bc"), ("different", "ac")]:
        book.says(verdict, *names, decider=editor)
    [conflict] = book.conflicts()
    with pytest.raises(InvalidInput, match="role 'editor'"):
        book.says("b = c is wrong", conflict.case_id)
    _, derived = book.says("b = c is wrong", conflict.case_id, decider=editor)
    assert (derived.case_id, derived.verdict, derived.decider, derived.supersedes) == (
        "same_person-b-c",
        "different",
        "eve",
        1,
    )
    assert derived.source == f"conflicts/{conflict.case_id}#1"
    moved = book.says("a differs from c is wrong", conflict.case_id, decider=editor)[1:]
    assert [(line.case_id[-3:], line.verdict, line.retracted) for line in moved] == [
        ("b-c", "different", True), ("a-c", "same", False),
    ]  # fmt: skip
    assert book.docket.verdicts() | {"same_person-b-c": "same", "same_person-a-c": "same"} == book.docket.verdicts()
    with pytest.raises(InvalidInput, match="deciding the conflict"):
        book.docket.check(Retract(case_id="same_person-a-c", decider=editor))
    for expected in ("different", "same"):  # the verdict on the conflict before it, then none
        book.docket.hear(Retract(case_id=conflict.case_id, decider=editor))
        assert book.docket["same_person-b-c"].verdict == expected
    assert book.conflicts() == [book.docket[conflict.case_id]]


def test_what_has_dissolved_is_withdrawn_and_comes_back_with_its_verdicts():
    book = Book("ab", "bc", "ac")
    for verdict, names in [("same", "ab"), ("same", "bc"), ("different", "ac")]:
        book.says(verdict, *names)
    [conflict] = book.conflicts()
    assert [type(line).__name__ for line in book.says("unsure", "a", "b")] == ["VerdictGiven", "CaseWithdrawn"]
    with pytest.raises(InvalidInput, match="contradict each other no more"):
        book.says("a = b is wrong", conflict.case_id)
    book.undo("same_person-a-b")
    assert [case.case_id for case in book.conflicts()] == [conflict.case_id], "the same verdicts, the same case"
    book.says("unsure", "a", "b")
    book.says("same", "a", "b")
    assert [case.case_id for case in book.conflicts()] != [conflict.case_id], "other verdicts, another case"


def test_a_weaker_decider_cannot_overturn_what_a_stronger_one_has_said():
    book = Book("ab", "bc", "ac")
    for verdict, names in [("same", "ab"), ("same", "bc"), ("different", "ac")]:
        book.says(verdict, *names)
    [conflict] = book.conflicts()
    book.says("a = b is wrong", conflict.case_id, decider=Decider("gpt", "LLM"))
    assert book.docket["same_person-a-b"].verdict == "same"
    book.docket.hear(Rank(("LLM",)))
    assert book.docket["same_person-a-b"].verdict == "different"


def test_a_case_decided_by_force_again_makes_another_conflict():
    book = Book("ab", "bc", "ac")
    for verdict, names in [("same", "ab"), ("same", "bc"), ("different", "ac")]:
        book.says(verdict, *names)
    [conflict] = book.conflicts()
    book.says("a = b is wrong", conflict.case_id)
    assert book.conflicts() == []
    book.says("same", "a", "b")
    assert [case.case_id for case in book.conflicts()] != [conflict.case_id]


def test_what_two_reducers_mean_by_the_same_is_not_mixed():
    book = Book("ab", "bc")
    book.docket.take(pair("a", "c", by="other"))
    for verdict, names, by in [
        ("same", "ab", "same_person"),
        ("same", "bc", "same_person"),
        ("different", "ac", "other"),
    ]:
        book.says(verdict, *names, by=by)
    assert book.conflicts() == []


def test_a_number_is_not_the_text_of_it_and_options_stay_apart():
    book = Book((1, "b"), ("b", "1"), (1, "1"))
    for verdict, names in [("same", (1, "b")), ("same", ("b", "1"))]:
        book.says(verdict, *names)
    _, line = book.says("different", 1, "1")
    assert line.options == ("1 = b is wrong", "b = 1 is wrong", "1 differs from 1 is wrong")
    both = Book(("a", "b"), ("b", "a"))
    both.says("same", "a", "b")
    assert len(both.says("different", "b", "a")[1].options) == 2, "a pair may be asked about twice"


def test_groups_are_joined_and_taken_apart():
    said = Comparisons()
    assert said.put("ad", "a", "d", "different") == ["ad"]
    for case_id in ("ab", "cd"):
        assert said.put(case_id, *case_id, "same") == []
    assert said.put("bc", "b", "c", "same") == ["ad"]
    assert [step.case_id for step in said.chain("ad")] == ["ab", "bc", "cd"]
    assert said.put("ac", "a", "c", "same") == []
    assert [step.case_id for step in said.chain("ad")] == ["ac", "cd"]
    said.put("cd", "c", "d", None)
    assert said.chain("ad") == []
    said.put("cd", "c", "d", "same")
    said.put("ac", "a", "c", "different")
    assert [step.case_id for step in said.chain("ac")] == ["ab", "bc"]
    assert said.chain("ab") == said.chain("nothing") == []
