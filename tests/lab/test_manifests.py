"""Manifests through the lab: what was stated as a document runs, and its results are where it says."""

import json

import pytest

from epsilon_lab import LLM, Lab, PopulationSearch, WorkQueue
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import ModelServer, Status, Text, vary_number

HANDLERS = """
TIMES = 2

def twice(*, task_id, task_payload, task_root):
    text = (task_root / task_payload["input_ref"]).read_text()
    if "bad" in text:
        raise ValueError("a bad text")
    return {"id": task_id, "length": TIMES * len(text), "said": task_payload["instructions"]}

def closeness(output, payload):
    expected = open("expected.txt").read()
    if not isinstance(output, int):
        return {"correctness_passed": False, "error": "a whole number is wanted"}
    return {"correctness_passed": True, "gap": abs(output - int(expected)), "unit": payload["unit"]}
"""

QUEUE = {
    "items": [{"id": "b", "input_ref": "b.txt"}, {"id": "a", "input_ref": "a.txt", "output_ref": "out/a-special.json"}],
    "output_root": "out",
    "map_task_template": "map {item_id}",
    "map_executor": "python_handler",
    "map_payload": {"handler": "handlers.py:twice"},
}

SEARCH = {
    "task_ref": "task.md",
    "output_root": "found",
    "candidate_task_template": "See {task_ref}.",
    "review_task_template": "Also say how {score_field} changed.",
    "evaluation_handler": "handlers.py:closeness",
    "population_size": 4,
    "elite_count": 1,
    "diversity_count": 1,
    "fresh_count": 1,
    "review_top_k": 2,
    "score_field": "gap",
    "score_direction": "minimize",
    "max_generations": 2,
    "max_wall_time_seconds": 60,
    "min_improvement_delta": 0,
    "patience_generations": 9,
    "evaluation_payload": {"unit": "mm", "files": ["expected.txt"]},
    "candidate_payload": {"function_name": "solve", "baseline_solution_ref": "base.py"},
}


@pytest.fixture
def folder(tmp_path):
    here = tmp_path / "stated"
    here.mkdir()
    for name, text in {
        "handlers.py": HANDLERS, "a.txt": "aaa", "b.txt": "bb", "task.md": "# A number near 42", "expected.txt": "42",
        "base.py": "def solve():\n    return 10 + 5\n",
    }.items():  # fmt: skip
        (here / name).write_text(text)
    return here


def written(folder, document, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(document | changes))
    return path


def test_a_queue_s_outputs_are_found_by_item_id_and_in_files(lab, folder):
    run = lab.start(WorkQueue.from_manifest(written(folder, QUEUE))).wait(60)
    assert run.name == "manifest"
    assert run.output == {
        "b": {"id": "b", "length": 4, "said": "map b"},
        "a": {"id": "a", "length": 6, "said": "map a"},
    }
    assert [one["id"] for one in run.results()] == ["b", "a"]
    assert run.frame("tasks")["task_id"].tolist() == ["item-000000-b", "item-000001-a"]
    assert json.loads((folder / "out" / "maps" / "b.json").read_text()) == run.output["b"]
    assert json.loads((folder / "out" / "a-special.json").read_text()) == run.output["a"]
    assert not [path for path in folder.rglob("*") if path.name.startswith(".part")]


def test_an_item_that_fails_is_tried_again_and_then_has_no_output(lab, folder):
    (folder / "a.txt").write_text("bad")
    run = lab.start(WorkQueue.from_manifest(written(folder, QUEUE))).wait(60)
    assert run.output == {"b": {"id": "b", "length": 4, "said": "map b"}, "a": None}
    tasks = run.frame("tasks").set_index("task_id")
    assert (run.frame("attempts")["outcome"] == "failed").sum() == 2
    assert "a bad text" in tasks["error"]["item-000001-a"]
    assert not (folder / "out" / "a-special.json").exists()


def test_words_are_counted_without_a_handler(lab, folder):
    run = lab.start(WorkQueue.from_manifest(written(folder, QUEUE, map_executor="local_reduce", map_payload={})))
    assert run.wait(60).output["a"] == {"item_id": "a", "word_count": 1, "summary": "aaa"}


def test_an_agent_is_one_request_an_item_each_reply_on_record(lab, folder, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-1")

    def answer(request):
        return Status(400) if "map b" in request.prompt else Text(f"reply to {request.prompt}")

    path = written(folder, QUEUE, map_executor="agent", map_task_template="map {item_id}: {input_text}")
    with ModelServer(answer) as server:
        model = LLM("openai/toy", api_base=server.url, api_key_env="TOY_KEY", timeout_s=5, retries=0)
        run = lab.start(WorkQueue.from_manifest(path, model=model, retries=0)).wait(60)
    assert run.output == {"b": None, "a": "reply to map a: aaa"}
    assert (folder / "out" / "a-special.json").read_text() == "reply to map a: aaa"
    calls = run.frame("llm_calls").set_index("task_id")
    assert calls["outcome"].to_dict() == {"item-000000-b": "error", "item-000001-a": "ok"}
    assert "reply to map a" in (run.path / calls["reply_ref"]["item-000001-a"]).read_text()


def test_a_model_may_be_a_queue_s_task(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-1")
    with ModelServer(lambda request: Text(request.prompt[::-1])) as server:
        model = LLM("openai/toy", api_base=server.url, api_key_env="TOY_KEY")
        run = lab.start(WorkQueue(["ab", "cd"], model)).wait(60)
        assert run.results() == ["ba", "dc"] == run.output
        Lab(tmp_path / "other", workers=1).close()  # which ends nothing of this lab's
        assert lab.start(WorkQueue(["ef"], model)).wait(60).results() == ["fe"]
    with pytest.raises(InvalidInput, match="WorkQueue item 1: must be a non-empty str"):
        WorkQueue(["ab", 3], model)
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(InvalidInput, match="TOY_KEY is not set"):
        lab.start(WorkQueue(["ab"], model))


@pytest.mark.parametrize("status", [402, *(pytest.param(n, marks=pytest.mark.long) for n in (401, 404))])
def test_a_model_that_refuses_us_ends_a_queue_and_not_each_of_its_items(lab, monkeypatch, status):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test-0123456789")
    with ModelServer([Text("one"), Status(status)]) as server:
        model = LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY")
        run = lab.start(WorkQueue(["a"] * 900, model, retries=2)).wait(60)
        sent = len(server.requests)
    assert run.status == "completed"
    assert run.reason.startswith("model refused: http/tiny: ")
    assert run.reason.endswith("; 1 of 900 items were completed")
    assert [output for output in run.results(failed="none") if output] == ["one"]
    assert sent <= len(run.frame("llm_calls")) < 900
    assert run.frame("attempts").attempt.max() == 1

    with ModelServer([Status(status)]) as server:
        model = LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY")
        with pytest.raises(RunFailed, match=r"model refused: http/tiny: .*; 0 of 900 items were completed"):
            lab.start(WorkQueue(["a"] * 900, model)).wait(60)


def test_a_queue_that_was_cut_off_goes_on_and_puts_its_files_out(tmp_path, folder):
    (folder / "handlers.py").write_text(
        "def wait(*, task_id, task_payload, task_root):\n"
        "    while task_id == 'a' and not (task_root / 'go').exists():\n        pass\n    return task_id\n"
    )
    path = written(folder, QUEUE, map_payload={"handler": "handlers.py:wait"})
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.start(WorkQueue.from_manifest(path))
        while not (folder / "out" / "maps" / "b.json").exists():
            assert run.status == "running"
    (folder / "out" / "maps" / "b.json").unlink()
    (folder / "go").touch()
    with Lab(tmp_path / "runs", workers=2) as lab:
        assert lab.resume(run.run_id).wait(60).output == {"b": "b", "a": "a"}
    assert (folder / "out" / "maps" / "b.json").read_text() == "b"
    assert (folder / "out" / "a-special.json").read_text() == "a"


def test_a_search_s_results_are_put_where_its_manifest_says(lab, folder):
    run = lab.start(PopulationSearch.from_manifest(written(folder, SEARCH))).wait(60)
    assert run.status == "completed"
    frame = run.candidates.set_index("candidate_id")
    assert (frame.score["seed"], frame.feedback["seed"]) == (27, {"unit": "mm"})
    assert run.direction == "minimize"
    found = folder / "found"
    for name in ("leaderboard.json", "leaderboard.csv", "generation_history.json", "best_solution.py"):
        assert (found / name).read_bytes() == (run.path / name).read_bytes()
    result = json.loads((found / "best_result.json").read_text())
    assert (result["candidate_id"], result["score"]) == (run.best.candidate_id, run.best.score)

    before = (found / "best_result.json").stat().st_mtime_ns
    assert run.controls().wait(60).evaluations == run.evaluations
    assert (found / "best_result.json").stat().st_mtime_ns == before  # controls are no result


def test_a_model_that_writes_briefs_is_asked_what_the_manifest_asks(lab, folder, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-1")
    with ModelServer(vary_number) as server:
        model = LLM("openai/toy", api_base=server.url, api_key_env="TOY_KEY")
        run = lab.start(PopulationSearch.from_manifest(written(folder, SEARCH), proposer=model, brief=model)).wait(60)
        prompts = [request.prompt for request in server.requests]
    assert run.status == "completed"
    briefs = [prompt for prompt in prompts if "Also say how gap changed." in prompt]
    assert len(briefs) == 2
    assert any("See task.md." in prompt and "# A number near 42" in prompt for prompt in prompts)


def test_a_place_for_outputs_that_cannot_be_written_to_costs_nothing(own_lab, folder):
    (folder / "out").write_text("a file")
    with pytest.raises(InvalidInput, match="output_root"):
        own_lab.start(WorkQueue.from_manifest(written(folder, QUEUE)))
    assert own_lab.sql("select * from runs").empty


@pytest.mark.parametrize("items", [QUEUE["items"][:1], QUEUE["items"]], ids=["the last item", "one of two"])
def test_an_output_that_cannot_be_put_out_ends_the_run_with_where_it_is(lab, folder, items):
    (folder / "out" / "maps" / "b.json").mkdir(parents=True)
    run = lab.start(WorkQueue.from_manifest(written(folder, QUEUE, items=items)))
    with pytest.raises(RunFailed, match=r"output maps/b\.json cannot be written .* lies in the run directory"):
        run.wait(60)
    assert run.frame("runs")["status"].tolist() == ["failed"]
    assert (run.frame("events")["type"] == "run.ended").sum() == 1
