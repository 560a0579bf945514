"""Teams at work at once, each on a branch of its own: merged, fixed where they conflict, mended where QA says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epsilon_lab import LLM, Agent, Command, Lab, Tree, current_task
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.processes.repository import is_installed
from epsilon_lab.testing.model_server import Call, Cast, ModelServer, Play

pytestmark = pytest.mark.skipif(not is_installed(), reason="git is not installed: apt-get install git")


def writing(path, text):
    def write(inputs):
        place = current_task().workspace / path
        place.parent.mkdir(parents=True, exist_ok=True)
        seen = sorted(each.relative_to(current_task().workspace).as_posix() for each in place.parent.rglob("*.*"))
        place.write_text(text)
        return {"inputs": inputs, "seen": seen}

    return write


def both(request):
    """A fixer that keeps what both sides say."""
    place = Path(request["workspace"])
    for name in request["meta"]["conflicts"]:
        lines = (place / name).read_text().splitlines(keepends=True)
        (place / name).write_text("".join(line for line in lines if line[:4] not in ("<<<<", "====", ">>>>")))
    return "kept both"


def log(run, *what):
    command = ["git", "log", "--format=%an: %s", *what]
    return subprocess.run(command, cwd=run.path / "repository", capture_output=True, text=True, check=True).stdout


TWO = [
    {"id": "api", "plan": [{"id": "one", "task": writing("one.txt", "1\n")},
                           {"id": "two", "task": writing("shared.txt", "api\n"), "depends_on": ["one"]}]},
    {"id": "web", "task": writing("shared.txt", "web\n")},
]  # fmt: skip


def test_branches_that_conflict_are_resolved_and_what_qa_finds_is_mended_on_main(lab, tmp_path):
    def late(inputs):
        is_told = any("empty" in each.text for each in current_task().feedback)
        Path(current_task().workspace, "late.txt").write_text("full\n" if is_told else "")

    def qa(inputs):
        assert set(inputs) == {"api.one", "api.two", "web.work", "docs.write"}
        text = Path(current_task().workspace, "late.txt").read_text()
        error = {"id": "e1", "file": "late.txt", "description": "it is empty", "node": "docs.write"}
        return {"status": "pass" if text else "fail", "errors": [error] * (not text)}

    docs = {"id": "docs", "plan": [{"id": "write", "task": late}], "depends_on": ["api"]}
    run = lab.start(Tree([*TWO, docs], fixer=both, qa=qa)).wait(60)
    assert run.reason == "4 of 4 nodes are done, and all teams are merged; QA passed in wave 2"
    assert run.output["commit"] == log(run, "-1", "--format=%H").strip()
    assert set(run.output["teams"]) == {"api", "web", "docs"}
    one, two, web, _ = run.results()
    assert two == {"inputs": {"one": one}, "seen": ["one.txt"]}, "by the names in its plan, with its team's files"
    assert web["seen"] == [], "and not with another's"
    authors = [line.partition(":")[0] for line in log(run, "main").splitlines()]
    assert authors[0] == "docs.write~2"
    assert {"api.one", "api.two", "web.work", "docs.write"} < set(authors)
    assert set(log(run, "team/api").splitlines()) == {
        "api.two: Work of api.two", "api.one: Work of api.one", "epsilon_lab: What the teams begin from",
    }  # fmt: skip
    run.export(tmp_path / "product")
    tree = {each.name: each.read_text() for each in (tmp_path / "product").iterdir()}
    assert tree == {"one.txt": "1\n", "shared.txt": "api\nweb\n", "late.txt": "full\n"}
    head = {each.name: each.read_text() for each in (run.path / "repository").iterdir() if each.is_file()}
    assert head == tree
    tasks = run.frame("tasks").set_index("task_id")
    assert list(tasks.loc["docs.branch", "depends_on"]) == ["repository", "api.commit"]
    assert tasks.loc["web.merge.resolve", "kind"] == "resolve"


def test_nobody_to_resolve_a_conflict_ends_the_run_and_names_the_file(lab):
    run = lab.start(Tree(TWO))
    with pytest.raises(RunFailed, match=r"web\.merge: branches conflict in shared\.txt, and nobody is there"):
        run.wait(60)
    assert log(run, "-1", "team/web", "--format=%s").strip() == "Work of web.work"
    assert log(run, "-1", "main", "--format=%s").strip() == "Merge team api"
    assert not list((run.path / "repository").glob(".git/MERGE_HEAD"))


def test_a_fixer_that_leaves_markers_is_asked_again_and_given_up(lab):
    def halfway(request):
        place = Path(request["workspace"], "shared.txt")
        place.write_text(place.read_text() + "looked at\n")

    run = lab.start(Tree(TWO, fixer=halfway, fix_waves=2))
    with pytest.raises(RunFailed, match=r"conflict in shared\.txt after 2 tries"):
        run.wait(60)
    tasks = list(run.frame("tasks").task_id)
    assert tasks[-4:] == ["web.merge.resolve", "web.merge~2", "web.merge.resolve~2", "web.merge~3"]


def test_a_team_that_fails_keeps_the_others_work_and_can_be_done_again(lab, tmp_path):
    def broken(inputs):
        if not (tmp_path / "mended").exists():
            raise ValueError("no luck")
        return writing("w.txt", "w\n")(inputs)

    teams = [
        TWO[0],
        {"id": "web", "task": broken},
        {"id": "docs", "task": writing("d.txt", "d"), "depends_on": ["web"]},
    ]
    run = lab.start(Tree(teams, retries=0))
    with pytest.raises(RunFailed, match=r"not all teams are merged; web\.work: ValueError: no luck"):
        run.wait(60)
    assert run.output["teams"].keys() == {"api"}
    (tmp_path / "mended").touch()
    run.rerun("web.work")
    run.wait(60)
    assert sorted(run.files()) == ["d.txt", "one.txt", "shared.txt", "w.txt"]
    assert run.output["teams"].keys() == {"api", "web", "docs"}


def test_all_teams_begin_from_the_base(lab, tmp_path):
    base = tmp_path / "base"
    (base / ".git").mkdir(parents=True)
    (base / ".git" / "config").write_text("not ours")
    (base / "src").mkdir()
    (base / "src" / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (base / "src" / "run.sh").chmod(0o755)

    def look(inputs):
        ran = subprocess.run(["./run.sh"], cwd=current_task().workspace / "src", capture_output=True, check=True)
        Path(current_task().workspace, f"{current_task().task_id}.txt").write_bytes(ran.stdout)

    run = lab.start(Tree([{"id": "a", "task": look}, {"id": "b", "task": look}], base=base)).wait(60)
    assert sorted(run.files()) == ["a.work.txt", "b.work.txt", "src/run.sh"]
    assert (run.path / "repository" / "src" / "run.sh").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("teams", "said"),
    [
        ([TWO[0]], r"\$\.teams"),
        ("", "is blank"),
        ("Build it.", "there is no agent to divide it"),
        ([TWO[0], {"id": "api", "task": print}], r"\$\.teams\[1\]\.id"),
        ([TWO[0], {"id": "../x", "task": print}], r"\$\.teams\[1\]\.id"),
        ([TWO[0], {"id": "repository", "task": print}], "names a task of the run itself"),
        ([TWO[0], {"id": "b", "task": print, "depends_on": ["c"]}], r"\$\.teams\[1\]\.depends_on\[0\].*no team 'c'"),
        ([TWO[0], {"id": "b", "task": print, "depends_on": ["b"]}], "itself"),
        ([{"id": "a", "task": print, "depends_on": ["b"]}, {"id": "b", "task": print, "depends_on": ["a"]}], "a -> b"),
        ([TWO[0], {"id": "b"}], "nothing to do"),
        ([TWO[0], {"id": "b", "task": print, "plan": [{"id": "x", "task": print}]}], "both"),
        ([TWO[0], {"id": "b", "task": "Write it."}], "no agent to take it apart"),
        ([TWO[0], {"id": "b", "plan": [{"id": "merge", "task": print}]}], "each team has by itself"),
        ([TWO[0], {"id": "b", "plan": [{"id": "x", "task": print, "depends_on": ["y"]}]}], r"plan.*no node 'y'"),
        ([TWO[0], {"id": "b", "task": print, "members": 3}], "members"),
    ],
)
def test_teams_that_cannot_work_are_refused_before_anything_runs(teams, said):
    with pytest.raises(InvalidInput, match=said):
        Tree(teams)


def test_a_base_that_is_no_directory_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="must be a directory"):
        Tree(TWO, base=tmp_path / "nowhere")


# -- agents and programs -----------------------------------------------------------------------------------------------

TEAMS = {"teams": [{"id": "core", "task": "The core."}, {"id": "shell", "task": "The shell.", "depends_on": ["core"]}]}


def parts(name):
    nodes = [{"id": part, "task": f"Make {name} {part}.", "outputs": [f"{name}-{part}.txt"]} for part in ("x", "y")]
    return Call("done", {"output": {"nodes": nodes}})


def makes(name, part):
    wrote = Call("write", {"path": f"{name}-{part}.txt", "content": f"{name} {part}"})
    return Play((wrote, Call("done", {"output": "made"})))


COMPANY = Cast({
    "Divide this piece of work": Play((Call("done", {"output": TEAMS}),)),
    "The core.": Play((parts("core"),)),
    "The shell.": Play((parts("shell"),)),
    "Check the product": Play((Call("done", {"output": {"status": "pass"}}),)),
    **{f"Make {name} {part}.": makes(name, part) for name in ("core", "shell") for part in ("x", "y")},
})  # fmt: skip


def test_agents_divide_a_sentence_among_teams_that_take_their_part_apart(lab, monkeypatch):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test")
    with ModelServer(COMPANY) as server:
        agent = Agent(LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY"))
        run = lab.start(Tree("A thing with a core and a shell.", agent=agent, qa=agent)).wait(120)
    assert run.reason == "4 of 4 nodes are done, and all teams are merged; QA passed in wave 1"
    assert sorted(run.files()) == ["core-x.txt", "core-y.txt", "shell-x.txt", "shell-y.txt"]
    assert "core.x: Make core x." in log(run, "main")


PROGRAM = """
import json, sys
from pathlib import Path
context = json.loads(sys.stdin.readline())
name = context["agent_id"]
if context["item"] is None and "conflicts" in json.dumps(context["inputs"]):
    Path("same.txt").write_text("both")
else:
    Path("same.txt").write_text(name)
print(json.dumps({"type": "done", "result": name}))
"""


def test_programs_are_teams_and_fixers(lab):
    program = Command([sys.executable, "-c", PROGRAM])
    run = lab.start(Tree([{"id": "a", "task": program}, {"id": "b", "task": program}], fixer=program)).wait(60)
    assert run.files()["same.txt"].read_text() == "both"
    assert run.results() == ["a.work", "b.work"]


# -- kill -9 -----------------------------------------------------------------------------------------------------------

KERNEL = """
import sys
from pathlib import Path
from epsilon_lab import Lab, Tree, current_task

place = Path(sys.argv[1])

def work(inputs):
    task = current_task()
    Path(task.workspace, "same.txt").write_text(task.task_id)

def fixer(request):
    with open(place / "ran", "a") as mark:
        mark.write("x")
    while not (place / "go").exists():
        (place / "fixing").touch()
    Path(request["workspace"], "same.txt").write_text("both")

Lab(place / "runs", workers=2).start(
    Tree([{"id": name, "task": work} for name in "ab"], fixer=fixer), name="build").wait()
"""


def test_a_kernel_that_is_killed_while_branches_are_merged_goes_on_there(kill_kernel, tmp_path):
    kill_kernel(KERNEL, "fixing")
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.resume("build").wait(60)
        assert run.files()["same.txt"].read_text() == "both"
        attempts = run.frame("attempts").groupby("task_id").size().to_dict()
        assert {name for name, count in attempts.items() if count > 1} == {"b.merge.resolve"}
        assert json.loads((run.path / "stage_history.json").read_text())[0]["reason"].endswith("same.txt")
