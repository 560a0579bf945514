"""Map and reduce end to end: functions in child processes, items that fail, shards, a second go at one item."""

from __future__ import annotations

import select
from functools import partial
from pathlib import Path

import pytest

from epsilon_lab import LLM, Budget, MapReduce, ShardedQueue, current_task, reducers
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import ModelServer


def words(text: str) -> dict[str, int]:
    return reducers.count(text.split())


def but_threes(number: int) -> int:
    if number % 10 == 3:
        raise ValueError(f"{number} is refused")
    return number


def held(place: Path, number: int) -> int:
    while not (place / "go").exists():
        select.select([], [], [], 0.02)
    return number


async def later(number: int) -> list[int]:
    return [number]


def joined(outputs: list[list[int]]) -> list[int]:
    return [each for output in outputs for each in output]


def test_words_are_counted_and_the_run_says_where_everything_is(lab):
    texts = [f"a b{number} c" for number in range(20)]
    run = lab.start(MapReduce(texts, words, reducers.count, arity=3)).wait()
    assert run.output == reducers.count(map(words, texts))
    assert run.results() == [words(text) for text in texts]
    assert (run.status, run.reason) == ("completed", "20 of 20 items")
    kinds = run.frame("tasks")["kind"].value_counts().to_dict()
    assert kinds == {"item": 20, "reduce": 7 + 3 + 1}
    assert (run.path / "items.ndjson").read_text().splitlines()[1] == '{"json":"a b1 c"}'


def test_what_fails_is_left_out_and_said(lab):
    run = lab.start(MapReduce(iter(range(40)), but_threes, sum, arity=4)).wait()
    assert run.output == sum(number for number in range(40) if number % 10 != 3)
    assert run.reason == "36 of 40 items; 4 without output"
    assert sorted(run.failures["task_id"]) == [f"item-{number:06d}" for number in (3, 13, 23, 33)]
    assert run.results(failed="none")[3] is None


def test_too_few_is_a_failure(lab):
    run = lab.start(ShardedQueue(range(40), but_threes, shards=4, reduce=sum, quorum=0.95))
    with pytest.raises(RunFailed, match=r"38 of 40 items are asked for by quorum=0\.95, and at most 37 can be"):
        run.wait()


def test_async_functions_and_large_outputs_go_the_same_way(lab):
    numbers = ShardedQueue(range(30), later, shards=3, reduce=joined)
    assert lab.start(numbers).wait().output == list(range(30))
    large = ShardedQueue(range(6), lambda n: [str(n) * 50_000], shards=2, reduce=joined)
    assert lab.start(large).wait().output == [str(n) * 50_000 for n in range(6)]


def drafted(item: int) -> str:
    told = "; ".join(each.text for each in current_task().feedback)
    return f"{item}{'!' if told else ''}"


def collected(outputs: list[str]) -> str:
    told = "; ".join(each.text for each in current_task().feedback)
    return ",".join(outputs) + (f" ({told})" if told else "")


def looked_at(outputs: dict[str, str]) -> object:
    """Item 2 has to be drafted again, then the last reducer has to add a word."""
    ((_, answer),) = outputs.items()
    errors = []
    if "2!" not in answer:
        errors = [{"description": "think again", "node": "item-000002"}]
    elif "(" not in answer:
        errors = [{"description": "in a word", "id": "w"}]
    return {"status": "fail" if errors else "pass", "summary": "", "errors": errors}


@pytest.mark.parametrize("shape", ["map_reduce", "sharded_queue"])
def test_qa_sends_what_it_finds_to_the_item_or_the_reducer_and_the_answer_is_made_again(lab, shape):
    if shape == "map_reduce":
        work = MapReduce(range(6), drafted, collected, arity=3, qa=looked_at)
    else:
        work = ShardedQueue(range(6), drafted, shards=2, reduce=collected, qa=looked_at)
    run = lab.start(work).wait(60)
    assert run.output == "0,1,2!,3,4,5 (in a word)"
    assert run.reason == "6 of 6 items; QA passed in wave 3"
    first, last = (
        ("reduce-l01-n0000", "reduce-l02-n0000") if shape == "map_reduce" else ("reduce-shard-000", "reduce-final")
    )
    again = [name for name in run.frame("tasks").task_id if "~" in name and not name.startswith("qa")]
    assert set(again) == {"item-000002~2", f"{first}~2", f"{last}~2", f"{last}~3"}
    assert run.results() == ["0", "1", "2!", "3", "4", "5"]
    config = lab.sql(f"select config from runs where run_id = '{run.run_id}'").config[0]
    assert '"qa":"looked_at"' in config.replace(" ", "")
    assert "qa 3: pass" in str(run.show())


def test_qa_of_items_that_nothing_is_made_of_is_given_all_of_them(lab):
    def all_there(outputs):
        return len(outputs) == 5 or f"only {len(outputs)}"

    run = lab.start(ShardedQueue(range(6), but_threes, shards=2, qa=all_there)).wait(60)
    assert (run.reason, run.output) == ("5 of 6 items; 1 without output; QA passed in wave 1", [0, 1, 2, None, 4, 5])
    never = lab.start(MapReduce(range(4), drafted, collected, qa=lambda outputs: "no", fix_waves=1))
    with pytest.raises(RunFailed, match="QA found 1 error in wave 2, and 1 fix waves are used up: no"):
        never.wait(60)
    assert never.output == "0,1,2,3 (no)", "kept all the same"


def test_when_time_is_up_what_is_done_is_reduced(lab, tmp_path):
    run = lab.start(MapReduce([0, 1, 2, *[3] * 4200], partial(but_last, tmp_path), sum), budget=Budget(seconds=2))
    assert run.wait(60).output == 3
    assert run.reason == "the budget of 2 s was used up; 3 of 4203 items; 4200 without output"
    assert run.results("none") == [0, 1, 2, *[None] * 4200]
    (tmp_path / "go").touch()
    run.rerun(["item-000007", "item-004202"])
    assert run.wait(60).output == 9, "the rest can be done all the same"


def but_last(place: Path, number: int) -> int:
    return held(place, number) if number == 3 else number


def test_items_that_were_never_begun_have_their_place_and_can_be_begun_later(lab, tmp_path):
    run = lab.start(ShardedQueue(range(4100), partial(held, tmp_path), shards=2, reduce=sum))
    assert wait_until(lambda: len(run.frame("tasks")) == 4096, within_s=60), "so many are handed out at once"
    run.stop()
    assert run.wait(60).results(failed="none") == [None] * 4100
    assert str(run.results(failed="keep")[4099]) == "task item-004099 is not begun"
    with pytest.raises(RunFailed, match="task item-000000 is cancelled"):
        run.results()
    (tmp_path / "go").touch()
    run.rerun(["item-004099", "item-000002"])
    assert run.wait(60).output == 4101
    assert [place for place, output in enumerate(run.results("none")) if output is not None] == [2, 4099]
    assert len(run.results("none")) == 4100


def test_a_model_maps_and_reduces_over_http(lab):
    def answer(request):
        said = request.json["messages"][-1]["content"]
        return f"sum of {said.count('# Output of')}" if said.startswith("Sum up") else f"read {said}"

    with ModelServer(answer) as server:
        model = LLM("http/toy", api_base=server.url, timeout_s=30.0)
        wanted = MapReduce(["one", "two", "three"], model, model, reduce_instructions="Sum up.", arity=2)
        run = lab.start(wanted, budget=Budget(calls=10)).wait()
    assert run.output == "sum of 2"
    assert run.results() == ["read one", "read two", "read three"]
    assert len(run.frame("llm_calls")) == 6


def test_an_item_done_again_takes_the_reducers_above_it_along(lab, tmp_path):
    done = tmp_path / "done"

    def patient(number):
        if number == 4 and not done.exists():
            raise ValueError("not yet")
        return [number]

    run = lab.start(MapReduce(range(10), patient, joined, arity=3)).wait()
    assert run.output == [number for number in range(10) if number != 4]
    done.touch()
    run.rerun(tasks=["item-000004"])
    run.wait()
    assert (run.output, run.reason) == (list(range(10)), "10 of 10 items")
    assert run.results() == [[number] for number in range(10)]
    run.rerun(tasks=["reduce-l01-n0000"])
    run.wait()
    assert run.output == list(range(10))
    again = run.frame("tasks").query("task_id.str.contains('~')")["task_id"]
    assert sorted(again) == [
        "item-000004~2",
        "reduce-l01-n0000~2",
        "reduce-l01-n0001~2",
        "reduce-l02-n0000~2",
        "reduce-l02-n0000~3",
        "reduce-l03-n0000~2",
        "reduce-l03-n0000~3",
    ]


def test_without_a_reducer_the_outputs_are_the_output(lab):
    run = lab.start(ShardedQueue(range(5), str)).wait()
    assert run.output == run.results() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: MapReduce("text", str, sum), "MapReduce items: must be an iterable of items, got str"),
        (lambda: MapReduce({"a": 1}, str, sum), "MapReduce items: must be an iterable of items, got dict"),
        (lambda: MapReduce([1], 3, sum), "MapReduce map: "),
        (lambda: MapReduce([1], str, lambda: 1), "MapReduce reduce: must be a function called with"),
        (lambda: MapReduce([1], str, sum, arity=1), "MapReduce arity: must be an int from 2"),
        (lambda: MapReduce([1], str, sum, quorum=1.5), "MapReduce quorum: must be a finite number"),
        (lambda: ShardedQueue([1], str, shards=0), "ShardedQueue shards: must be an int from 1"),
        (lambda: ShardedQueue([1], str, retries=-1), "ShardedQueue retries"),
        (lambda: ShardedQueue([1], str, time_limit_s=0), "ShardedQueue time_limit_s"),
    ],
)
def test_a_bad_argument_is_refused_by_name(made, said):
    with pytest.raises(InvalidInput, match=said):
        made()


def test_an_item_that_cannot_travel_is_refused_and_leaves_nothing(lab):
    before = set(lab.runs)
    with pytest.raises(InvalidInput, match=r"MapReduce item 1: .* cannot be pickled"):
        lab.start(MapReduce([1, (each for each in ())], str, sum))
    used_up = MapReduce(iter([1]), but_threes, sum)
    lab.start(used_up).wait()
    with pytest.raises(InvalidInput, match="were an iterator, and another run has used it up; give a list"):
        lab.start(used_up)
    assert len(set(lab.runs) - before) == 1
