"""What is said about a run's cases while nobody is at it: taken in wherever its journal was cut, once, and followed."""

import msgspec
import pytest

from epsilon_lab.errors import LabError
from epsilon_lab.messages.cases import Decide, Flag, Rank, Retract
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import (
    BODIES,
    OF_CASES,
    CaseFlagged,
    RunAdopted,
    RunEnded,
    VerdictGiven,
)
from epsilon_lab.topologies.engine import End
from epsilon_lab.topologies.recovery import recover
from tests.cases.record import docket_of
from tests.topologies.test_judged_plan import Play, three

ANN = Decider("ann")


def passes(case):
    return "pass", ""


def add_one(task):
    return 1


def gated(folder):
    return Play(three("person", "person"), folder, add_one, passes)


def bodies(play):
    return [msgspec.json.decode(each.body, type=BODIES[each.type]) for each in play.records]


def left_at(play, place):
    """The journal up to there, and the case book that a clerk makes of it."""
    left = object.__new__(Play)
    left.__dict__.update(play.__dict__)
    left.records = play.records[:place]
    book = docket_of(
        body for body, record in zip(bodies(left), left.records, strict=True) if record.type.startswith(OF_CASES)
    )
    for line in book.settle().lines:
        left.write(line)
    return left, book


def say(left, book, *news):
    for each in news:
        for line in book.hear(each).lines:
            left.write(line)


def taken_up(left):
    """Adopted, as a lab does it: the line comes first, then what the rules have yet to put on record."""
    left.write(RunAdopted(epoch=2, pid=1, host="h"))
    return left.cut(len(left.records))


def outputs(play):
    return [line for line in bodies(play) if isinstance(line, RunEnded)][-1].output


def test_a_verdict_given_while_nobody_was_there_is_followed_wherever_the_run_was_cut(tmp_path):
    whole = gated(tmp_path / "run").play()
    followed = 0
    for place in range(1, len(whole.records)):
        left, book = left_at(whole, place)
        for case in [name for name in ("a", "b") if name in book]:
            say(left, book, Decide(case_id=case, verdict="pass", decider=ANN, force=True))
            followed += 1
        again = taken_up(left).play()
        assert outputs(again) == outputs(whole), f"cut after line {place}"
        taken_up(left_at(again, len(left.records))[0]).play()  # and once more, right after
    assert followed > 6


def test_what_was_taken_back_before_anyone_came_has_no_consequences(tmp_path):
    whole = gated(tmp_path / "run")
    while not whole.cases:
        whole.turn()
    left, book = left_at(whole, len(whole.records))
    say(left, book, Decide(case_id="a", verdict="reject", decider=ANN), Retract(case_id="a", decider=ANN))
    again = taken_up(left)
    assert [case.case_id for case in again.cases] == ["a"]
    assert again.ran == ["a"]
    again.play()
    assert again.ran == ["a", "b"]
    for place in range(len(left.records), len(again.records)):
        assert outputs(taken_up(left_at(again, place)[0]).play()) == outputs(again)


def test_consequences_that_a_crash_cut_off_come_before_those_of_a_later_verdict(tmp_path):
    """The gate of `a` was followed, the line that says so was lost; then somebody decided again, with nobody there."""
    whole = gated(tmp_path / "run")
    while not whole.told(VerdictGiven):
        whole.turn()
    place = next(place for place, body in enumerate(bodies(whole)) if isinstance(body, VerdictGiven)) + 1
    left, book = left_at(whole, place)
    say(left, book, Decide(case_id="a", verdict="reject", decider=ANN, force=True))
    again = taken_up(left)
    assert "a~2" in again.tasks, "what it came to is followed"
    again.play()
    assert again.ran == ["a", "a~2", "b"]


def test_a_weaker_verdict_lets_nothing_through_until_it_weighs_more(tmp_path):
    play = gated(tmp_path / "run")
    while not play.cases:
        play.turn()
    play.tell(Decide(case_id="a", verdict="reject", decider=ANN))
    play.settle(play.tasks.pop("a~2"))
    play.tell(Decide(case_id="a~2", verdict="reject", decider=ANN, note="no"))
    assert play.state.status == "failed"
    play.tell(Decide(case_id="a~2", verdict="pass", decider=Decider("gpt", "LLM"), force=True))
    assert play.state.docket["a~2"].verdict == "reject"
    play.tell(Rank(("LLM",)))
    assert play.state.docket["a~2"].verdict == "pass"
    assert play.state.status == "failed", "a run that is over stays so"
    recovered = recover("r", play.topology.restore(play.run, []), play.records)
    assert recovered.state.docket["a~2"].verdict == "pass"
    assert [type(effect) for effect in recovered.effects] == [End]


def test_days_between_an_end_and_a_verdict_are_no_time_of_the_run(tmp_path):
    play = gated(tmp_path / "run")
    while not play.cases:
        play.turn()
    before = recover("r", play.topology.restore(play.run, []), play.records).elapsed_s
    left, book = left_at(play, len(play.records))
    say(left, book, Decide(case_id="a", verdict="pass", decider=ANN))
    left.records[-1] = msgspec.structs.replace(left.records[-1], ts=1e6)
    assert recover("r", play.topology.restore(play.run, []), left.records).elapsed_s == before


def test_a_case_flagged_from_outside_is_no_line_of_the_rules(tmp_path):
    whole = gated(tmp_path / "run").play()
    flag = CaseFlagged(case_id="c-1", kind="odd", question="?", options=("a", "b"), flagged_by="odd", task_id="")
    for place in range(1, len(whole.records) + 1):
        left, book = left_at(whole, place)
        say(left, book, Flag((flag,)), Decide(case_id="c-1", verdict="a", decider=ANN))
        assert outputs(taken_up(left).play()) == outputs(whole)


def test_a_gates_case_that_was_edited_is_told_of(tmp_path):
    whole = gated(tmp_path / "run").play()
    place = next(place for place, body in enumerate(bodies(whole)) if isinstance(body, CaseFlagged))
    line = msgspec.structs.replace(bodies(whole)[place], question="Other?")
    whole.records[place] = msgspec.structs.replace(whole.records[place], body=msgspec.Raw(msgspec.json.encode(line)))
    with pytest.raises(LabError, match="its question is 'Other\\?'"):
        recover("r", whole.topology.restore(whole.run, []), whole.records)
