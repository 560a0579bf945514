"""Epsilon's manifests of map_reduce and sharded_queue: where outputs go, what reducers are told, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epsilon_lab import LLM, MapReduce, ShardedQueue
from epsilon_lab.errors import InvalidInput

HANDLERS = """
def upper(*, task_id, task_payload, task_root):
    assert task_id == task_payload["manifest_item_id"]
    return {"said": [task_payload["instructions"].upper()], "tone": task_payload["tone"]}

def joined(*, task_id, task_payload, task_root):
    assert len(task_payload["child_outputs"]) == len(task_payload["child_output_refs"]) == task_payload["child_count"]
    said = [each for output in task_payload["child_outputs"] for each in output["said"]]
    return {"said": said, "asked": task_payload["instructions"], "tone": task_payload["tone"]}
"""
ITEMS = [{"id": f"doc-{n}", "input_text": f"word{n} and"} for n in range(5)]


def written(tmp_path: Path, **fields: object) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    path = tmp_path / "job.json"
    document = {"items": ITEMS, "output_root": "out", "map_task_template": "{item_id}: {input_text}"} | fields
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
    return path


def outputs(tmp_path: Path) -> dict[str, object]:
    root = tmp_path / "out"
    return {path.relative_to(root).as_posix(): json.loads(path.read_text()) for path in root.rglob("*.json")}


def test_a_map_reduce_puts_every_output_where_epsilon_does(lab, tmp_path):
    path = written(
        tmp_path,
        map_executor="local_reduce",
        reduce_executor="local_reduce",
        reduce_task_template="unused",
        reduce_arity=2,
    )
    wanted = MapReduce.from_manifest(path)
    assert (wanted.title, wanted.config()["items"], wanted.retry.limit) == ("job", 5, 1)
    run = lab.start(wanted).wait()
    assert run.output["word_count"] == 10
    assert run.output["summary"].count("word") == 5
    found = outputs(tmp_path)
    assert found["maps/doc-3.json"] == {"item_id": "doc-3", "word_count": 2, "summary": "word3 and"}
    levels = {f"reduce/level-{level:02d}/reduce-l{level:02d}-n{n:04d}.json" for level, n in
              [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)]}  # fmt: skip
    assert set(found) == {f"maps/doc-{n}.json" for n in range(5)} | levels | {"final-summary.json"}
    assert found["final-summary.json"] == run.output
    assert list(run.frame("tasks").query("kind == 'item'")["task_id"].sort_values())[3] == "item-000003-doc-3"


def test_shards_have_names_and_handlers_are_told_of_their_children(lab, tmp_path):
    path = written(
        tmp_path,
        map_task_template="{item_id} in {shard_id} ({task_type})",
        reduce_task_template="{reduce_label} of {child_count} in {output_ref}: {child_output_refs_json} {payload_tone}",
        map_executor="python_handler",
        map_payload={"handler": "handlers:upper", "tone": "dry"},
        reduce_executor="python_handler",
        reduce_payload={"handler": "handlers:joined", "tone": "warm"},
        shard_count=2,
    )
    run = lab.start(ShardedQueue.from_manifest(path)).wait()
    shards = ["SHARD-000", "SHARD-000", "SHARD-001", "SHARD-001", "SHARD-001"]
    assert run.output["said"] == [f"DOC-{n} IN {shard} (SHARDED_QUEUE)" for n, shard in enumerate(shards)]
    refs = '["out/shards/reduce-shard-000.json","out/shards/reduce-shard-001.json"]'
    assert run.output["asked"] == f"reduce-final of 2 in out/final-summary.json: {refs} warm"
    found = outputs(tmp_path)
    assert found["shards/reduce-shard-000.json"]["asked"].endswith('["out/maps/doc-0.json","out/maps/doc-1.json"] warm')
    assert found["maps/doc-0.json"]["tone"] == "dry"


def test_nothing_is_reduced_where_nothing_is_said_of_it(lab, tmp_path):
    run = lab.start(ShardedQueue.from_manifest(written(tmp_path, map_executor="local_reduce"))).wait()
    assert list(run.output) == [f"doc-{n}" for n in range(5)]
    assert set(outputs(tmp_path)) == {f"maps/doc-{n}.json" for n in range(5)}


LOCAL = {"map_executor": "local_reduce", "reduce_executor": "local_reduce", "reduce_task_template": "x"}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (MapReduce, {"reduce_task_template": ...}, "$.reduce_task_template: is missing; it must be a text that is not"),
        (MapReduce, {"reduce_arity": 1}, "$.reduce_arity: must be a whole number from 2"),
        (MapReduce, {"reduce_arity": "8"}, '$.reduce_arity: must be a whole number from 2 to 1000000, got "8"'),
        (MapReduce, {"shard_count": 2}, "$.shard_count: has no meaning in this topology; levels are made by reduce_ar"),
        (ShardedQueue, {"reduce_arity": 2}, "$.reduce_arity: has no meaning in this topology; shards are as many as"),
        (ShardedQueue, {"shard_count": 0}, "$.shard_count: must be a whole number from 1"),
        (MapReduce, {"reduce_executor": "direct_wiki"}, "$.reduce_executor: 'direct_wiki' is not in this version: it"),
        (MapReduce, {"reduce_executor": "agent"}, "$.reduce_executor: is 'agent', and there is no model to ask; give"),
        (ShardedQueue, {"reduce_executor": "agent", "reduce_task_template": ...}, "$.reduce_task_template: is missing"),
        (MapReduce, {"reduce_executor": "python_handler"}, "$.reduce_payload.handler: is missing"),
        (MapReduce, {"reduce_task_template": "{item_id}"}, "$.reduce_task_template: has the placeholder {item_id}"),
        (MapReduce, {"map_task_template": "{shard_id}"}, "$.map_task_template: has the placeholder {shard_id}, and"),
        (MapReduce, {"reducer": 1}, "$.reducer: is not a field of this manifest"),
        (MapReduce, {"items": [*ITEMS, {"id": "doc-2"}]}, "$.items[5].id: 'doc-2' is the id of $.items[2] too"),
        (MapReduce, {"items": [*ITEMS, {"id": "x", "text": ""}]}, "$.items[5].text: is not a field of this manifest"),
        (MapReduce, {"items": [*ITEMS, {"id": "x", "payload": 1}]}, "$.items[5].payload: must be an object, got 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_path(tmp_path, kind, changes, message):
    with pytest.raises(InvalidInput) as refused:
        kind.from_manifest(written(tmp_path, **LOCAL | changes), model=None)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_one_model_maps_and_reduces(tmp_path):
    model = LLM("openai/toy", api_base="http://127.0.0.1:9")
    made = MapReduce.from_manifest(written(tmp_path, reduce_task_template="sum up {child_count}"), model=model)
    assert (made.config()["map"], made.config()["reduce"]) == ("openai/toy", "openai/toy")
