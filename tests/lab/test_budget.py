"""A budget is hard: whatever is in flight, the server is never asked for more than was allowed."""

import pytest

from epsilon_lab import LLM, Budget, Lab, PopulationSearch, Problem, Replay, WorkQueue
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import Hang, ModelServer, Status, Text, vary_number

NUMBERS = {"population": 16, "generations": 3, "elites": 2, "diverse": 2, "fresh": 2, "patience": None}


def toy():
    return Problem("toy", "Return a large number.", "def solve():\n    return 10 + 5\n", score=float)


@pytest.fixture
def llm(monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-very-secret-1234")

    def make(server, model="openai/gpt-4o-mini", **changes):
        return LLM(model, api_base=server.url, api_key_env="TOY_KEY", **{"timeout_s": 20.0, "retries": 0} | changes)

    return make


def unique(request):
    """Another program for every request, so that every paid reply is judged."""
    return Text(f"```python\ndef solve():\n    return {request.index}\n```")


def test_sixteen_in_flight_send_exactly_as_many_requests_as_were_allowed(lab, llm):
    with ModelServer(unique, latency_s=0.05) as server:
        run = lab.start(PopulationSearch(toy(), llm(server), **NUMBERS), budget=Budget(calls=20)).wait(120)
        assert len(server.requests) == 20
    assert (run.status, run.reason) == ("completed", "the budget of 20 calls was used up")
    calls = run.frame("llm_calls")
    assert calls["outcome"].value_counts().to_dict() == {"ok": 20, "refused": 10}
    assert run.candidates["outcome"].value_counts().to_dict() == {"scored": 21, "proposal_failed": 10}
    assert calls.query("outcome == 'refused'")["error"].str.startswith("budget: ").all()
    assert run.best.score >= 15
    assert lab.sql("select config->'budget'->>'calls' as calls from runs")["calls"].tolist() == ["20"]


def test_a_retry_after_a_refusal_is_a_call(lab, llm):
    faults = {n: Status(429, headers={"retry-after": "0"}) for n in range(5)}
    with ModelServer(unique, faults=faults) as server:
        search = PopulationSearch(toy(), llm(server, retries=3), **NUMBERS | {"population": 8, "generations": 1})
        run = lab.start(search, budget=Budget(calls=9)).wait(120)
        assert len(server.requests) == 9
    assert run.frame("llm_calls")["outcome"].value_counts().to_dict() == {"error": 5, "ok": 4, "refused": 4}


@pytest.mark.parametrize("max_tokens", [None, 60])
def test_tokens_are_never_exceeded_by_what_the_server_counts(lab, llm, max_tokens):
    with ModelServer(unique, latency_s=0.02) as server:
        search = PopulationSearch(toy(), llm(server, max_tokens=max_tokens), **NUMBERS)
        run = lab.start(search, budget=Budget(tokens=3000)).wait(120)
        sent = len(server.requests)
        asked = [request.json["max_tokens"] for request in server.requests]
    assert 10 <= sent <= 20  # the server counts 150 a request
    assert "the budget of 3,000 tokens was used up" in run.reason
    assert max(asked) <= (max_tokens or 4096)
    assert run.frame("llm_calls")["prompt_tokens"].count() == sent


def test_what_was_turned_away_costs_no_tokens_and_what_failed_may_have(lab, llm):
    faults = {0: Status(429, headers={"retry-after": "0"}), 1: Status(500)}
    with ModelServer(unique, faults=faults) as server:
        numbers = NUMBERS | {"population": 6, "generations": 1}
        search = PopulationSearch(toy(), llm(server, retries=1), in_flight=1, **numbers)
        run = lab.start(search).wait(120)
        assert len(server.requests) == 7
    errors = run.frame("llm_calls").query("outcome == 'error'")
    assert errors["cost_usd"].fillna(-1).tolist() == [0.0, -1]
    assert errors["prompt_tokens"].fillna(-1).tolist() == [0, -1]


def test_a_server_that_does_not_count_is_charged_a_token_a_byte(lab, llm):
    """So a budget of tokens is kept there too, and the search goes further than by what each reply might have been."""
    script = lambda request: Text(f"```python\ndef solve():\n    return {request.index}\n```", prompt_tokens=None)  # noqa: E731
    with ModelServer(script) as server:
        search = PopulationSearch(toy(), llm(server, "http/toy", max_tokens=2000), in_flight=1, **NUMBERS)
        run = lab.start(search, budget=Budget(tokens=10_000)).wait(120)
        sent = len(server.requests)
    assert 6 <= sent <= 10  # 800 to 1,500 bytes of prompt and 40 of reply each; by the most of each it would be 3
    assert run.frame("llm_calls")["prompt_tokens"].isna().all()
    assert "the budget of 10,000 tokens was used up" in run.reason


def test_money_is_never_exceeded(lab, llm):
    with ModelServer(unique, latency_s=0.02) as server:
        search = PopulationSearch(toy(), llm(server, max_tokens=100), **NUMBERS)
        run = lab.start(search, budget=Budget(usd=0.001)).wait(120)
        assert 15 <= len(server.requests) <= 22  # 0.000045 a request
    assert "the budget of $0.001 was used up" in run.reason
    assert run.frame("llm_calls")["cost_usd"].sum() <= 0.001


def test_a_budget_smaller_than_one_call_fails_and_sends_nothing(lab, llm):
    with ModelServer() as server:
        run = lab.start(PopulationSearch(toy(), llm(server), **NUMBERS), budget=Budget(tokens=100))
        with pytest.raises(RunFailed, match="does not pay for one request"):
            run.wait(60)
        assert not server.requests


def test_a_brief_that_cannot_be_paid_is_the_deterministic_one_and_says_so(lab, llm):
    with ModelServer(unique) as server:
        search = PopulationSearch(toy(), brief=llm(server), **NUMBERS | {"population": 6})
        run = lab.start(search, budget=Budget(calls=1)).wait(120)
        assert len(server.requests) == 1
    authors = run.frame("briefs")["author"].tolist()
    assert authors[0] == "openai/gpt-4o-mini"
    assert all(author == "deterministic (budget: the budget of 1 call was used up)" for author in authors[1:])
    assert run.reason == "all 3 generations are done"


def test_a_run_that_is_resumed_goes_on_with_what_is_left(tmp_path, llm):
    """Requests that were in flight when the lab ended count: they may have been billed."""
    path = tmp_path / "runs"
    with ModelServer(unique, latency_s=0.2) as server:
        search = PopulationSearch(toy(), llm(server), in_flight=4, **NUMBERS)
        with Lab(path, workers=2) as lab:
            run_id = lab.start(search, budget=Budget(calls=20)).run_id
            server.wait_for(7)
        cut_off = len(server.requests)
        with Lab(path, workers=2) as lab:
            run = lab.resume(run_id).wait(120)
            calls = run.frame("llm_calls")
        assert cut_off < len(server.requests) == 20
    assert run.reason == "the budget of 20 calls was used up"
    assert len(calls.query("outcome == 'unknown'")) >= 1
    assert len(calls.query("outcome != 'refused'")) == 20


def test_a_replay_costs_nothing(tmp_path, llm):
    with ModelServer(vary_number) as server, Lab(tmp_path / "replayed", workers=2) as lab:
        recorded = lab.start(PopulationSearch(toy(), llm(server), **NUMBERS), budget=Budget(calls=20)).wait(120)
        played = lab.start(PopulationSearch(toy(), Replay(recorded), **NUMBERS), budget=Budget(calls=1)).wait(120)
        assert len(server.requests) == 20
    assert played.lineage().equals(recorded.lineage())
    assert played.reason == recorded.reason


def test_when_the_seconds_are_over_what_is_paid_for_is_still_judged_and_nothing_more_is_asked(lab, llm):
    with ModelServer(unique, latency_s=9.0) as server:
        budget = Budget(seconds=8, usd=1)  # a price is looked up before the clock starts: litellm takes seconds to load
        run = lab.start(PopulationSearch(toy(), llm(server), in_flight=4, **NUMBERS), budget=budget).wait(120)
        assert len(server.requests) == 4
    assert (run.status, run.reason) == ("completed", "the budget of 8 s was used up")
    assert run.candidates["outcome"].value_counts().to_dict() == {"scored": 5, "proposal_failed": 12}


def test_a_run_that_is_resumed_after_its_time_begins_nothing(tmp_path, llm):
    """What was in flight when the lab ended is not asked again either."""
    path, faults = tmp_path / "runs", {1: Hang()}
    with ModelServer(unique, latency_s=9.0, faults=faults) as server:
        search = PopulationSearch(toy(), llm(server), in_flight=2, **NUMBERS)
        with Lab(path, workers=2) as lab:
            left = lab.start(search, budget=Budget(seconds=8, usd=1))
            assert wait_until(lambda: "ok" in set(left.frame("llm_calls")["outcome"]), within_s=60)
        with Lab(path, workers=2) as lab:
            run = lab.resume(left.run_id).wait(120)
            outcomes = run.frame("llm_calls")["outcome"].value_counts()
        assert len(server.requests) == 2
    assert run.reason == "the budget of 8 s was used up"
    assert (outcomes["ok"], outcomes["unknown"]) == (1, 1)


def test_the_seconds_end_a_queue_with_the_items_that_are_done(lab):
    def work(item):
        import time

        time.sleep(item)
        return item

    assert wait_until(lambda: len(lab.workers) == 3, within_s=60), "two children and the async lane"
    run = lab.start(WorkQueue([0, 600, 600, 600], work), budget=Budget(seconds=4)).wait(60)
    assert (run.status, run.reason) == ("completed", "the budget of 4 s was used up; 1 of 4 items were completed")
    assert run.results(failed="none") == [0, None, None, None]


def test_what_cannot_be_kept_is_refused_before_anything_is_spent(own_lab, llm):
    with ModelServer() as server:
        with pytest.raises(InvalidInput, match="nobody knows the price of openai/toy; limit calls= or tokens="):
            own_lab.start(PopulationSearch(toy(), llm(server, "openai/toy")), budget=Budget(usd=1))
        with pytest.raises(InvalidInput, match="must be a Budget"):
            own_lab.start(PopulationSearch(toy(), llm(server)), budget=20)
        assert not server.requests
    assert own_lab.sql("select * from runs").empty
