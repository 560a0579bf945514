"""A queue's manifest: what becomes of each field, and what is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epsilon_lab import LLM
from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.item_manifest import count_words, handle
from epsilon_lab.topologies.queue_manifest import read_queue
from epsilon_lab.topologies.work_queue import WorkQueue, item_name, item_task_id

HANDLERS = "def shout(*, task_id, task_payload, task_root):\n    return task_payload['instructions'].upper()\n"
GOOD = {
    "items": [
        {"id": "doc-b", "input_ref": "texts/b.txt", "payload": {"lang": "en", "deep": {"er": 1}}},
        {"id": "doc-a", "input_text": "short", "payload": {"lang": None}, "output_ref": "out/special.json"},
    ],
    "output_root": "out",
    "map_task_template": "{item_id} {{in}} {payload_lang}: {input_text}",
    "map_executor": "local_reduce",
}


def written(tmp_path: Path, **changes: object) -> Path:
    (tmp_path / "texts").mkdir(exist_ok=True)
    (tmp_path / "texts" / "b.txt").write_text("a b  c\n")
    (tmp_path / "handlers.py").write_text(HANDLERS)
    path = tmp_path / "queue.json"
    document = GOOD | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
    return path


def test_items_are_filled_templates_and_texts(tmp_path):
    queue = read_queue(written(tmp_path, map_payload={"tone": "dry"}), None)
    first, second = queue.items
    assert queue.ids == ["doc-b", "doc-a"]
    assert queue.output_refs == ["maps/doc-b.json", "special.json"]
    assert queue.output_root == str(tmp_path / "out")
    assert first["instructions"] == "doc-b {in} en: a b  c\n"
    assert second["instructions"] == "doc-a {in} None: short"
    assert (first["output_ref"], second["output_ref"]) == ("out/maps/doc-b.json", "out/special.json")
    assert (first["tone"], first["task_type"], first["payload"]["deep"]) == ("dry", "work_queue", {"er": 1})
    assert count_words(first) == {"item_id": "doc-b", "word_count": 3, "summary": "a b c"}


def test_an_agent_is_a_model_that_the_caller_gives(tmp_path):
    path = written(tmp_path, map_executor=...)
    with pytest.raises(InvalidInput, match=r"\$\.map_executor: is 'agent', and there is no model.*model=LLM"):
        WorkQueue.from_manifest(path)
    queue = WorkQueue.from_manifest(path, model=LLM("openai/toy", api_base="http://127.0.0.1:9"))
    assert queue.items == ["doc-b {in} en: a b  c\n", "doc-a {in} None: short"]
    assert (queue._work.lane, queue.title, queue.config()["task"]) == ("async", "queue", "openai/toy")


def test_a_handler_reads_its_input_itself_be_it_text_or_not(tmp_path):
    path = written(tmp_path, map_executor="python_handler", map_payload={"handler": "handlers:shout"})
    (tmp_path / "texts" / "b.txt").write_bytes(b"\xff\xfe\x00")
    queue = read_queue(path, None)
    assert queue.task(queue.items[0]) == "DOC-B {IN} EN: "
    with pytest.raises(InvalidInput, match=r"\$\.items\[0\]\.input_ref: .*not a text"):
        read_queue(written(tmp_path).parent / _binary(tmp_path), None)


def _binary(tmp_path: Path) -> str:
    (tmp_path / "texts" / "b.txt").write_bytes(b"\xff\xfe\x00")
    return "queue.json"


def test_what_a_handler_returns_must_be_json(tmp_path):
    with pytest.raises(InvalidInput, match="output of type tuple: is not JSON"):
        handle(lambda **given: (1, 2), tmp_path, {"manifest_item_id": "a"})


def item(**changes: object) -> list[object]:
    return [{"id": "a", "input_text": "x", "payload": {"lang": "en"}} | changes]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": ...}, "$.items: is missing; it must be a list of at least one item"),
        ({"items": []}, "$.items: must be a list of at least one item, got []"),
        ({"items": {"id": "a"}}, "$.items: must be a list of at least one item"),
        ({"items": [3]}, "$.items[0]: must be an object, got 3"),
        ({"items": [{}]}, "$.items[0].id: is missing"),
        ({"items": item(id="../a")}, "$.items[0].id: must be an id of 1 to 100 letters, digits, "),
        ({"items": item(id=".a")}, "$.items[0].id: must be an id"),
        ({"items": item(id="a\n")}, "$.items[0].id: must be an id"),
        ({"items": item() + item()}, "$.items[1].id: 'a' is the id of $.items[0] too"),
        ({"items": item(input="x")}, "$.items[0].input: is not a field of this manifest; did you mean input_"),
        ({"items": item(payload="x")}, '$.items[0].payload: must be an object, got "x"'),
        ({"items": item(input_ref="none.txt")}, "$.items[0].input_ref: there is no file 'none.txt'"),
        ({"items": item(input_ref="../x")}, "$.items[0].input_ref: leads outside"),
        ({"items": item(input_ref="texts")}, "$.items[0].input_ref: there is no file 'texts'"),
        ({"items": item(output_ref="other/a.json")}, "$.items[0].output_ref: is not below output_root"),
        ({"items": item(output_ref="out/../../a")}, "$.items[0].output_ref: leads outside"),
        ({"items": item(output_ref="queue.json"), "output_root": "."}, "$.output_root: leads outside"),
        (
            {"items": item(input_ref="texts/b.txt", output_ref="texts/b.txt"), "output_root": "texts"},
            "$.items[0].output_ref: would write over 'texts/b.txt', which is read",
        ),
        (
            {"items": item(output_ref="out/maps/b.json") + item(id="b")},
            "$.items[1].output_ref: is where $.items[0] puts its output",
        ),
        ({"items": item(payload={})}, "has the placeholder {payload_lang}"),
        ({"items": item(payload={"lang": [1]})}, "give $.items[0] (a) what it asks for, or change the template"),
        ({"map_task_template": "{shard_id}"}, "$.map_task_template: has the placeholder {shard_id}"),
        ({"map_task_template": ...}, "$.map_task_template: is missing"),
        ({"output_root": "/tmp"}, "$.output_root: leads outside"),
        ({"output_root": ""}, "$.output_root: must be a text that is not blank"),
        ({"map_executor": "direct_wiki"}, "$.map_executor: 'direct_wiki' is not in this version: it asks one site on"),
        ({"map_executor": "agents"}, "$.map_executor: must be 'agent', 'python_handler' or 'local_reduce'"),
        ({"map_executor": "python_handler"}, "$.map_payload.handler: is missing"),
        (
            {"map_executor": "python_handler", "map_payload": {"handler": "handlers:nobody"}},
            "$.map_payload.handler: handlers has no function nobody",
        ),
        ({"reduce_task_template": "x"}, "$.reduce_task_template: has no meaning in this topology; a work queue maps"),
        ({"shard_count": 2}, "$.shard_count: has no meaning in this topology"),
        ({"reduce_arity": 2}, "belongs to MapReduce and ShardedQueue"),
        ({"workers": 2}, "$.workers: is not a field of this manifest"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_path(tmp_path, changes, message):
    with pytest.raises(InvalidInput) as refused:
        WorkQueue.from_manifest(written(tmp_path, **changes))
    assert str(refused.value).startswith("queue.json: $")
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_tasks_are_named_after_items():
    assert item_task_id(12, "doc-a-1") == "item-000012-doc-a-1"
    assert item_name("item-000012-doc-a-1") == "doc-a-1"
    assert item_name(item_task_id(12)) == ""
