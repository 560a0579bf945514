"""A run that its lab left unfinished goes on in another: nothing finished is done again; what cannot go on says why."""

import errno
import itertools
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

import msgspec
import pytest

from epsilon_lab import LLM, Budget, Lab, PopulationSearch, Problem, WorkQueue, problems
from epsilon_lab.errors import InvalidInput, JournalDamaged, LabError, RunFailed
from epsilon_lab.messages.events import ArtifactSaved, RunAdopted
from epsilon_lab.processes.isolation import Isolation
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import Hang, ModelServer
from epsilon_lab.topologies.recovery import recover
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.scan import seal

NUMBERS = {"population": 4, "generations": 4, "elites": 1, "diverse": 1, "fresh": 1, "patience": None}


def toy():
    return Problem("toy", "Return a large number.", "def solve():\n    return 10 + 5\n", score=float)


def proposer(context):
    return f"def solve():\n    return {context.best.score} + {context.dice.randrange(50)}\n"


def search():
    return PopulationSearch(toy(), proposer, **NUMBERS)


def gate(path):
    """A work queue's function that notes each execution, and from item 2 on waits for `path/go`."""

    def held(item):
        import os
        import select

        with open(path / f"did-{item}", "a") as file:
            file.write("x")
        while item >= 2 and not os.path.exists(path / "go"):
            select.select([], [], [], 0.02)
        return item * 10

    return held


def lines(run, kind):
    return [record for record in read_journal(run.path / "journal.ndjson").records if record.type == kind]


def lineage(run):
    columns = ["candidate_id", "parent_ids", "code_hash", "outcome", "score"]
    return run.candidates[columns].astype(str).sort_values("candidate_id").values.tolist()


def leave(path, topology, until, **arguments):
    """Start a run, wait until its journal has so many lines of a type, and close its lab."""
    kind, count = until
    with Lab(path, workers=1) as lab:
        run = lab.start(topology, **arguments)
        assert wait_until(lambda: len(lines(run, kind)) >= count, within_s=60)
    return run.run_id


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_search_goes_on_to_the_same_end(runs):
    run_id = leave(runs, search(), ("stage.generation", 2))
    with Lab(runs, workers=2) as lab:
        before = lab.runs[run_id]
        assert before.status == "interrupted"
        assert repr(before) == f"<SearchRun {run_id}: interrupted>"
        assert f"lab.resume({run_id!r})" in before.reason
        with pytest.raises(RunFailed, match="resume"):
            before.wait(1)
        with pytest.raises(LabError, match="resume"):
            before.pause()
        with pytest.raises(LabError, match="resume"):
            before.stop()
        done = {task for task, status in before.frame("tasks")[["task_id", "status"]].values if status == "completed"}
        assert len(done) > 8
        run = lab.resume(run_id)
        assert run.wait(60).status == "completed"
        assert before.status == "completed"
        unbroken = lab.start(search()).wait(60)
        assert lineage(run) == lineage(unbroken)
        attempts = run.frame("attempts")
        again = attempts[attempts["task_id"].isin(done) & (attempts["outcome"] == "completed")]
        assert len(again) == len(done), "what was done is not done again"
        # `stale`: taken back from a busy worker and answered all the same, which a loaded machine makes likely
        assert (attempts["outcome"].isin(["completed", "lost", "stale"])).all()
        assert (run.path / "leaderboard.json").read_bytes() == (unbroken.path / "leaderboard.json").read_bytes()
        with pytest.raises(InvalidInput, match=rf"run {run_id}: is completed \(all 4 .* nothing left .* to resume"):
            lab.resume(run_id)


def test_a_work_queue_goes_on_by_name_and_does_nothing_twice(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(5), gate(tmp_path)), ("task.completed", 2), name="five")
    with Lab(runs, workers=2) as lab:
        run = lab.resume("five")
        assert run.run_id == run_id
        assert run.status == "running"
        assert lab.resume(run_id) is run, "a cell may be run again"
        (tmp_path / "go").touch()
        assert run.wait(60).results() == [0, 10, 20, 30, 40]
    assert [(tmp_path / f"did-{item}").read_text() for item in range(2)] == ["x", "x"]
    [adopted] = lines(run, "run.adopted")
    assert msgspec.json.decode(adopted.body, type=RunAdopted).epoch == 2


def test_it_may_be_left_again_and_again(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(4), gate(tmp_path)), ("task.completed", 2))
    for epoch in (2, 3):
        with Lab(runs, workers=1) as lab:
            run = lab.resume(run_id)
            assert wait_until(lambda run=run, n=epoch: len(lines(run, "task.assigned")) > n, within_s=60)
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab:
        run = lab.resume(run_id).wait(60)
        assert run.results() == [0, 10, 20, 30]
        attempts = run.frame("attempts").query("task_id == 'item-000002'").sort_values("fence")
        assert attempts["attempt"].tolist() == [1, 2, 3, 4], "attempts are counted on"
        assert attempts["outcome"].tolist() == ["lost", "lost", "lost", "completed"], "and nobody is blamed"


def test_a_paused_run_goes_on_when_it_is_resumed(runs, tmp_path):
    with Lab(runs, workers=1) as lab:
        run = lab.start(WorkQueue(range(3), gate(tmp_path)))
        run.pause()
        assert lab.resume(run.run_id).status == "running"
        run.pause()
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab:
        again = lab.resume(run.run_id)
        assert again.status == "running"
        assert again.wait(60).results() == [0, 10, 20]
        assert lab.runs[run.run_id].frame("events")["type"].tolist().count("run.resumed") == 2


def waiting(path):
    """A proposer that waits for `path/go` in generation 1, and shows the brief it was given."""
    go = str(path / "go")

    def waits(context):
        import os
        import select

        while context.generation == 1 and not os.path.exists(go):
            select.select([], [], [], 0.02)
        return proposer(context) + f"# {context.brief}".replace("\n", " ")

    return PopulationSearch(toy(), waits, **NUMBERS)


def test_a_persons_brief_is_kept(runs, tmp_path):
    with Lab(runs, workers=1) as lab:
        run = lab.start(waiting(tmp_path))
        assert wait_until(lambda: lines(run, "stage.brief"), within_s=60)
        run.brief(0, text="Think of symmetry.")
    (run.path / "briefs" / "g000.md").write_text("what a crash left here, which no line speaks of")
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab:
        run = lab.resume(run.run_id).wait(60)
        assert "Think of symmetry." in run.brief(1), "it is handed on at the foot of later briefs"
        assert (run.path / "briefs" / "g000.md").read_text() == "Think of symmetry."
        assert "# Think of symmetry." in run.candidate("g001-c002").source


def test_a_program_of_a_proposal_under_way_may_be_any(runs, tmp_path):
    run_id = leave(runs, waiting(tmp_path), ("stage.generation", 1))
    (runs / run_id / "candidates" / "g001-c002.py").write_text("half a prog")
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab:
        assert lab.resume(run_id).wait(60).candidate("g001-c002").outcome == "scored"


def test_the_runs_own_clock_goes_on_from_where_it_stood(runs, tmp_path):
    queue = WorkQueue(range(3), gate(tmp_path))
    run_id = leave(runs, queue, ("task.completed", 2), budget=Budget(seconds=4_000))
    journal = Journal.open(runs / run_id / "journal.ndjson")
    last = read_journal(journal.path).records[-1].ts
    journal.append(last + 5_000, ArtifactSaved(path="note.txt", kind="note", sha256="", bytes=0))
    journal.close()
    with Lab(runs, workers=1) as lab:
        run = lab.resume(run_id).wait(60)
        assert run.reason.startswith("the budget of 4000 s was used up")


def test_what_was_never_committed_is_cut_and_reported(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 2))
    torn = b'{"seq":99,"ts":1.0,"type":"task.comp'
    with (runs / run_id / "journal.ndjson").open("ab") as journal:
        journal.write(torn)
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab, pytest.warns(RuntimeWarning, match=rf"last {len(torn)} bytes of .*{run_id}"):
        run = lab.resume(run_id).wait(60)
    *_, adopted = lines(run, "run.adopted")
    assert msgspec.json.decode(adopted.body, type=RunAdopted).torn == len(torn)


@pytest.mark.parametrize("door", ["lab", "core"])
def test_a_run_is_resumed_once_however_many_ask(runs, tmp_path, monkeypatch, door):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 2))
    together = threading.Barrier(2)

    def slow(*arguments, **options):
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3)  # time for whoever else may come as far as this
        return recover(*arguments, **options)

    monkeypatch.setattr("epsilon_lab.hosts.core.recover", slow)
    with Lab(runs, workers=1) as lab, ThreadPoolExecutor(2) as threads:
        ask = lab.resume if door == "lab" else partial(lab._core.resume, trust=False)
        one, other = threads.map(ask, [run_id, run_id])
        assert one is other
        (tmp_path / "go").touch()  # not before: to resume what has ended meanwhile is refused
        run = lab.runs[run_id].wait(60)
        assert run.results() == [0, 10, 20]
    assert len(lines(run, "run.adopted")) == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished search, and the ends of the groups of its journal."""
    runs = tmp_path_factory.mktemp("whole")
    with Lab(runs, workers=2) as lab:
        run = lab.start(search()).wait(60)
        rows = lineage(run)
    ends, position = [], 0
    for line in (run.path / "journal.ndjson").read_bytes().splitlines(keepends=True):
        position += len(line)
        if line.startswith(b'{"commit"'):
            ends.append(position)
    return run.path, ends, rows


@pytest.mark.parametrize("share", [0.3, *(pytest.param(share, marks=pytest.mark.long) for share in (0.0, 0.6, 0.99))])
def test_cut_after_a_commit_a_real_search_ends_as_it_did(runs, whole, share):
    path, ends, rows = whole
    run = runs / path.name
    runs.mkdir()
    shutil.copytree(path, run)
    with (run / "journal.ndjson").open("r+b") as journal:
        journal.truncate(ends[int(share * (len(ends) - 1))])
    with Lab(runs, workers=2) as lab:
        resumed = lab.resume(run.name, trust=True).wait(60)
        assert lineage(resumed) == rows
        for name in ("leaderboard.json", "leaderboard.csv", "best_solution.py", "briefs/g002.md"):
            assert (run / name).read_bytes() == (path / name).read_bytes()


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(runs, run_id, problem, *, error=InvalidInput, broker="kernel", **arguments):
    """That a run is refused, and that nothing of it was changed."""
    before = {path: path.read_bytes() for path in sorted((runs / run_id).rglob("*")) if path.is_file()}
    with Lab(runs, workers=1, broker=broker) as lab:
        births = len(lab.sql("select 1 from events where type = 'lab.run'"))
        with pytest.raises(error, match=problem) as told:
            lab.resume(run_id, **arguments)
        assert len(lab.sql("select 1 from events where type = 'lab.run'")) == births
    assert {path: path.read_bytes() for path in sorted((runs / run_id).rglob("*")) if path.is_file()} == before
    return str(told.value)


def test_an_unknown_run_is_refused_and_what_there_is_is_named(runs, tmp_path):
    (tmp_path / "journal.ndjson").touch()  # not a run, though `..` would lead to it
    with Lab(runs, workers=1) as lab:
        known = lab.start(WorkQueue([1], abs)).wait(60).run_id
        for run_id in ("nosuch", "", "lab", "..", "a\0b", 7, None, "../runs"):
            with pytest.raises(InvalidInput, match="run_id: ") as told:
                lab.resume(run_id)
            if isinstance(run_id, str) and "\0" not in run_id:
                assert known in str(told.value)
        with pytest.raises(InvalidInput, match="trust: must be True or False"):
            lab.resume(known, trust="yes")


def test_a_run_born_elsewhere_is_refused_unless_it_is_trusted(runs, tmp_path):
    other = tmp_path / "other"
    for _ in range(3):
        Lab(runs, workers=1).close()
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 2))
    other.mkdir()
    shutil.copytree(runs / run_id, other / run_id)
    assert f"lab.resume({run_id!r}, trust=True)" in refused(other, run_id, "born in another workspace.*pickles")
    (tmp_path / "go").touch()
    with Lab(other, workers=1) as lab:
        run = lab.resume(run_id, trust=True).wait(60)
        assert run.results() == [0, 10, 20]
        fences = run.frame("attempts")["fence"]
        adopted = msgspec.json.decode(lines(run, "run.adopted")[-1].body, type=RunAdopted)
        assert adopted.epoch == 5, "larger than that of the lab it was left by, though this one is its second"
        assert fences.max() >> 40 == 5
        assert lab.start(WorkQueue([1], abs)).wait(60).frame("attempts")["fence"].max() >> 40 == 5


def test_a_run_that_is_copied_back_and_forth_has_ever_larger_fences(runs, tmp_path):
    """Two workspaces that know nothing of each other take the run up in turn, each where the other left it."""
    places = [runs, tmp_path / "other"]
    run_id = leave(runs, WorkQueue(range(6), gate(tmp_path)), ("task.completed", 2))
    epochs, fences = [1], []
    for turn in range(1, 5):
        here, there = places[turn % 2], places[1 - turn % 2]
        shutil.rmtree(here / run_id, ignore_errors=True)
        shutil.copytree(there / run_id, here / run_id)
        with Lab(here, workers=1) as lab:
            run = lab.resume(run_id, trust=True)
            assert wait_until(lambda run=run, n=turn: len(lines(run, "task.assigned")) > n, within_s=60)
        epochs.append(msgspec.json.decode(lines(run, "run.adopted")[-1].body, type=RunAdopted).epoch)
        fences.append([fence for _, _, fence in msgspec.json.decode(lines(run, "task.assigned")[-1].body)["tasks"]])
    assert epochs == sorted(set(epochs)), "each larger than all before"
    assert all(max(before) < min(after) for before, after in itertools.pairwise(fences))
    (tmp_path / "go").touch()
    with Lab(here, workers=1) as lab:
        run = lab.resume(run_id).wait(60)
        assert run.results() == [0, 10, 20, 30, 40, 50]
        assert run.frame("attempts")["fence"].is_unique
    assert [(tmp_path / f"did-{item}").read_text() for item in range(2)] == ["x", "x"], "what is done stays done"


def test_a_name_that_is_taken_by_a_live_run_is_refused(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 2), name="busy")
    with Lab(runs, workers=1) as lab:
        live = lab.start(WorkQueue(range(3), gate(tmp_path)), name="busy")
        with pytest.raises(InvalidInput, match=f"'busy' is the name of the live run {live.run_id}"):
            lab.resume(run_id)
        live.stop()


def test_a_model_without_its_key_is_refused_before_a_request_fails(runs, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "k")
    with ModelServer(lambda request: Hang()) as server:
        model = LLM("http/toy", api_base=server.url, api_key_env="TOY_KEY")
        run_id = leave(runs, PopulationSearch(toy(), model, brief=model, **NUMBERS), ("usage.llm_call", 4))
    monkeypatch.delenv("TOY_KEY")
    refused(runs, run_id, "the environment variable TOY_KEY is not set")
    monkeypatch.setenv("TOY_KEY", "k")
    with Lab(runs, workers=1) as lab:
        assert lab.resume(run_id).status == "running"


def test_a_lab_that_only_looks_on_resumes_nothing(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 1))
    with (
        Lab(runs, read_only=True) as lab,
        pytest.raises(LabError, match=r"only looks on and cannot resume a run.*Lab\("),
    ):
        lab.resume(run_id)


def test_a_damaged_journal_is_refused_with_its_place(runs, tmp_path):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 1))
    journal = runs / run_id / "journal.ndjson"
    journal.write_bytes(journal.read_bytes().replace(b'"run.started"', b'"run.sTarted"'))
    with pytest.warns(UserWarning, match="damaged"):
        refused(runs, run_id, "damaged at byte 0", error=JournalDamaged)


def test_a_run_of_which_nothing_is_on_record_is_refused(runs):
    (runs / "empty").mkdir(parents=True)
    (runs / "empty" / "journal.ndjson").touch()
    refused(runs, "empty", "nothing of it is on record; start it anew")


def test_a_run_of_a_topology_that_is_not_known_is_refused(runs, sidecar_path, tmp_path):
    run_id = leave(runs, WorkQueue(range(3), gate(tmp_path)), ("task.completed", 1))
    _write_again(runs / run_id / "journal.ndjson", b'"topology":"work_queue"', b'"topology":"of_tomorrow"')
    problem = "'of_tomorrow', which this version of epsilon_lab does not know"
    for broker in ("kernel", "sidecar"):
        refused(runs, run_id, problem, error=LabError, broker=broker)


def _write_again(path, old, new):
    """Put other words into a journal, whose checksums then say so."""
    data, group = b"", b""
    for line in path.read_bytes().replace(old, new).splitlines(keepends=True):
        is_commit = line.startswith(b'{"commit"')
        data += seal(group) + b"\n" if is_commit else line
        group = b"" if is_commit else group + line
    path.write_bytes(data)


def test_rules_that_were_edited_are_told_from_their_first_consequence(runs):
    run_id = leave(runs, search(), ("stage.generation", 1))
    plan = runs / run_id / "plan.json"
    plan.write_text(plan.read_text().replace('"seed": 17', '"seed": 18'))
    refused(
        runs, run_id, r"task.submitted, is not what .* its tasks.0.payload.json.seed is 17, .* give 18", error=LabError
    )
    plan.write_text("{}")
    refused(runs, run_id, "plan.json of run .* cannot be read", error=LabError)
    plan.unlink()
    refused(runs, run_id, "plan.json of run .* cannot be read", error=LabError)


def test_a_file_that_is_not_the_recorded_one_is_told(runs):
    run_id = leave(runs, search(), ("stage.generation", 2))
    with Lab(runs, workers=1) as lab:
        best = lab.runs[run_id].best.candidate_id
    source = runs / run_id / "candidates" / f"{best}.py"
    source.write_text(source.read_text() + "# mine\n")
    refused(runs, run_id, rf"its file candidates/{best}.py is another one.* line \d+ .*put it back", error=LabError)
    source.unlink()
    refused(runs, run_id, rf"its file candidates/{best}.py cannot be read \(No such file", error=LabError)


def test_whoever_starts_or_resumes_strangers_programs_is_warned_where_little_holds(runs, monkeypatch):
    weak = Isolation("namespaces+uid", missing={"seccomp": "not in this kernel; Linux 4.14 or later has it"})
    monkeypatch.setattr("epsilon_lab.lab.proved", lambda: weak)
    said = r"nobody has read will run confined by namespaces\+uid alone.* not from malice; seccomp: .* Linux 4.14"
    with pytest.warns(RuntimeWarning, match=said) as starting:
        run_id = leave(runs, search(), ("stage.generation", 1))
    with Lab(runs, workers=1) as lab:
        with pytest.warns(RuntimeWarning, match=said) as resuming:
            lab.resume(run_id).wait(60)
        assert {warning.filename for warning in (*starting, *resuming)} == {__file__}
        lab.start(PopulationSearch(problems.cap_set(4), population=2, generations=1, elites=0, diverse=0)).stop()


@contextmanager
def full_disk(run, what):
    """No byte more for this run's journal, or for one of its other files."""
    write, handle = os.write, run._runner._journal._handle

    def refuse(to, data):
        if to == handle:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(to, data)

    with pytest.MonkeyPatch.context() as patch:
        if what == "journal":
            patch.setattr("epsilon_lab.workspace.journal.os.write", refuse)
            yield
        else:
            (run.path / what).mkdir(parents=True)
            yield
            (run.path / what).rmdir()


@pytest.mark.parametrize("what", ["journal", "briefs/g001.md"])
def test_a_run_whose_disk_was_full_goes_on_in_the_same_lab(runs, tmp_path, what):
    held = waiting(tmp_path)
    with Lab(runs, workers=1) as lab:
        run = lab.start(held)
        assert wait_until(lambda: lines(run, "stage.brief"), within_s=60)
        with full_disk(run, what):
            (tmp_path / "go").touch()
            with pytest.raises(
                RunFailed, match=rf"interrupted: .*{run.run_id}.* cannot be .*lab.resume\('{run.run_id}"
            ):
                run.wait(60)
        assert not lines(run, "run.ended")
        assert lab.runs[run.run_id].frame("runs")["status"].tolist() == ["interrupted"]
        assert lineage(lab.resume(run.run_id).wait(60)) == lineage(lab.start(held).wait(60))
