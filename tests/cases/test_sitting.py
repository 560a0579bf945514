"""A sitting: which case comes, what a click does, and which click is none."""

from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.cases.sitting import (
    DOUBLE_S,
    Chosen,
    Hesitate,
    Looked,
    Pressed,
    PutAside,
    Record,
    Recorded,
    Sitting,
    TakeBack,
    TakenBack,
    step,
)

SAME, UNSURE, SKIP, BACK, UNDO = Chosen("same"), Pressed("unsure"), Pressed("skip"), Pressed("back"), Pressed("undo")


class Desk:
    """A sitting with a record of its own and a clock that goes on by a second with each click."""

    def __init__(self, *names, pending=None):
        self.now = 0.0
        self.record, self.unsure = [], []
        self.words = ""
        self.sitting = Sitting()
        self.go(Looked(names, frozenset(names if pending is None else pending), anew=True))

    def go(self, stimulus, *, after=1.0):
        self.now += after
        self.sitting, effect, self.words = step(self.sitting, stimulus, self.now)
        match effect:
            case Record(case_id):
                self.record.append(case_id)
                self.sitting = step(self.sitting, Recorded(case_id), self.now).sitting
            case Hesitate(case_id):
                self.unsure.append(case_id)
                self.sitting, _, self.words = step(self.sitting, PutAside(case_id), self.now)
            case TakeBack():
                self.sitting = step(self.sitting, TakenBack(self.record.pop()), self.now).sitting
        return self.sitting.shown

    def click(self, *clicks):
        return [self.go(each) for each in clicks]


def test_it_begins_at_the_first_that_is_undecided_and_ends_with_the_last():
    desk = Desk("a", "b", "c", "d", pending=("b", "d"))
    assert (desk.sitting.shown, desk.sitting.place) == ("b", 2)
    assert desk.click(SAME, SAME, SAME) == ["d", None, None]
    assert desk.record == ["b", "d"]


def test_a_second_click_is_none_until_the_case_has_been_seen_for_a_while():
    desk = Desk("a", "b", "c")
    desk.click(SAME)
    assert desk.go(SAME, after=DOUBLE_S * 0.99) == "b"
    assert "double click" in desk.words
    assert desk.go(SKIP, after=0) == "b"
    assert desk.go(SAME, after=DOUBLE_S * 0.02) == "c"
    assert desk.record == ["a", "b"]


def test_clicks_that_waited_for_a_busy_kernel_decide_one_case():
    """They arrive all at once, when the first of them has brought the next case."""
    desk = Desk("a", "b", "c")
    assert [desk.go(SAME, after=after) for after in (60, 0.02, 0.02)] == ["b", "b", "b"]
    assert desk.record == ["a"]


def test_what_is_skipped_comes_round_again_and_what_is_unsure_comes_last():
    desk = Desk("a", "b", "c", "d")
    assert desk.click(UNSURE, SKIP, SAME, SAME) == ["b", "c", "d", "b"]
    assert desk.sitting.unsure == ("a",)
    assert desk.click(SAME) == ["a"]
    assert desk.click(UNSURE) == ["a"]
    assert desk.words == "it is the only one left"
    assert desk.click(SAME) == [None]
    assert desk.sitting.unsure == ()


def test_a_sitting_opened_anew_puts_behind_what_one_was_unsure_about():
    desk = Desk("a", "b", "c")
    desk.click(UNSURE)
    assert desk.unsure == ["a"]
    again = Desk()
    assert again.go(Looked(("a", "b", "c"), frozenset("abc"), ("a",), anew=True)) == "b"
    assert again.click(SAME, SAME, SAME) == ["c", "a", None]


def test_undo_after_unsure_goes_back_there_and_leaves_the_verdict_before_it_alone():
    desk = Desk("a", "b", "c")
    assert desk.click(SAME, UNSURE, UNDO) == ["b", "c", "b"]
    assert "no verdict was taken back" in desk.words
    assert desk.record == ["a"]
    assert desk.click(UNSURE, SAME, UNDO, UNDO) == ["c", "b", "c", "a"]


def test_nobody_is_unsure_about_what_is_decided():
    desk = Desk("a", "b")
    desk.click(SAME, BACK, UNSURE)
    assert (desk.unsure, desk.sitting.shown) == ([], "b")


def test_two_that_one_is_unsure_about_take_turns():
    desk = Desk("a", "b")
    assert desk.click(UNSURE, UNSURE, SKIP, UNSURE) == ["b", "a", "b", "a"]


def test_undo_goes_back_to_the_case_that_is_open_again():
    desk = Desk("a", "b", "c")
    desk.click(SAME, SAME)
    assert desk.click(UNDO, UNDO) == ["b", "a"]
    assert desk.sitting.pending == {"a", "b", "c"}


def test_back_goes_through_what_is_decided_too_and_stops_at_the_first():
    desk = Desk("a", "b", "c")
    desk.click(SAME, SAME, SAME)
    assert desk.click(BACK, BACK, BACK, BACK) == ["c", "b", "a", "a"]
    assert desk.click(SKIP) == [None]  # nothing is left, and what is decided is not asked again


def test_a_case_decided_elsewhere_stays_on_show_and_takes_no_click_meant_for_the_open_one():
    desk = Desk("a", "b")
    assert desk.go(Looked(("a", "b"), frozenset("b"))) == "a"
    assert "elsewhere" in desk.words
    assert desk.go(SAME, after=0.1) == "a"
    assert desk.record == []
    assert desk.click(SKIP) == ["b"]


def test_new_cases_come_after_those_there_are_also_to_one_who_was_done():
    desk = Desk("a")
    desk.click(SAME)
    assert desk.go(Looked(("b", "a"), frozenset("b"))) == "b"
    assert desk.sitting.listed == ("a", "b")


def test_another_choice_begins_anew_and_forgets_nothing_one_was_unsure_about():
    desk = Desk("a", "b", "c")
    desk.click(UNSURE)
    assert desk.go(Looked(("b", "a"), frozenset(("a", "b")), anew=True)) == "b"
    assert desk.sitting.unsure == ("a",)
    assert desk.go(Looked((), frozenset(), anew=True)) is None
    assert desk.click(SAME, SKIP, BACK, UNSURE) == [None] * 4


@given(st.integers(0, 6), st.lists(st.sampled_from([SAME, UNSURE, SKIP, BACK, UNDO]), max_size=40))
def test_whatever_is_clicked_every_case_is_decided_once_and_none_is_lost(count, clicks):
    desk = Desk(*map(str, range(count)))
    for click in clicks:
        if click is UNDO and not desk.record:
            continue
        if click is SAME and desk.sitting.shown in desk.record:
            continue  # a decided case that one went back to: another verdict, and another story
        before = desk.sitting.shown
        shown = desk.go(click)
        assert shown is None or shown in desk.sitting.listed
        assert (shown is None) <= (not desk.sitting.pending or before is None)
        assert desk.sitting.pending == set(desk.sitting.listed) - set(desk.record)
        assert set(desk.sitting.unsure) <= desk.sitting.pending
    while desk.sitting.pending:
        desk.go(SKIP if desk.sitting.shown in desk.record else SAME)
    assert sorted(desk.record) == sorted(desk.sitting.listed)
