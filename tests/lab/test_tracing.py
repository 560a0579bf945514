"""One trace a run: every table and every request to a model names it, and nobody has to draw it."""

import re

import pytest

from epsilon_lab import LLM, WorkQueue, ids
from epsilon_lab.testing.model_server import ModelServer, Text


def test_ids_are_hashes_of_names_in_the_form_of_the_w3c():
    header = ids.traceparent("r-1", "item-1", 2)
    assert header == f"00-{ids.trace_id('r-1')}-{ids.span_id('r-1', 'item-1', 2)}-01"
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header)
    assert ids.trace_id("r-1") != ids.trace_id("r-2")


@pytest.mark.parametrize("other", [("r", "t", 2), ("r", "t"), ("r", "u", 1), ("s", "t", 1), ("r", "t", 1, "x")])
def test_another_step_has_another_span(other):
    assert ids.span_id(*other) != ids.span_id("r", "t", 1)


def test_a_task_its_attempts_and_its_requests_are_joined_by_the_trace(lab, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-toy-0123456789-secret")
    with ModelServer(lambda request: Text("four")) as server:
        model = LLM("http/tiny", api_base=server.url, api_key_env="TOY_KEY")
        run = lab.start(WorkQueue(["two and two?"], model)).wait(60)
        [header] = [request.headers["traceparent"] for request in server.requests]
    [row] = lab.sql(
        """select call.trace_id, call.span_id, task_id, attempt.span_id as attempt_span
           from llm_calls call join tasks using (run_id, task_id, trace_id)
           join attempts attempt using (run_id, task_id, trace_id)"""
    ).itertuples(index=False)
    assert header == f"00-{row.trace_id}-{row.span_id}-01"
    assert row.trace_id == ids.trace_id(run.run_id)
    assert row.attempt_span == ids.span_id(run.run_id, row.task_id, 1)
