"""A decider's panel on real runs: what is on record, what is on show, and that one never gets ahead of the other."""

import threading

import pytest

from epsilon_lab import Decider, Lab, WorkQueue, current_task
from epsilon_lab.cases.sitting import Pressed
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.testing.census import children, wait_until
from epsilon_lab.views import review_card
from epsilon_lab.views.review import Review
from epsilon_lab.views.review_panel import ReviewPanel

ANN, BO, MODEL = Decider("ann"), Decider("bo"), Decider("small-model", "LLM")
HOSTILE = "<img src=x onerror=alert(1)>"
UNDO, SKIP, UNSURE, BACK = Pressed("undo"), Pressed("skip"), Pressed("unsure"), Pressed("back")


def ask(item, flag=None):
    if item == "wait":
        return current_task().messages(timeout_s=None)
    for n in range(item):
        flag(
            key=[f"e{n}", f"f{n}"],
            question=f"Is e{n} f{n}? {HOSTILE}",
            options=["same", "different"],
            evidence=[{"name": f"Ann {n}"}, {"name": HOSTILE}],
            score=n / 10,
        )
    return item


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("review") / "runs", workers=2) as lab:
        lab.start(WorkQueue([0], abs)).wait(60)  # what it opens for good is open before the first test
        first = lab.start(WorkQueue([1, "wait"], ask))
        first.cases.decide(first.cases.wait(60).case_id, "same")
        first.stop()
        assert wait_until(lambda: len(lab.workers) == 3 and len(children()) >= 3, within_s=60)
        yield lab


@pytest.fixture
def start(lab):
    """Start a run that asks so many questions and lasts; ended with the test."""
    begun = []

    def start_it(count):
        run = lab.start(WorkQueue([count, "wait"], ask))
        begun.append(run)
        assert wait_until(lambda: len(run.cases) == count, within_s=60)
        return run

    yield start_it
    for run in begun:
        run.stop()
        assert wait_until(lambda run=run: run.status == "stopped", within_s=20)


class Hand:
    """A decider at a panel, at a person's pace."""

    def __init__(self, run, decider=ANN, **chosen):
        self.now = 0.0
        self.review = Review(run.cases, decider, clock=lambda: self.now, **chosen)

    @property
    def seen(self):
        return self.review.look()

    def click(self, click, note="", *, after=1.0):
        self.now += after
        if isinstance(click, Pressed):
            self.review.press(click, note)
        else:
            self.review.decide(click, note)
        return self.seen


def asked(snapshot):
    return snapshot.case and snapshot.case.key[0]


def on_record(run):
    rows = run.frame("verdicts")
    return list(zip(rows["verdict"], rows["decider"], rows["note"], rows["live"], strict=True))


def test_a_click_is_on_record_before_the_next_case_shows_and_another_panel_goes_on_there(start):
    run = start(3)
    hand = Hand(run)
    assert (asked(hand.seen), hand.seen.place, hand.seen.listed) == ("e2", 1, 3)  # the most urgent first
    assert asked(hand.click("same", " sure ")) == "e1"
    assert on_record(run) == [("same", "ann", "sure", True)]
    assert asked(hand.click("same", after=0.1)) == "e1"
    assert len(on_record(run)) == 1
    again = Hand(run)
    assert (asked(again.seen), again.seen.place, again.seen.left) == ("e1", 2, 2)


def test_undo_takes_back_ones_own_last_verdict_also_in_a_new_panel_and_brings_its_note(start):
    run = start(3)
    hand = Hand(run)
    hand.click("same", "first")
    hand.click("different", "second")
    again = Hand(run)
    seen = again.click(UNDO)
    assert (asked(seen), seen.note) == ("e1", "second")
    assert [live for *_, live in on_record(run)].count(True) == 1
    assert asked(again.click(UNDO)) == "e2"
    assert "nothing of yours" in again.click(UNDO).words
    assert len(run.cases.open) == 3


def test_undo_leaves_alone_what_another_has_decided_since(start):
    run = start(2)
    hand = Hand(run)
    hand.click("same")
    run.cases.decide(next(iter(run.cases)), "same", decider=BO)
    decided = next(case for case in run.cases if run.cases[case].verdict and case != next(iter(run.cases)))
    run.cases.decide(decided, "different", decider=BO, force=True)
    seen = hand.click(UNDO)
    assert seen.is_alarm
    assert "was decided by bo since" in seen.words
    assert run.cases[decided].verdict == "different"


def test_what_was_decided_elsewhere_is_told_and_not_overwritten(start):
    run = start(2)
    hand = Hand(run)
    shown = hand.seen.case.case_id
    run.cases.decide(shown, "different", decider=BO)
    seen = hand.click("same")  # nobody has looked since
    assert seen.is_alarm
    assert "bo" in seen.words
    assert seen.case.case_id == shown
    assert run.cases[shown].verdict == "different"
    assert asked(hand.click(SKIP)) == "e0"
    run.cases.decide(hand.seen.case.case_id, "different", decider=BO)
    assert "elsewhere" in hand.seen.words  # a ticker has looked
    assert hand.click("same", after=0.1).case.verdict == "different"
    run.cases.decide(shown, "same", decider=BO, force=True)
    hand.click(BACK)
    run.cases.decide(shown, "different", decider=BO, force=True)  # also of a case that one saw decided
    assert hand.click("same").case.verdict == "different"
    assert "meanwhile" in hand.seen.words


def test_a_decided_case_that_one_goes_back_to_takes_another_verdict(start):
    run = start(1)
    hand = Hand(run)
    hand.click("same")
    assert hand.seen.case is None
    hand.click(BACK)
    hand.click("different")
    assert run.cases.verdicts() == {next(iter(run.cases)): "different"}


def test_wrong_sql_is_told_in_the_databases_words_and_the_cases_stay(start):
    run = start(3)
    hand = Hand(run)
    hand.review.choose("nonsense > 1", "")
    assert 'column "nonsense" not found' in hand.seen.words
    assert (hand.seen.is_alarm, hand.seen.listed, hand.seen.where) == (True, 3, "")
    for where, order in (("true", "score; drop table cases"), ("true) or (true", "nosuch")):
        hand.review.choose(where, order)
        assert hand.seen.is_alarm
    hand.review.choose("score < 0.2", "score -- slowly")
    assert (hand.seen.is_alarm, hand.seen.listed, asked(hand.seen)) == (False, 2, "e0")
    hand.review.choose("score > 5", "")
    assert "No case is chosen by this" in review_card.text(hand.seen)
    hand.review.choose("", "")
    assert hand.seen.listed == 3
    with pytest.raises(InvalidInput, match="nonsense"):
        run.cases.panel("nonsense")
    for wrong in ({"blind": 1}, {"where": 3}, {"order": ""}, {"decider": ""}):
        with pytest.raises(InvalidInput):
            run.cases.panel(**wrong)


def test_where_nothing_was_flagged_a_panel_says_so_and_clicks_do_no_harm(start):
    hand = Hand(start(0))
    for click in ("same", SKIP, BACK, UNDO):
        assert not hand.click(click).is_alarm
    assert "No case waits here" in review_card.text(hand.seen)


def test_a_filter_that_finds_decided_cases_is_for_a_second_look_and_a_blind_one_hides_the_first(start):
    run = start(3)
    for case_id in run.cases:
        run.cases.decide(case_id, "same", decider=MODEL, note="looks alike")
    assert Hand(run).seen.case is None
    hand = Hand(run, where="decider_kind = 'LLM'")
    assert hand.seen.left == 3
    assert "✓ · same · small-model (LLM) · looks alike" in str(run.cases.panel("decider_kind = 'LLM'"))
    hand.click("different")
    assert Hand(run, where="status = 'decided'").seen.left == 2  # not what he has judged himself
    blind = Hand(run, BO, blind=True)
    assert blind.seen.left == 3
    panel = run.cases.panel(blind=True, decider="bo")
    for shown in (str(panel), panel._repr_html_()):
        assert "looks alike" not in shown
        assert "decided" not in shown
    panel.close()
    blind.click("same")
    blind.click("same")
    assert run.cases.agreement().to_dict("records")[0] | {"kappa": 0} == {
        "decider": "ann", "other": "bo", "cases": 1, "agreed": 0, "share": 0.0, "kappa": 0,
    }  # fmt: skip
    table = run.cases.confusion("bo", "small-model")
    assert (table.loc["same", "same"], table.index.name, table.columns.name) == (2, "bo", "small-model")
    with pytest.raises(InvalidInput, match=r"'cy' has judged no case of run .*; ann, bo, small-model has"):
        run.cases.confusion("cy", "bo")


def test_the_same_click_on_two_threads_is_one(start):
    run = start(3)
    hand = Hand(run)
    hand.now = 1.0
    both = [threading.Thread(target=hand.review.decide, args=("same", "")) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(on_record(run)) == 1


def test_what_is_typed_stays_with_its_case_until_it_is_decided(start):
    hand = Hand(start(2))
    hand.click(UNSURE, "who is this?")
    seen = hand.click(SKIP)
    assert (asked(seen), seen.note, seen.unsure) == ("e1", "who is this?", 1)


def test_to_be_unsure_is_on_record_and_a_panel_opened_anew_asks_last_about_it(start):
    run = start(2)
    hand = Hand(run)
    first = hand.seen.case.case_id
    hand.click(UNSURE, " blurred ")
    assert run.frame("cases").set_index("case_id")["unsure"].to_dict()[first] == {"ann": "blurred"}
    assert (on_record(run), len(run.cases.open)) == ([], 2)
    assert "on record" in hand.seen.words
    again = Hand(run)
    assert (asked(again.seen), again.seen.unsure) == ("e0", 1)
    assert asked(Hand(run, BO).seen) == "e1"
    seen = again.click("same")
    assert seen.case.case_id == first
    assert "on record; it is the only one left" in again.click(UNSURE, "blurred").words
    assert "unsure · ann · blurred" in review_card.text(seen)
    assert "blurred" not in review_card.text(Hand(run, BO, blind=True).seen)
    with pytest.raises(InvalidInput, match="is not in run "):
        run.cases.unsure("c-no")
    assert run.cases.unsure(first, decider=BO).unsure == {"ann": "blurred", "bo": ""}


def test_the_widgets_keep_their_place_and_show_text(start):
    run = start(3)
    hand = Hand(run)
    panel = ReviewPanel(hand.seen, hand.review, lambda: panel.show(hand.seen))
    same, _different = panel._row.children
    hand.now += 1
    panel._note.value = "n"
    same.click()
    assert panel._row.children[0] is same
    assert panel._note.value == ""
    assert "2 of 3" in panel._head.value
    for part in (panel._question, panel._evidence):
        assert "&lt;img" in part.value
        assert "<img" not in part.value
    panel._where.value = "no such"
    panel._apply.click()
    assert "Parser Error" in panel._words.value
    panel.close()
    same.click()
    assert len(on_record(run)) == 1


def test_a_case_shows_itself_and_the_book_sums_up(start, lab):
    run = start(2)
    case_id = next(iter(run.cases))
    run.cases.decide(case_id, "same", decider="ann")
    drawn = run.cases[case_id]._repr_html_()
    assert "<img" not in drawn
    assert "run.cases.decide(" in drawn
    assert "ann (HUMAN)" in drawn
    assert "ann" in run.cases._repr_html_()
    panel = run.cases.panel()
    run.cases.panel().close()
    assert panel.is_frozen  # one is open at a time
    with Lab(lab.path, read_only=True) as other:
        hand = Hand(other.runs[run.run_id])
        assert hand.click("same").is_alarm
        onlooker = other.runs[run.run_id]
        with pytest.raises(LabError):
            onlooker.cases.decide(case_id, "same", force=True)
    with pytest.raises(LabError, match="is closed"):
        onlooker.cases.panel()
