"""A case: what is a decision about it, and what is none."""

import pytest

from epsilon_lab.cases.case import Case
from epsilon_lab.cases.docket import Docket
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide, Flag, Rank, Retract, Take, Unsure, speaking
from epsilon_lab.messages.deciders import AUTHORITY, Decider
from epsilon_lab.messages.events import CaseFlagged, CasesAsked, CasesRanked, CaseWithdrawn, VerdictGiven
from tests.cases.record import docket_of

ANN = Decider("ann")
LINE = CaseFlagged(case_id="c", kind="gate", question="Good?", options=("pass", "reject"))


def said(verdict="pass", *, case_id="c", decider=ANN, **more):
    return Decide(case_id=case_id, verdict=verdict, decider=decider, **more)


def undo(case_id="c", **more):
    return Retract(case_id=case_id, decider=ANN, **more)


def docket(line=LINE):
    made = Docket("r")
    made.take(line)
    return made


def given(cases, news):
    """The one line that a decision comes to; None for none."""
    [line] = cases.hear(news).lines or [None]
    return line


def test_a_verdict_names_its_decider_and_the_one_it_takes_the_place_of():
    cases = docket()
    first, second = given(cases, said()), given(cases, said("reject", force=True))
    assert (first.verdict, first.decider, first.decider_kind, first.supersedes) == ("pass", "ann", "HUMAN", None)
    assert (second.verdict, second.number, second.supersedes) == ("reject", 2, 1)
    assert cases.verdicts() == {"c": "reject"}


@pytest.mark.parametrize(
    ("decide", "words"),
    [
        (said("maybe"), "no option"),
        (said(number=2), "meanwhile"),
        (said(decider=Decider("bo", roles=("author",))), "role 'editor'"),
        (undo(), "is open: it has no verdict"),
    ],
)
def test_what_is_no_decision_says_why_and_changes_nothing(decide, words):
    editors = Decider("ann", roles=("editor",))
    cases = docket(CaseFlagged(case_id="c", kind="gate", question="Good?", options=("pass", "reject"), role="editor"))
    if "role" not in words:
        decide = type(decide)(**{**{f: getattr(decide, f) for f in decide.__struct_fields__}, "decider": editors})
    with pytest.raises(InvalidInput, match=words):
        cases.check(decide)
    assert cases.hear(decide) == ([], [])
    assert cases["c"].status == "open"


def test_a_decided_case_takes_another_verdict_only_by_force():
    cases = docket()
    assert given(cases, said())
    with pytest.raises(InvalidInput, match="is decided: 'pass' by ann; force=True"):
        cases.check(said("reject"))
    assert given(cases, said("reject", number=2)) is None
    assert given(cases, said("reject", number=2, force=True))


def test_a_withdrawn_case_takes_no_verdict_unless_it_is_flagged_again():
    cases = docket()
    cases.take(CaseWithdrawn(case_id="c", reason="done again"))
    with pytest.raises(InvalidInput, match="is withdrawn: done again"):
        cases.check(said())
    cases.take(LINE)
    assert given(cases, said())


def test_an_unknown_case_is_refused_by_naming_those_there_are():
    with pytest.raises(InvalidInput, match="case 'd': is not in run r; it has c"):
        docket().check(said(case_id="d"))


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": "ann", "kind": "DOG"}, {"name": "ann", "roles": (1,)}])
def test_a_decider_is_refused_by_field(wrong):
    with pytest.raises(InvalidInput, match="Decider"):
        Decider(**wrong)


# -- which verdict speaks ----------------------------------------------------------------------------------------------


def line(number, kind="HUMAN", *, back=None, verdict="pass"):
    return VerdictGiven(
        case_id="c", number=number, verdict=verdict, decider_kind=kind, decider="x", supersedes=back,
        retracted=back is not None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "number"),
    [
        ([], None),
        ([line(1), line(2)], 2),
        ([line(1), line(2, "CODE"), line(3, "LLM")], 1),
        ([line(1, "LLM"), line(2, "CODE")], 2),
        ([line(1), line(2), line(3, back=2)], 1),
        ([line(1, "LLM"), line(2), line(3, "CODE", back=2)], 1),
        ([line(1), line(2, back=1)], None),
    ],
)
def test_the_latest_live_verdict_of_the_highest_authority_speaks(verdicts, number):
    last = speaking(verdicts, AUTHORITY)
    assert (last and last.number) == number


def test_undoing_takes_back_what_speaks_and_what_was_before_speaks_again():
    cases = docket()
    cases.hear(said())
    cases.hear(said("reject", force=True))
    back = given(cases, undo(note="no"))
    assert (back.retracted, back.supersedes, back.verdict, back.number, back.note) == (True, 2, "reject", 3, "no")
    assert cases["c"].verdict == "pass"
    assert given(cases, undo(number=2)) is None, "someone else was quicker"
    assert given(cases, undo(number=1))
    assert (cases["c"].status, cases["c"].verdict, len(cases["c"].verdicts)) == ("open", None, 4)
    assert given(cases, said("reject")).supersedes is None


def test_a_lower_authority_is_on_record_and_does_not_speak_until_it_is_ranked_higher():
    cases = docket()
    cases.hear(said())
    assert cases.hear(said("reject", decider=Decider("gpt", "LLM"), force=True)).turned == []
    assert cases["c"].verdict == "pass"
    heard = cases.hear(Rank(("LLM",)))
    assert heard.lines == [CasesRanked(kinds=("LLM", "HUMAN", "CODE"))]
    assert [each.verdict for each in heard.turned] == ["reject"]
    assert cases["c"].verdict == "reject"
    assert cases.hear(Rank(("LLM", "HUMAN"))).lines == [], "it is so already"


@pytest.mark.parametrize("kinds", [(), ("HUMAN", "HUMAN"), ("DOG",)])
def test_kinds_of_deciders_are_ranked_once_each(kinds):
    with pytest.raises(InvalidInput, match="kinds"):
        docket().check(Rank(kinds))


def test_a_second_verdict_of_the_same_source_is_passed_over_even_where_the_first_was_taken_back():
    cases = docket()
    once = said(source="second-wave/c-1")
    assert given(cases, once)
    cases.check(once)
    cases.hear(undo())
    assert given(cases, once) is None
    assert cases["c"].status == "open"


def test_who_is_unsure_gives_no_verdict_and_says_so_once():
    cases = docket()
    unsure = Unsure(case_id="c", decider=ANN, note="blurred")
    line = given(cases, unsure)
    assert (line.decider, line.decider_kind, line.note) == ("ann", "HUMAN", "blurred")
    assert (cases["c"].status, cases["c"].unsure, cases.verdicts()) == ("open", {"ann": "blurred"}, {})
    assert cases.hear(unsure) == ([], [])
    given(cases, said())
    given(cases, Unsure(case_id="c", decider=ANN, note="or so"))
    assert (cases["c"].verdict, cases["c"].unsure) == ("pass", {"ann": "or so"})
    with pytest.raises(InvalidInput, match="is not in run r"):
        cases.check(Unsure(case_id="d", decider=ANN))
    cases.take(CaseWithdrawn(case_id="c", reason="done again"))
    with pytest.raises(InvalidInput, match="is withdrawn: done again"):
        cases.check(unsure)


def test_another_runs_word_counts_once_whatever_it_says():
    cases = docket()
    took = Take((Unsure(case_id="c", decider=ANN, source="r/t"), said(source="r/u")))
    assert len(cases.hear(took).lines) == 2
    assert cases.hear(took).lines == []


# -- flags -------------------------------------------------------------------------------------------------------------


def test_a_case_that_is_flagged_again_says_who_asks_and_stands_as_the_last_of_them_puts_it():
    cases = docket_of(
        CaseFlagged(case_id="c", kind="k", question=question, options=options, task_id=task, score=score)
        for task, question, options, score in [
            ("reduce-l01", "ann or bo?", ("ann", "bo"), None),
            ("reduce-l02", "Which of three?", ("bo", "cy", "di"), 0.5),
            ("reduce-l02~2", "Which?", ("bo", "cy", "di"), 0.7),
        ]
    )
    case = cases["c"]
    assert (case.question, case.options, case.score) == ("Which?", ("bo", "cy", "di"), 0.7)
    assert case.tasks == ("reduce-l01", "reduce-l02", "reduce-l02~2")
    assert cases.asked() == {"reduce-l01": {"c"}, "reduce-l02": {"c"}}
    assert given(cases, said("cy"))


def test_a_verdict_stays_an_option_of_a_case_that_is_asked_with_others_and_goes_on_speaking():
    def line(*options):
        return CaseFlagged(case_id="c", kind="k", question="?", options=options, task_id="t")

    cases = docket(line("a", "b", "x"))
    for each in (said("x"), undo(), said("a")):
        given(cases, each)
    cases.take(line("b", "c"))
    assert (cases["c"].options, cases["c"].verdict, cases["c"].status) == (("b", "c", "a"), "a", "decided")
    assert given(cases, said("c", force=True)).supersedes == 3
    given(cases, undo())
    assert cases["c"].verdict == "a"


def test_what_is_no_comparison_any_more_contradicts_nothing_until_it_is_one_again():
    def line(case_id, left, right, *options):
        return CaseFlagged(
            case_id=case_id, kind="k", question="?", options=options, key=[left, right], flagged_by="m", task_id="t"
        )

    pairs = {"ab": "same", "bc": "same", "ac": "different"}
    cases = docket_of(line(name, *name, "same", "different") for name in pairs)
    for name in ("ab", "bc"):
        given(cases, said(pairs[name], case_id=name))
    cases.take(line("ab", "a", "b", "same", "other"))
    assert given(cases, said("different", case_id="ac"))  # and no conflict with it
    cases.take(line("ab", "a", "b", "same", "different"))
    [conflict] = cases.settle().lines
    assert conflict.kind == "conflict"


def asked(case_id, task_id, told=None, **more):
    return CaseFlagged(
        case_id=case_id, kind="k", options=("a", "b"), task_id=task_id, told=told, **{"question": "?", **more}
    )


def test_what_is_asked_again_word_for_word_is_one_line_and_means_the_same():
    cases = docket_of([asked("c", "t", evidence=[1]), asked("d", "t")])
    again = [asked("c", "t~2", "a", evidence=[1]), asked("d", "t~2"), asked("e", "t~2")]
    short = cases.abridged(again)
    assert short == (again[2], CasesAsked(task_id="t~2", told={"c": "a", "d": None}))
    in_full = docket_of([asked("c", "t", evidence=[1]), asked("d", "t"), *again])
    for line in short:
        cases.take(line)
    assert list(cases.cases()) == list(in_full.cases())
    assert cases.asked() == in_full.asked()
    assert cases.abridged([]) == ()


@pytest.mark.parametrize("more", [{"evidence": [2]}, {"question": "Really?"}, {"score": 0.5}, {"reason": "odd"}])
def test_what_is_asked_in_other_words_is_on_record_in_full(more):
    [other] = [asked("c", "t~2", **{"evidence": [1], **more})]
    assert docket_of([asked("c", "t", evidence=[1])]).abridged([other]) == (other,)


def test_what_each_asks_again_in_its_own_words_changes_nothing_until_one_of_them_puts_it_otherwise():
    cases = docket_of([asked("c", "low"), asked("c", "high", question="All?")])
    for number in (2, 3):
        for line in (asked("c", f"low~{number}"), asked("c", f"high~{number}", question="All?")):
            [short] = cases.abridged([line])
            assert short == CasesAsked(task_id=line.task_id, told={"c": None})
            cases.take(short)
    assert (cases["c"].question, len(cases["c"].tasks)) == ("All?", 6)
    for line in (asked("c", "high~4", question="Most?"), asked("c", "high~5", question="All?")):
        assert cases.abridged([line]) == (line,)
        cases.take(line)
        assert cases["c"].question == line.question
    same = asked("c", "low~4", question="All?")
    assert cases.abridged([same]) == (same,)
    cases.take(same)
    assert cases.abridged([asked("c", "low~5", question="All?")])[0] == CasesAsked(task_id="low~5", told={"c": None})
    assert cases.abridged([asked("c", "low~6")]) == (asked("c", "low~6"),)


def test_what_was_withdrawn_is_asked_again_in_full_with_its_reason():
    cases = docket_of([asked("c", "t", reason="odd"), CaseWithdrawn(case_id="c", reason="nobody asks")])
    for line in cases.abridged([asked("c", "t~2", reason="odd")]):
        cases.take(line)
    assert (cases["c"].status, cases["c"].reason) == ("open", "odd")


def test_what_somebody_outside_flags_is_put_on_record_once():
    flag = CaseFlagged(case_id="d", kind="k", question="?", options=("a", "b"), task_id="")
    cases = docket()
    assert cases.hear(Flag((flag, flag))).lines == [flag]
    assert cases.hear(Flag((flag,))).lines == []
    for wrong in ({"options": ("a", "a")}, {"question": " "}, {"task_id": "t"}):
        other = CaseFlagged(**{**{name: getattr(flag, name) for name in flag.__struct_fields__}, **wrong})
        with pytest.raises(InvalidInput):
            cases.check(Flag((other,)))


def test_a_case_is_one_line_whatever_is_asked():
    assert repr(Case(case_id="c", kind="k", question="a\nb", options=("x\ny", "z"))).count("\n") == 0


def test_a_case_has_no_pair_unless_two_things_are_compared():
    def pair(key, options=("same", "different", "unsure")):
        return Case(case_id="c", kind="k", question="?", options=options, key=key).pair

    assert pair(["a", "b"]) == ("a", "b")
    assert pair(["a", "a"]) is pair(["a"]) is pair("ab") is pair(["a", "b"], ("yes", "no")) is None
