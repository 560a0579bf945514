"""`env=`: keys reach those whom they were granted to, and no one and nothing else."""

import os
import sys

import pytest

from epsilon_lab import Lab, PopulationSearch, Problem, WorkQueue
from epsilon_lab.errors import InvalidInput, RunFailed

KEY, VALUE = "LAB_TEST_API_KEY", "sk-granted-0123456789"
SPY = f"""
import os

def solve():
    return [value for value in os.environ.values() if {VALUE[::-1]!r}[::-1] in value]
"""


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv(KEY, VALUE)


def has_key(item):
    return KEY in os.environ


def leak(item):
    value = os.environ[KEY]
    print("on stdout", value)
    print("on stderr", value, file=sys.stderr)
    if item == "die":
        sys.stdout.flush()
        os.abort()
    raise ValueError(f"with {value}")


def score(output):
    if output:
        raise ValueError("the program saw a key")
    return {"score": 1.0, "said": os.environ[KEY]}


def everything_in(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_a_key_reaches_the_tasks_it_was_granted_to_and_no_disk(broker, sidecar_path, key):
    with Lab(sidecar_path, workers=1, broker=broker) as lab:
        granted = lab.start(WorkQueue([1], has_key), env=(KEY,)).wait(60)
        beside = lab.start(WorkQueue([1], has_key)).wait(60)
        again = lab.start(WorkQueue([1], has_key), env=[KEY, KEY]).wait(60)
        assert [run.results() for run in (granted, beside, again)] == [[True], [False], [True]]
        failing = lab.start(WorkQueue(["raise", "die"], leak), env=(KEY,))
        with pytest.raises(RunFailed) as failed:
            failing.wait(60)
        assert VALUE not in str(failed.value)
        rows = failing.failures.set_index("task_id")
        assert not rows.map(lambda cell: VALUE in str(cell)).any(axis=None)
        assert rows["error"]["item-000000"] == f"ValueError: with [{KEY}]"
        assert rows["stdout_tail"]["item-000000"] == f"on stdout [{KEY}]\n"
        assert f"on stderr [{KEY}]" in rows["stderr_tail"]["item-000001"]
        assert lab.sql("select * from events where body::text like ?", [f"%{VALUE}%"]).empty
    for file, content in everything_in(sidecar_path).items():
        assert VALUE.encode() not in content, file


def test_a_judge_has_what_was_granted_and_a_candidate_never(lab, key):
    problem = Problem("spy", "Find a key.", SPY, score=score)
    sizes = {"population": 2, "generations": 1, "elites": 1, "diverse": 0, "fresh": 1}
    search = PopulationSearch(problem, lambda context: f"{SPY}\nNAME = {context.candidate_id!r}\n", **sizes)
    run = lab.start(search, env=(KEY,)).wait(60)
    assert set(run.candidates["outcome"]) == {"scored"}
    assert set(run.candidates["feedback"].map(lambda found: found["said"])) == {f"[{KEY}]"}
    for file, content in everything_in(run.path).items():
        assert VALUE.encode() not in content, file


def test_whoever_resumes_a_run_needs_what_its_tasks_were_granted(tmp_path, key, monkeypatch):
    with Lab(tmp_path, workers=1) as lab:
        run_id = lab.start(WorkQueue(range(200_000), has_key), env=(KEY,)).run_id
    monkeypatch.delenv(KEY)
    with Lab(tmp_path, workers=1) as lab:
        with pytest.raises(InvalidInput, match=f"granted {KEY}, which is not set; set it in this process first"):
            lab.resume(run_id)
        assert lab.runs[run_id].status == "interrupted"
        monkeypatch.setenv(KEY, VALUE)
        run = lab.resume(run_id)
        run.stop()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (KEY, "env: must list names of environment variables, got str"),
        ([3], "env: must list names"),
        ({KEY: VALUE}, "env: must list names"),
        (["LAB_NO_SUCH_KEY", "LAB_NOR_THIS"], "granted LAB_NO_SUCH_KEY and LAB_NOR_THIS, which are not set"),
    ],
)
def test_what_is_no_name_of_a_variable_that_is_set_is_refused(own_lab, env, said):
    with pytest.raises(InvalidInput, match=said):
        own_lab.start(WorkQueue([1], has_key), env=env)
    assert list(own_lab.runs) == []
