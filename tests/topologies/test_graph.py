"""The graph hands out what may run and on what, keeps to limits, says at once what can never run, and forgets."""

import math
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import Call, call_of
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, as_json, pack, restored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.engine import cancelled_outcome
from epsilon_lab.topologies.graph import NOTHING, Graph
from epsilon_lab.topologies.plan import Add, Condition, Node

CALL = as_json(Call(code="x"))


def task(name, *depends_on, kind="item", payload=CALL, priority=0):
    return TaskSpec(
        task_id=name, kind=kind, lane="process", entry="code:x", payload=payload, depends_on=depends_on,
        priority=priority,
    )  # fmt: skip


def node(name, *depends_on, **asked):
    return Node(task=task(name, *depends_on), **asked)


def ended(name, status="completed", output=None):
    if status == "cancelled":
        return cancelled_outcome("r", name, "no more")
    return TaskOutcome(run_id="r", task_id=name, status=status, output=output)


def names(tasks):
    return [t.task_id for t in tasks]


def settled(step):
    return {outcome.task_id: (outcome.status, outcome.failure.error) for outcome in step.settled}


def test_a_task_is_ready_once_everything_it_depends_on_is_completed():
    graph = Graph({})
    step = graph.add("r", Add((task("a"), task("b"), task("c", "a", "b", "a"))))
    assert names(step.ready) == ["a", "b"]
    assert names(step.waiting) == ["c"]
    assert names(graph.settle(ended("a")).ready) == []
    assert graph.settle(ended("a")) is NOTHING, "what is settled is not settled again"
    assert names(graph.settle(ended("b")).ready) == ["c"]


def test_dependents_of_a_failed_task_are_reported_at_once_to_the_last():
    graph = Graph({})
    graph.add("r", Add((task("a"), task("b", "a"), task("c", "b"), task("d"))))
    step = graph.settle(ended("a", "failed"))
    why = "not started: it depends on task a, which has no output"
    assert settled(step) == {"b": ("failed", why), "c": ("failed", why)}, "the first that failed is to blame"
    late = graph.add("r", Add((task("e", "c"),)))
    assert settled(late) == {"e": ("failed", why)}
    assert names(late.waiting) == ["e"], "it has a row"


def test_a_kind_s_limit_is_never_exceeded_and_nobody_is_forgotten():
    graph = Graph({"propose": 2})
    step = graph.add("r", Add(tuple(task(str(i), kind="propose") for i in range(5))))
    out = names(step.ready)
    seen = list(out)
    while out:
        step = graph.settle(ended(out.pop(0)))
        out += names(step.ready)
        seen += names(step.ready)
        assert len(out) <= 2
    assert seen == ["0", "1", "2", "3", "4"]


def test_the_most_urgent_gets_the_room_that_is_left():
    graph = Graph({"item": 1})
    graph.add("r", Add((task("a"), task("b"), task("c", priority=5), task("d"))))
    assert graph.prioritise("d", 9)
    assert graph.prioritise("d", 9)
    assert not graph.prioritise("a", 9), "the broker has it"
    assert set(graph.held) == {"b", "c", "d"}
    assert names(graph.settle(ended("a")).ready) == ["d"]
    assert graph.withdraw("c")
    assert graph.settle(ended("c", "cancelled")).ready == ()
    assert names(graph.settle(ended("d")).ready) == ["b"]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (task("b", "x"), "task 'b': depends on 'x', which is not in the graph"),
        (task("b", "b"), "task 'b': depends on 'b'"),
        (task("a"), "task 'a': is in the graph already"),
        (node("b", "a", quorum=1.5), "task 'b': has a quorum of 1.5"),
        (node("b", "a", quorum=math.nan), "task 'b': has a quorum of nan"),
        (node("b", "a", when=(Condition("c"),)), "task 'b': has a condition on 'c', which it does not depend on"),
        (node("b", when=(Condition("a"),)), "task 'b': has a condition on 'a'"),
    ],
)
def test_what_could_never_start_is_refused(new, said):
    graph = Graph({})
    graph.add("r", Add((task("a"),)))
    with pytest.raises(InvalidInput, match=said):
        graph.add("r", Add((new,)))


# -- quorum ------------------------------------------------------------------------------------------------------------


def join(quorum, of=4):
    """A graph with as many tasks, and one behind them that needs a share of their outputs."""
    graph = Graph({})
    tasks = [task(str(i)) for i in range(of)]
    graph.add("r", Add((*tasks, node("join", *names(tasks), quorum=quorum, binds=True), task("after", "join"))))
    return graph


def test_a_quorum_waits_for_all_and_goes_on_with_what_there_is():
    graph = join(0.5)
    assert graph.settle(ended("0", output=pack(0))) == NOTHING
    assert graph.settle(ended("1", "dead")) == NOTHING
    assert graph.settle(ended("3", output=pack(3))) == NOTHING, "its quorum is met, and one is still to come"
    [ready] = graph.settle(ended("2", "failed")).ready
    call = call_of(ready.payload)
    assert [(name, restored(value)) for name, value in call.inputs] == [("0", pack(0)), ("3", pack(3))]
    assert call.failed == {"1": "it is dead", "2": "it is failed"}


def test_a_quorum_that_cannot_be_met_any_more_is_told_at_once():
    graph = join(0.75)
    graph.settle(ended("0", "failed"))
    step = graph.settle(ended("1", "failed"))
    why = "not started: it needs 3 of 4 outputs, and 2 tasks have none, 0 for one"
    assert settled(step) == {
        "join": ("failed", why),
        "after": ("failed", "not started: it depends on task join, which has no output"),
    }
    assert graph.settle(ended("2")) == graph.settle(ended("3")) == NOTHING


@pytest.mark.parametrize(
    ("quorum", "of", "failures", "starts"),
    [(0.0, 3, 2, True), (0.0, 3, 3, False), (1.0, 3, 1, False), (0.34, 3, 1, True), (0.34, 3, 2, False),
     (0.55, 100, 45, True), (0.55, 100, 46, False), (1 / 3, 3, 2, True)],
)  # fmt: skip
def test_a_quorum_is_a_share_rounded_up_and_never_fewer_than_one(quorum, of, failures, starts):
    graph = join(quorum, of)
    steps = [graph.settle(ended(str(i), "failed" if i < failures else "completed")) for i in range(of)]
    assert any(step.ready for step in steps) == starts
    assert any(step.settled for step in steps) != starts


# -- conditions --------------------------------------------------------------------------------------------------------


def branches(verdict):
    """A review, one way for each of its verdicts, and where they meet again."""
    graph = Graph({})
    graph.add("r", Add((
        task("review"),
        node("ship", "review", when=(Condition("review", ("verdict",), "pass"),)),
        node("mend", "review", when=(Condition("review", ("verdict",), "fail"),)),
        task("tell", "ship"),
        node("close", "ship", "mend", quorum=1.0),
        node("both", "ship", "mend"),
    )))  # fmt: skip
    return graph, graph.settle(ended("review", output=as_json({"verdict": verdict})))


def test_a_node_whose_condition_does_not_hold_is_skipped_and_who_needs_it_too():
    graph, step = branches("fail")
    assert names(step.ready) == ["mend"]
    assert settled(step) == {
        "ship": ("cancelled", 'skipped: review.verdict is "fail", not "pass"'),
        "tell": ("cancelled", "skipped: ship was"),
        "both": ("cancelled", "skipped: ship was"),
    }
    assert names(graph.settle(ended("mend")).ready) == ["close"], "a skipped one does not count against a quorum"


def test_where_all_are_skipped_a_quorum_is_skipped_too():
    _, step = branches("odd")
    assert settled(step)["close"] == ("cancelled", "skipped: all that it depends on was")


def test_a_condition_on_what_is_no_json_fails_with_the_reason():
    graph = Graph({})
    graph.add("r", Add((task("a"), node("b", "a", when=(Condition("a"),)), task("c", "b"))))
    step = graph.settle(ended("a", output=pack({1})))
    assert settled(step)["b"][1].startswith("not started: its condition looks into the output of a, which is a pickle")
    assert settled(step)["c"] == ("failed", "not started: it depends on task b, which has no output")


# -- what is given, and what is forgotten ------------------------------------------------------------------------------


def test_a_payload_that_a_journal_does_not_hold_lies_in_a_file():
    graph = Graph({"item": 1})
    graph.add("r", Add((task("a"), node("b", "a", binds=True), task("c"))))
    step = graph.settle(ended("a", output=pack("x" * INLINE_LIMIT)))
    assert names(step.ready) == ["c"], "there is room for one"
    [written] = step.inputs
    assert call_of(Value("json", written.text.encode())).inputs[0][0] == "a"
    [ready] = graph.settle(ended("c")).ready
    assert (written.ref, ready.payload) == ("inputs/b.json", Value("file", b"inputs/b.json"))


def test_what_was_completed_before_can_be_bound_later():
    graph = Graph({})
    graph.add("r", Add((task("a"),)))
    graph.settle(ended("a", output=pack(7)))
    step = graph.add("r", Add((node("b", "a", binds=True),)))
    [ready] = step.ready
    assert step.waiting == ()
    assert restored(call_of(ready.payload).inputs[0][1]) == pack(7)


def test_what_is_final_reaches_those_behind_it_and_is_forgotten():
    graph = Graph({})
    graph.add("r", Add((task("a"), task("b"), node("c", "a", "b", binds=True, quorum=0.5)), final=True))
    graph.settle(ended("a", output=pack(1)))
    [ready] = graph.settle(ended("b", "failed")).ready
    assert restored(call_of(ready.payload).inputs[0][1]) == pack(1)
    with pytest.raises(InvalidInput, match="depends on 'a', which is not in the graph"):
        graph.add("r", Add((task("d", "a"),)))
    graph.settle(ended("c"))
    assert graph.add("r", Add((task("a"),))).ready, "its id is free"


def test_what_never_starts_is_known_to_the_rest_of_its_group_also_where_it_is_final():
    graph = Graph({})
    graph.add("r", Add((task("a"),)))
    graph.settle(ended("a", "failed"))
    step = graph.add("r", Add((task("b", "a"), node("c", "b", quorum=0.0), task("d", "b")), final=True))
    assert settled(step).keys() == {"b", "c", "d"}
    with pytest.raises(InvalidInput, match="depends on 'b', which is not in the graph"):
        graph.add("r", Add((task("e", "b"),)))


def test_a_dead_one_is_remembered_until_it_is_requeued_also_where_it_is_final():
    graph = Graph({"item": 1})
    graph.add("r", Add((task("a"), task("b")), final=True))
    assert names(graph.settle(ended("a", "dead")).ready) == ["b"]
    graph.settle(ended("b"))
    graph.reopen("a")
    assert graph.out == ("a",)
    assert names(graph.add("r", Add((task("c"),))).waiting) == ["c"], "it takes its room again"
    assert names(graph.settle(ended("a")).ready) == ["c"]


def test_after_the_end_what_was_open_has_no_output():
    graph = Graph({})
    graph.add("r", Add((task("a"), task("b", "a"))))
    graph.add("r", Add((task("c"),), final=True))
    graph.clear("cancelled: enough")
    assert graph.held == graph.out == ()
    step = graph.add("r", Add((task("d", "a"), node("e", "b", quorum=0.0), task("c"))))
    assert settled(step).keys() == {"d", "e"}
    assert names(step.ready) == ["c"]


def test_a_withdrawn_node_starts_no_more():
    graph = Graph({})
    graph.add("r", Add((task("a"), task("b", "a"), task("c", "b"))))
    assert graph.withdraw("b")
    assert settled(graph.settle(ended("b", "cancelled"))).keys() == {"c"}
    assert graph.settle(ended("a")).ready == ()


def test_memory_does_not_grow_with_what_is_settled():
    """Bytes a settled task; what is open stays the same."""
    graph = Graph({})

    def work(first, count):
        for i in range(first, first + count):
            step = graph.add("r", Add((task(f"item-{i}"), task(f"sum-{i}", f"item-{i}")), final=True))
            assert len(step.ready) == 1
            graph.settle(ended(f"item-{i}", output=pack("x" * 100)))
            graph.settle(ended(f"sum-{i}", "failed" if i % 3 else "completed"))

    tracemalloc.start()
    try:
        work(0, 200)
        before, _ = tracemalloc.get_traced_memory()
        work(200, 2_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 4_000 < 1.0


def lines_run(deed):
    """Lines of our own code that are run, which no load of the machine changes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)
    try:
        deed()
    finally:
        sys.settrace(None)
    return count


def test_a_wide_reducer_costs_what_its_dependencies_are_and_nothing_more():
    def cost(width):
        graph = Graph({})
        tasks = tuple(task(str(i)) for i in range(width))
        join = node("join", *names(tasks), binds=True, quorum=0.5)

        def play():
            graph.add("r", Add((*tasks, join), final=True))
            steps = [
                graph.settle(ended(str(i), "failed" if i % 5 == 0 else "completed", pack(i))) for i in range(width)
            ]
            assert names(steps[-1].ready) == ["join"]

        return lines_run(play)

    assert cost(2_000) < 4.2 * cost(500)


def test_a_completion_costs_the_same_in_a_large_graph():
    def cost(size):
        graph = Graph({})
        graph.add("r", Add(tuple(task(str(i)) for i in range(size))))
        graph.add("r", Add(tuple(task(f"behind-{i}", str(i)) for i in range(size))))
        return lines_run(lambda: [graph.settle(ended(str(i), output=pack(i))) for i in range(20)])

    # The least of several: the garbage of other tests may be collected, and its finalizers counted, at any line.
    assert min(cost(2_000) for _ in range(3)) == min(cost(40) for _ in range(3))


# -- any graph ---------------------------------------------------------------------------------------------------------


@st.composite
def nodes(draw):
    """Nodes of any kind, each behind some of those before it."""
    drawn = []
    for i in range(draw(st.integers(1, 14))):
        behind = sorted(draw(st.sets(st.integers(0, i - 1), max_size=4))) if i else []
        when = tuple(Condition(str(j), (), draw(st.booleans())) for j in behind if draw(st.integers(0, 3)) == 0)
        drawn.append(
            node(
                str(i), *map(str, draw(st.permutations(behind))), binds=draw(st.booleans()), when=when,
                quorum=draw(st.sampled_from((None, None, 0.0, 0.3, 0.5, 1.0))) if behind else None,
            )
        )  # fmt: skip
    return drawn


def rightful(each, ends):
    """What must have become of a node, by what became of those it depends on: the rules as one would say them."""
    found = {name: ends[name][0] for name in each.task.depends_on}
    counted = [status for status in found.values() if status != "skipped"]
    failed = any(status in ("failed", "blocked") for status in counted)
    if each.quorum is None:
        if len(counted) < len(found) and failed:
            return {"blocked", "skipped"}  # whichever was known first
        if failed or len(counted) < len(found):
            return {"blocked"} if failed else {"skipped"}
    elif not counted and found:
        return {"skipped"}
    elif counted.count("completed") < max(1, math.ceil(each.quorum * len(counted) - 1e-9)):
        return {"blocked"}
    holds = all(ends[when.task_id][1] == pack(when.equals) for when in each.when)
    return {"completed", "failed"} if holds else {"skipped"}


@given(st.data())
def test_whatever_fails_every_node_comes_to_its_rightful_end_exactly_once(data):
    """Added bit by bit while others settle, within a limit, and as final where nothing is behind them later."""
    drawn = data.draw(nodes())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(drawn) - 1), max_size=3))) if len(drawn) > 1 else []
    groups = [drawn[first:last] for first, last in zip([0, *cuts], [*cuts, len(drawn)], strict=True)]
    graph = Graph({"item": data.draw(st.integers(1, 4))})
    out, ends = [], {}

    def take(step):
        for outcome in step.settled:
            assert outcome.task_id not in ends
            ends[outcome.task_id] = ("skipped" if outcome.status == "cancelled" else "blocked", None)
        for ready in step.ready:
            [each] = [each for each in drawn if each.task.task_id == ready.task_id]
            assert all(name in ends for name in each.task.depends_on), "it waited for all"
            if each.binds and each.task.depends_on:
                call = call_of(ready.payload)
                given = {name: ends[name][1] for name in each.task.depends_on if ends[name][0] == "completed"}
                assert [(name, restored(value)) for name, value in call.inputs] == list(given.items())
                assert call.failed.keys() == set(each.task.depends_on) - given.keys()
            out.append(ready.task_id)

    while groups or out:
        if groups and (not out or data.draw(st.booleans())):
            group = groups.pop(0)
            later = {name for rest in groups for each in rest for name in each.task.depends_on}
            take(graph.add("r", Add(tuple(group), final=later.isdisjoint(each.task.task_id for each in group))))
            continue
        name = out.pop(data.draw(st.integers(0, len(out) - 1)))
        status = data.draw(st.sampled_from(("completed", "completed", "failed")))
        output = pack(data.draw(st.booleans())) if status == "completed" else None
        ends[name] = (status, output)
        take(graph.settle(ended(name, status, output)))
    assert sorted(ends) == sorted(each.task.task_id for each in drawn)
    for each in drawn:
        assert ends[each.task.task_id][0] in rightful(each, ends), each
    assert graph.out == graph.held == ()
