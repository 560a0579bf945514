"""Flags of reducers and nodes in a real lab, and what `run.finalize()` makes of the verdicts."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from epsilon_lab import (
    Budget,
    Command,
    Dag,
    Lab,
    MapReduce,
    Pipeline,
    Retry,
    ShardedQueue,
    Supervisor,
    Tree,
    WorkQueue,
    current_task,
    ids,
)
from epsilon_lab.errors import InvalidInput, LabError, RunFailed, WorkspaceError
from epsilon_lab.processes.repository import is_installed
from epsilon_lab.testing.census import wait_until

WORDS = ["ann", "anna", "anne", "bo", "cy"]


def word(item):
    return [item]


def merge(outputs, *, flag=None):
    kept = []
    for word in sorted({word for output in outputs for word in output}):
        if kept and kept[-1][0] == word[0]:
            pair = [kept[-1], word]
            if flag(key=pair, question=f"{pair[0]} = {pair[1]}?", options=["same", "different"]) == "same":
                continue
        kept.append(word)
    return kept


def case_of(run, *key):
    return case_by(run, list(key))


def case_by(run, key):
    [found] = [case for case in map(run.cases.__getitem__, run.cases) if case.key == key]
    return found.case_id


def rows(frame):
    return [tuple(row) for row in frame.itertuples(index=False)]


def test_what_the_accepted_attempt_flags_is_a_case_and_nothing_else(lab, tmp_path):
    def asks_twice(outputs, *, flag):
        tries = tmp_path / "tries"
        tries.write_text((tries.read_text() if tries.exists() else "") + "x")
        flag(key=f"try {len(tries.read_text())}", question="Good?", options=["yes", "no"], score=0.5, kind="doubt")
        flag(key="always", question="Good?", options=["yes", "no"], evidence={"outputs": outputs}, reason="so it is")
        if len(tries.read_text()) == 1:
            raise ValueError("not this time")
        return len(outputs)

    run = lab.start(ShardedQueue([1, 2], abs, shards=1, reduce=asks_twice, retries=Retry(limit=1, base_s=0))).wait()
    second, always = run.cases.open
    assert (second.key, second.kind, second.score, second.flagged_by) == ("try 2", "doubt", 0.5, "asks_twice")
    assert (always.key, always.evidence, always.reason) == ("always", {"outputs": [1, 2]}, "so it is")
    assert always.tasks == tuple(run.frame("tasks").query("kind == 'reduce'")["task_id"])

    first = lab.start(MapReduce(WORDS, word, merge, arity=2)).wait()

    def edited(outputs, *, flag=None):
        return [*merge(outputs, flag=flag)]

    edited.__qualname__ = edited.__name__ = "merge"
    second = lab.start(MapReduce(WORDS[::-1], word, edited, arity=4)).wait()
    assert set(first.cases) == set(second.cases)
    assert case_of(first, "ann", "anna") == "c-406e5fea26d9"

    def wrong(item, *, flag):
        return flag(key=["a", item], question="?", options=["one"]) if item == 2 else item

    run = lab.start(WorkQueue([1, 2, 3], wrong)).wait()  # one failed row
    assert run.results("none") == [1, None, 3]
    [error] = run.failures["error"]
    assert error.startswith("InvalidInput: flag(key=['a', 2]) options: must be a list of two or more different texts")
    assert len(run.cases) == 0


HANDLERS = """
def upper(*, task_id, task_payload, task_root):
    return [task_payload["input_text"]]

def merge(*, task_id, task_payload, task_root, flag=None):
    kept = []
    for word in sorted({word for output in task_payload["child_outputs"] for word in output}):
        if kept and kept[-1][0] == word[0]:
            pair = [kept[-1], word]
            if flag(key=pair, question="One?", options=["same", "different"]) == "same":
                continue
        kept.append(word)
    return kept
"""


def test_finalized_files_and_outputs_follow_the_verdicts_and_undone_they_are_the_first_bytes(lab, tmp_path):
    (tmp_path / "handlers.py").write_text(HANDLERS)
    document = {
        "items": [{"id": name, "input_text": name} for name in WORDS],
        "output_root": "out",
        "map_task_template": "{item_id}",
        "map_executor": "python_handler",
        "map_payload": {"handler": "handlers.py:upper"},
        "reduce_executor": "python_handler",
        "reduce_payload": {"handler": "handlers.py:merge"},
        "reduce_task_template": "merge",
        "reduce_arity": 3,
    }
    (tmp_path / "job.json").write_text(json.dumps(document))

    def files():
        return {path.name: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.json"))}

    run = lab.start(MapReduce.from_manifest(tmp_path / "job.json")).wait()
    first = files()
    run.cases.decide(case_of(run, "ann", "anna"), "same", decider="eva")
    asked = case_of(run, "ann", "anna")
    assert rows(run.finalize()) == [
        ("reduce-l01-n0000~2", "$[1]", "anna", None, [asked]),
        ("reduce-l02-n0000~2", "$[1]", "anna", None, [asked]),
    ]
    assert run.output == json.loads(files()["final-summary.json"]) == ["ann", "anne", "bo", "cy"]
    second = files()
    assert second != first
    gone = run.cases[case_of(run, "anna", "anne")]
    assert (gone.status, gone.reason) == ("withdrawn", "nobody asks it any more")
    assert gone.case_id not in {case.case_id for case in run.cases.open}
    journal = (run.path / "journal.ndjson").read_bytes()
    assert run.finalize().empty
    assert files() == second
    assert (run.path / "journal.ndjson").read_bytes() == journal
    new = case_of(run, "ann", "anne")  # asked since anna is gone
    run.cases.decide(new, "same")
    run.finalize()
    assert run.output == ["ann", "bo", "cy"]
    together = [change[1:] for change in rows(run.finalize(since=0)) if change[0].startswith("reduce-l02")]
    assert together == [("$[1]", "anna", None, [asked]), ("$[2]", "anne", None, [new])]
    with pytest.raises(InvalidInput, match="since: must be an int"):
        run.finalize(since=-1)
    kept = (run.path / "verdicts" / "0002.json").rename(tmp_path / "kept")
    with pytest.raises(WorkspaceError, match=r"verdicts/0002\.json of run .* cannot be read .*; its outputs stand"):
        run.finalize(since=0)
    kept.rename(run.path / "verdicts" / "0002.json")
    run.cases.undo(new)
    run.cases.undo(asked)
    assert {change[-1][0] for change in rows(run.finalize())} <= {asked, new}
    assert gone.case_id in {case.case_id for case in run.cases.open}
    assert files() == first
    assert run.status == "completed"


def asks(given, *, flag=None):
    return flag(key="it", question="Which?", options=["a", "b"]) or "none"


def test_nodes_behind_one_that_asked_are_made_again(lab):
    def pick(inputs, *, flag=None):
        return {"name": flag(key="name", question="Which?", options=["ann", "bo"]) or "ann"}

    def greet(inputs):
        return f"hello {inputs['pick']['name']}"

    def other(inputs):
        return "other"

    nodes = [{"id": "pick", "task": pick}, {"id": "greet", "task": greet, "depends_on": ["pick"]}]
    run = lab.start(Dag([*nodes, {"id": "other", "task": other}])).wait()
    [case] = run.cases.open
    run.cases.decide(case.case_id, "bo")
    assert rows(run.finalize()) == [
        ("greet~2", "$", "hello ann", "hello bo", [case.case_id]),
        ("pick~2", "$.name", "ann", "bo", [case.case_id]),
    ]
    assert run.output == {"greet": "hello bo", "other": "other"}
    assert run.results() == [{"name": "bo"}, "hello bo", "other"]

    run = lab.start(WorkQueue([1, 2], asks)).wait()
    [case] = run.cases.open
    run.cases.decide(case.case_id, "b")
    assert [row[:4] for row in rows(run.finalize())] == [
        ("item-000000~2", "$", "none", "b"),
        ("item-000001~2", "$", "none", "b"),
    ]
    assert run.results() == ["b", "b"]

    class Plain:
        pass

    @dataclasses.dataclass
    class Knot:
        said: str | None
        itself: object = None

    def shows_what(item, *, flag=None):
        said = flag(key="it", question="Which?", options=["a", "b"])
        knot = Knot(said)
        knot.itself = knot
        return knot if item == "knot" else Plain()

    run = lab.start(WorkQueue(["plain", "knot"], shows_what)).wait()
    run.cases.decide(run.cases.open[0].case_id, "b")
    assert [row[:3] for row in rows(run.finalize())] == [("item-000001~2", "$", "nested too deeply to be shown")]


def test_stages_reviewed_nodes_and_teams_that_asked_are_made_again_and_judged_again(lab, tmp_path):
    def text(inputs, *, flag=None):
        chosen = flag(key="text", question="Which?", options=["a", "b"]) or "none"
        (current_task().workspace / "text.txt").write_text(chosen)
        return chosen

    def shout(given):
        return (given if isinstance(given, str) else given["first"]).upper()

    def judge(request, *, flag=None):
        with (tmp_path / "judged").open("a") as judged:
            judged.write(flag(key="judge", question="Will it do?", options=["yes", "no"]) or "-")
        return {"verdict": "pass", "reason": ""}

    second = {"id": "second", "task": shout}
    plan = [{"id": "first", "task": text}, {**second, "depends_on": ["first"]}]
    runs = [
        lab.start(Pipeline([{"id": "first", "task": text, "gate": judge}, second])),
        lab.start(Supervisor(plan, review=judge)),
    ]
    if is_installed():
        teams = [{"id": "api", "plan": plan}, {"id": "web", "task": asks, "depends_on": ["api"]}]
        runs.append(lab.start(Tree(teams, fixer=judge)))
    for run in runs:
        run.wait()
        [case] = run.cases.where("flagged_by = 'text'")
        if run.topology != "tree":
            [of_judge] = run.cases.where("flagged_by = 'judge'")
            run.cases.decide(of_judge.case_id, "yes")
            assert run.finalize().empty  # nothing is made anew for it alone
        judged = (tmp_path / "judged").read_text()
        run.cases.decide(case.case_id, "b")
        changes = {row[0].removeprefix("api."): row[2:] for row in rows(run.finalize())}
        assert changes["first~2"] == ("none", "b", [case.case_id])
        assert changes["second~2"] == ("NONE", "B", [case.case_id])
        assert run.status == "completed"
        assert run.finalize().empty
        if run.topology == "tree":
            assert (run.path / "repository" / "text.txt").read_text() == "b"
        else:
            assert (tmp_path / "judged").read_text().removeprefix(judged) in ("yes", "yesyes")


def test_qa_that_asked_looks_again_and_nobody_mends_what_it_finds_then(lab, tmp_path):
    def qa(inputs, *, flag=None):
        said = flag(key=sorted(inputs), question="Will it do?", options=["yes", "no"])
        return "it will not do" if said == "no" else None

    program = {"id": "program", "task": Command(["sh", "-c", 'echo \'{"type": "done"}\''], confine=False)}
    run = lab.start(Dag([{"id": "asks", "task": asks}, program], qa=qa)).wait()
    [case] = run.cases.where("flagged_by = 'qa'")
    run.cases.decide(case.case_id, "no")
    with pytest.raises(RunFailed, match="and nothing is mended where a run is finalised: it will not do"):
        run.finalize()
    assert run.frame("tasks")["task_id"].tolist() == ["asks", "program", "qa", "qa~2"]
    assert run.finalize().empty
    run.cases.undo(case.case_id)
    assert rows(run.finalize()) == [("qa~3", "$", "it will not do", None, [case.case_id])]
    assert run.status == "completed"

    [other] = run.cases.where("flagged_by = 'asks'")
    run.cases.decide(case.case_id, "no")  # and what QA looks at is made anew
    run.cases.decide(other.case_id, "b")
    with pytest.raises(RunFailed, match="it will not do"):
        run.finalize()
    assert run.frame("tasks")["task_id"].tolist()[4:] == ["qa~3", "asks~2", "qa~4"]
    assert run.finalize().empty


def test_whoever_would_have_to_be_asked_is_named_and_nothing_is_changed(lab):
    program = {"id": "b", "task": Command(["true"], confine=False), "depends_on": ["a"]}
    runs = {
        "b would be done again, and it is no function": lab.start(Dag([{"id": "a", "task": asks}, program])),
        "a.gate would be done again, and a person": lab.start(Pipeline([{"task": asks, "id": "a"}], gate="person")),
    }
    for named, run in runs.items():
        if run.topology == "pipeline":
            assert wait_until(lambda: [case for case in run.cases.open if case.kind == "gate"], within_s=30)  # noqa: B023
            [gate] = [case for case in run.cases.open if case.kind == "gate"]
            run.cases.decide(gate.case_id, "pass")
        assert wait_until(lambda: run.status != "running", within_s=30)  # noqa: B023 - within this turn
        [case] = [case for case in run.cases.open if case.flagged_by == "asks"]
        run.cases.decide(case.case_id, "b")
        tasks = rows(run.frame("tasks")[["task_id", "status"]])
        with pytest.raises(LabError, match=f"cannot be finalised: {named}"):
            run.finalize()
        assert rows(run.frame("tasks")[["task_id", "status"]]) == tasks
        assert not (run.path / "verdicts").exists()
    echo = """read told; case "$told" in *none*) said=none ;; *) said=b ;; esac
        echo '{"type": "done", "result": "'$said'"}'"""
    program["task"] = Command(["sh", "-c", echo], confine=False)
    run = lab.start(Dag([{"id": "a", "task": asks}, program])).wait()
    run.cases.decide(run.cases.open[0].case_id, "b")
    with pytest.raises(LabError, match=r"b would be done again.*run\.finalize\(ask=True\) has it done again"):
        run.finalize()
    assert [row[:4] for row in rows(run.finalize(ask=True))] == [("a~2", "$", "none", "b"), ("b~2", "$", "none", "b")]
    with pytest.raises(InvalidInput, match="ask: must be True or False"):
        run.finalize(ask=1)


@pytest.mark.skipif(not is_installed(), reason="git is not installed: apt-get install git")
def test_a_program_that_has_resolved_a_conflict_is_not_asked_about_it_again_nor_about_another(lab, tmp_path):
    def put(team):
        def work(inputs, *, flag=None):
            told = flag(key=team, question="How?", options=["so", "otherwise"]) or "so"
            (current_task().workspace / "same.txt").write_text(f"{team} {told if told != 'so' else ''}\n")
            (current_task().workspace / f"{team}.txt").write_text(
                str(flag(key="own", question="?", options=["a", "b"]))
            )

        return work

    resolve = f"""read told; echo x >> {tmp_path}/asked; echo both > same.txt; echo '{{"type": "done"}}'"""
    teams = [{"id": name, "task": put(name)} for name in "xy"]
    run = lab.start(Tree(teams, fixer=Command(["sh", "-c", resolve], confine=False))).wait()

    def files():
        return {path.name: path.read_text() for path in (run.path / "repository").glob("*.txt")}

    assert files() == {"same.txt": "both\n", "x.txt": "None", "y.txt": "None"}
    run.cases.decide(case_by(run, "own"), "a")
    run.finalize()
    assert files() == {"same.txt": "both\n", "x.txt": "a", "y.txt": "a"}
    run.cases.decide(case_by(run, "x"), "otherwise")
    with pytest.raises(
        RunFailed, match=r"y\.merge: branches conflict in same\.txt as they have not before, .* run\.rerun"
    ):
        run.finalize()
    assert (tmp_path / "asked").read_text() == "x\n"
    run.cases.undo(case_by(run, "x"))
    run.finalize()
    assert (run.status, files()["same.txt"], (tmp_path / "asked").read_text()) == ("completed", "both\n", "x\n")


def test_failed_and_stopped_runs_are_finalized_with_what_they_have(lab, tmp_path):
    def picky(outputs, *, flag=None):
        if flag(key="it", question="Go on?", options=["yes", "no"]) == "no":
            raise ValueError("told not to")
        return sum(outputs)

    run = lab.start(MapReduce([1, 2], abs, picky)).wait()
    [case] = run.cases.open
    run.cases.decide(case.case_id, "no")
    with pytest.raises(RunFailed, match="told not to"):
        run.finalize()
    assert run.status == "failed"
    run.cases.undo(case.case_id)
    assert [row[1:4] for row in rows(run.finalize())] == [("$", None, 3)]
    assert (run.status, run.output) == ("completed", 3)
    run.cases.decide(case.case_id, "no")
    for _ in range(2):  # and it is said each time: an empty frame would mean that all is well
        with pytest.raises(RunFailed, match="told not to"):
            run.finalize()
    run.cases.undo(case.case_id)
    run.cases.decide(case.case_id, "yes")
    run.finalize()
    assert (run.status, run.output) == ("completed", 3)

    def slow(inputs):
        (tmp_path / "begun").touch()
        wait_until(lambda: False, within_s=30)

    run = lab.start(Dag([{"id": "a", "task": asks}, {"id": "slow", "task": slow}]))
    assert wait_until(lambda: run.cases.open and (tmp_path / "begun").exists(), within_s=60)
    with Lab(lab.path, read_only=True) as onlooker, pytest.raises(LabError, match="only looks on"):
        onlooker.runs[run.run_id].finalize()  # at once
    run.stop()
    run.wait()
    run.cases.decide(run.cases.open[0].case_id, "b")
    reason = run.reason
    assert [row[:4] for row in rows(run.finalize())] == [("a~2", "$", "none", "b")]
    assert run.status == lab.sql("select status from runs where run_id = ?", [run.run_id])["status"].item() == "stopped"
    assert run.reason.startswith(f"{reason}; finalised: ")


def test_a_cap_puts_cases_off_in_plain_sight(lab):
    def doubts(outputs, *, flag=None):
        for place, score in enumerate([0.1, 0.9, None, 0.5]):
            flag(key=place, question="?", options=["a", "b"], score=score)
        return sum(outputs)

    run = lab.start(MapReduce([1], abs, doubts), budget=Budget(cases=2)).wait()
    assert [case.key for case in run.cases.open] == [1, 3]
    assert [case.key for case in run.cases.deferred] == [0, 2]
    run.cases.decide(run.cases.deferred[1].case_id, "a")  # all the same
    assert [case.key for case in run.cases.open] == [1]
    counts = lab.sql("select status, count(*) as n from cases where run_id = $run group by 1", {"run": run.run_id})
    assert dict(rows(counts)) == {"open": 1, "decided": 1, "deferred": 2}


def test_it_says_what_to_do_where_it_cannot_be_done(lab, tmp_path):
    run = lab.start(MapReduce(WORDS, word, merge)).wait()
    run.cases.decide(case_of(run, "ann", "anna"), "same")
    with Lab(lab.path, read_only=True) as onlooker, pytest.raises(LabError, match="only looks on"):
        onlooker.runs[run.run_id].finalize()
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(run.path, tmp_path / "elsewhere" / run.run_id)
    with Lab(tmp_path / "elsewhere", workers=1) as lab:
        stranger = lab.runs[run.run_id]
        with pytest.raises(InvalidInput, match=r"born in another workspace.*trust=True"):
            stranger.finalize()
        assert [row[2] for row in rows(stranger.finalize(trust=True))] == ["anna"]
    assert run.output == ["ann", "anna", "anne", "bo", "cy"]


KERNEL = """
import sys
from pathlib import Path
from epsilon_lab import Lab, MapReduce
from epsilon_lab.testing.census import wait_until

HERE = Path(sys.argv[1])

def word(item):
    return [item]

def merge(outputs, *, flag=None):
    words = sorted({word for output in outputs for word in output})
    if words[0] == "ann" and flag(key="ann", question="One?", options=["same", "different"]) == "same":
        (HERE / "again").touch()
        wait_until((HERE / "go").exists, within_s=60)
        words = words[1:]
    return words

lab = Lab(HERE / "runs", workers=2)
run = lab.start(MapReduce(["ann", "bo", "cy", "di"], word, merge, arity=2), name="cut").wait()
run.cases.decide(run.cases.open[0].case_id, "same")
run.finalize()
"""


@pytest.mark.long
def test_killed_in_the_middle_of_it_and_resumed_it_ends_the_same(tmp_path, kill_kernel):
    kill_kernel(KERNEL, "again")
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.runs["cut"]
        assert run.status == "interrupted"
        with pytest.raises(LabError, match=r"is interrupted.*finalize"):
            run.finalize()
        run = lab.resume(run.run_id).wait()
        assert run.output == ["bo", "cy", "di"]
        for _ in range(2):  # nobody can know whether he was told
            assert [row[1:4] for row in rows(run.finalize())] == [("$[0]", "ann", None)] * 2
        [case] = run.cases.where("status = 'decided'")
        run.cases.undo(case.case_id)
        assert [row[1:4] for row in rows(run.finalize(since=1))] == [("$[0]", None, "ann"), ("$[0]", None, "ann")]
        assert run.finalize().empty


@pytest.mark.long
def test_a_sidecars_run_is_finalized_there(sidecar_path):
    with Lab(sidecar_path, workers=1, broker="sidecar") as lab:
        run = lab.start(MapReduce(WORDS, word, merge, arity=3)).wait()
        assert run.finalize().empty
        run.cases.decide(case_of(run, "ann", "anna"), "same")
        assert [row[1:4] for row in rows(run.finalize())] == [("$[1]", "anna", None)] * 2
        assert run.output == ["ann", "anne", "bo", "cy"]


@pytest.mark.long
def test_a_reducer_flags_fifty_thousand_cases(lab):
    def many(outputs, *, flag=None):
        asked = {"question": "Are they one?", "options": ["same", "different"], "reason": "near spelling"}
        pairs = ([f"name {place}", f"name {place + 1}"] for place in range(50_000))
        return sum(flag(key=pair, evidence={"names": pair}, score=0.5, **asked) == "same" for pair in pairs)

    run = lab.start(MapReduce([1], word, many)).wait()
    assert len(run.cases) == 50_000
    asked = ids.case_id("many", ["name 7", "name 8"])
    run.cases.decide(asked, "same")
    assert [row[1:] for row in rows(run.finalize())] == [("$", 0, 1, [asked])]
