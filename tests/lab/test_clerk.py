"""Cases of runs that nobody is at: decided, taken back and found again, in whatever state the run was left."""

import pytest

from epsilon_lab import Decider, Lab, MapReduce, Pipeline
from epsilon_lab.errors import InvalidInput, LabError

PAIRS = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]


def listed(item):
    return item


def asking():
    return MapReduce([PAIRS], map=listed, reduce=flat, arity=8)


def flat(outputs, *, flag=None):
    for left, right in [pair for found in outputs for pair in found]:
        flag(key=[left, right], question=f"Is {left} {right}?", options=["same", "different", "unsure"], score=0.5)
    return [pair for found in outputs for pair in found]


@pytest.fixture(scope="module")
def over(tmp_path_factory):
    """A lab, and a run in it that is over and left four questions."""
    with Lab(tmp_path_factory.mktemp("clerk") / "runs", workers=1) as lab:
        run = lab.start(asking(), name="asking").wait(60)
        run.cases.decide(next(iter(run.cases)), "same")  # from here on its journal is open
        run.cases.undo(next(iter(run.cases)))
        yield run


def test_a_run_that_is_over_takes_verdicts(over):
    cd = list(over.cases)[3]
    assert over.status == "completed"
    assert over.cases.decide(cd, "same").verdict == "same"
    with pytest.raises(InvalidInput, match="is decided: 'same' by"):
        over.cases.decide(cd, "different")
    over.cases.decide(cd, "different", force=True, decider="ann", note="look at the year")
    assert over.cases.verdicts() == {cd: "different"}
    assert over.cases.undo(cd, note="no").verdict == "same"
    assert over.cases.undo(cd).status == "open"
    with pytest.raises(InvalidInput, match="is open: it has no verdict to take back"):
        over.cases.undo(cd)
    verdicts = over.frame("verdicts").query("case_id == @cd")
    assert verdicts["live"].tolist() == [False] * 4
    assert verdicts["retracted"].tolist() == [False, False, True, True]
    assert over.status == "completed", "nothing reopens it"


def test_what_is_wrong_is_refused_and_the_tables_stay_as_they_are(over):
    case_id = next(iter(over.cases))
    before = over.frame("cases"), over.frame("verdicts")
    for refused in (
        lambda: over.cases.decide(case_id, "maybe"),
        lambda: over.cases.decide("c-no", "same"),
        lambda: over.cases.decide(case_id, ""),
        lambda: over.cases.decide(7, "same"),
        lambda: over.cases.decide(case_id, "same", force="yes"),
        lambda: over.cases.undo("c-no"),
        lambda: over.cases.rank("DOG"),
        lambda: over.cases.rank(),
        lambda: over.cases.rank("CODE", "CODE"),
        lambda: over.cases.rank(["CODE", "HUMAN"]),
        lambda: over.cases.adopt(over.run_id),
        lambda: over.cases.frame("no such column = 1"),
        lambda: over.cases.frame("true) union select * from cases --"),
        lambda: over.cases.frame(order="place; drop table cases"),
        lambda: over.cases.frame("case_id in (select content from read_text('/etc/hostname'))"),
        lambda: over.cases["c-no"],
    ):
        with pytest.raises(InvalidInput):
            refused()
    for now, then in zip((over.frame("cases"), over.frame("verdicts")), before, strict=True):
        assert now.equals(then)


def test_authority_says_which_verdict_speaks_and_the_history_stays(over):
    case_id = list(over.cases)[3]
    for kind, verdict in [("LLM", "different"), ("CODE", "unsure"), ("HUMAN", "same"), ("LLM", "unsure")]:
        over.cases.decide(case_id, verdict, decider=Decider(kind.lower(), kind), force=True)
    assert over.cases[case_id].verdict == "same"
    over.cases.rank("CODE")
    assert over.cases[case_id].verdict == "unsure"
    assert over.cases.frame(f"case_id = '{case_id}'")["decider"].tolist() == ["code"]
    over.cases.rank("LLM", "HUMAN", "CODE")
    assert over.cases[case_id].speaks.number == len(over.cases[case_id].verdicts), "the latest of the models"
    over.cases.rank("HUMAN", "CODE", "LLM")
    while over.cases[case_id].status == "decided":
        over.cases.undo(case_id)
    assert over.cases[case_id].verdict is None


def test_a_contradiction_becomes_a_case_whose_verdict_mends_it(over):
    ab, bc, ac = list(over.cases)[:3]
    for case_id, verdict in [(ab, "same"), (bc, "same"), (ac, "different")]:
        over.cases.decide(case_id, verdict)
    [conflict] = [case for case in over.cases.open if case.kind == "conflict"]
    assert conflict.options == ("a = b is wrong", "b = c is wrong", "a differs from c is wrong")
    assert [each["case_id"] for each in conflict.evidence] == [ab, bc, ac]
    over.cases.decide(conflict.case_id, "b = c is wrong", note="another Bob", decider="ann")
    assert over.cases.verdicts() | {ab: "same", bc: "different", ac: "different"} == over.cases.verdicts()
    assert (over.cases[bc].speaks.note, over.cases[bc].speaks.decider) == ("another Bob", "ann")
    with pytest.raises(InvalidInput, match=f"by deciding the conflict {conflict.case_id}"):
        over.cases.undo(bc)
    assert over.cases.undo(conflict.case_id).status == "open"
    assert over.cases[bc].verdict == "same"
    over.cases.undo(ac)
    assert over.cases[conflict.case_id].status == "withdrawn"
    over.cases.undo(ab)
    over.cases.undo(bc)


def test_what_another_run_decided_is_taken_over_for_the_same_cases(over, tmp_path):
    ab, _, _, cd = list(over.cases)[:4]
    over.cases.decide(cd, "unsure", decider=Decider("gpt", "LLM"), note="hm")
    over.cases.decide(ab, "same", decider="ann")
    with Lab(tmp_path / "runs", workers=1) as lab:
        again = lab.start(asking()).wait(60)
        again.cases.decide(ab, "different")
        assert again.cases.adopt(over) == [cd]
        assert again.cases.adopt(over) == []
        assert again.cases.verdicts() == {ab: "different", cd: "unsure"}
        assert again.cases.where("false") == []
        decided = again.cases.where("status = 'decided'")
        assert [(case.case_id, len(case.verdicts)) for case in decided] == [(ab, 1), (cd, 1)]
        assert (again.cases[cd].speaks.decider_kind, again.cases[cd].speaks.note) == ("LLM", "hm")


def draft(topic):
    return {"text": f"about {topic}"}


def test_an_interrupted_run_takes_a_verdict_and_follows_it_once_it_is_resumed(tmp_path):
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(Pipeline([{"task": draft, "gate": "person"}, str], input="owls"), name="line")
        run.cases.wait(60)
    with Lab(tmp_path / "runs", workers=1) as lab:
        left = lab.runs["line"]
        left.cases.decide("draft", "reject", note="shorter")
        assert left.cases.undo("draft").status == "open"
        left.cases.decide("draft", "pass")
        assert left.status == "interrupted"
        assert lab.resume("line").wait(60).output == "{'text': 'about owls'}"
        assert left.cases.decide("draft", "reject", force=True).verdict == "reject"
        left.cases.undo("draft")
    with Lab(tmp_path / "runs", read_only=True) as lab:
        over = lab.runs["line"]
        assert over.cases["draft"].verdict == "pass"
        with pytest.raises(LabError, match="this lab only looks on"):
            over.cases.decide("draft", "reject", force=True)


def test_a_sidecar_takes_verdicts_about_runs_that_are_over(sidecar_path):
    with Lab(sidecar_path, workers=1, broker="sidecar") as lab:
        run = lab.start(asking()).wait(60)
        case_id = next(iter(run.cases))
        assert run.cases.decide(case_id, "same").verdict == "same"
        with pytest.raises(InvalidInput, match="is decided"):
            run.cases.decide(case_id, "different")
        assert run.cases.undo(case_id).status == "open"


KERNEL = """
import pathlib, signal, sys
from epsilon_lab import Lab, MapReduce

place, state = pathlib.Path(sys.argv[1]), sys.argv[2]

def asks(outputs, *, flag=None):
    flag(key="it", question="Is it?", options=["yes", "no"])
    return outputs

def waits(item):
    while item and not (place / "go").exists():
        pass
    return item

lab = Lab(place / "runs", workers=2)
items = [0] * 8 + [state == "live"] + [0] * 7  # one worker is kept from its end, the other reduces
run = lab.start(MapReduce(items, map=waits, reduce=asks, arity=8), name="line")
case = run.cases.wait()
run.wait() if state == "over" else None
run.cases.decide(case.case_id, "yes", note="sure")
(place / "decided").touch()
signal.pause()
"""


@pytest.mark.parametrize("state", ["over", "live"])
def test_a_verdict_survives_a_kernel_that_is_killed_right_after(kill_kernel, tmp_path, state):
    kill_kernel(KERNEL, "decided", state)
    with Lab(tmp_path / "runs", read_only=True) as lab:
        [case] = [lab.runs["line"].cases[name] for name in lab.runs["line"].cases]
        assert (case.verdict, case.speaks.note) == ("yes", "sure")
