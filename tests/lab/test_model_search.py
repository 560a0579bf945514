"""A search by a model, over real HTTP: it completes whatever the server does, and every reply is a row."""

import pytest

from epsilon_lab import LLM, Lab, PopulationSearch, Problem, Replay
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import Hang, ModelServer, Raw, Status, Text, vary_number

KEY = "sk-very-secret-1234"
NUMBERS = {"population": 6, "generations": 3, "elites": 2, "diverse": 1, "fresh": 1, "patience": None}


def toy():
    return Problem("toy", "Return a large number.", "def solve():\n    return 10 + 5\n", score=float)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("TOY_KEY", KEY)
    return "TOY_KEY"


def model(server, key, **changes):
    return LLM("openai/toy", api_base=server.url, api_key_env=key, **{"timeout_s": 5.0, "retries": 0} | changes)


def test_a_search_by_a_model_completes_and_every_reply_is_a_row(lab, key):
    with ModelServer(latency_s=0.05) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key), brief=model(server, key), **NUMBERS)).wait(120)
    assert run.status == "completed"
    assert run.best.score > 15
    calls = run.frame("llm_calls")
    assert len(calls) == len(server.requests) == 6 + 4 + 4 + 3
    assert set(calls["outcome"]) == {"ok"}
    assert calls["prompt_tokens"].notna().all()
    assert calls["cost_usd"].isna().all()  # nobody knows the price of openai/toy
    for ref in [*calls["prompt_ref"], *calls["reply_ref"]]:
        assert (run.path / ref).stat().st_size
    child = run.candidate("g001-c003")
    assert "def solve" in child.prompt
    assert "```python" in child.reply
    assert set(run.frame("briefs")["author"]) == {"openai/toy"}
    assert all(KEY.encode() not in path.read_bytes() for path in run.path.rglob("*") if path.is_file())


def test_malformed_replies_errors_and_a_hang_are_rows_with_reasons(lab, key):
    def script(request):
        text = vary_number(request)
        return Text(text)

    faults = {
        0: Text("no program today"),
        1: Text("```python\ndef solve(:\n```"),
        2: Text("```python\ndef other(): pass\n```"),
        3: Status(500),
        4: Raw("<html>proxy</html>", "text/html"),
        5: Hang(),
    }
    with ModelServer(script, faults=faults) as server:
        search = PopulationSearch(toy(), model(server, key, timeout_s=1.5), **NUMBERS | {"population": 10})
        run = lab.start(search).wait(120)
    rows = run.candidates.query("generation == 0 and candidate_id != 'seed'")
    failed = rows.query("outcome == 'proposal_failed'")
    assert len(rows) == 10
    assert len(failed) == 6
    assert (failed["error"].str.len() > 10).all()
    assert failed["error"].str.contains("within 1.5 s", regex=False).sum() == 1
    said = [run.candidate(name).reply for name in failed["candidate_id"]]
    assert sum("no program today" in reply for reply in said) == 1
    assert sum(reply == "" for reply in said) == 3  # the error, the page and the hang gave none
    assert all("def solve" in run.candidate(name).prompt for name in failed["candidate_id"])
    calls = run.frame("llm_calls")
    assert len(calls) == len(server.requests)
    assert set(calls["outcome"]) == {"ok", "timeout", "error"}
    assert run.best.score > 15


def test_requests_cut_off_by_the_end_of_their_run_are_rows(lab, key):
    with ModelServer(lambda request: Hang()) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key, timeout_s=60.0), in_flight=4, **NUMBERS))
        server.wait_for(4)
        run.stop()
        run.wait(60)
        calls = run.frame("llm_calls")
        assert len(calls) == len(server.requests) == 4
    assert set(calls["outcome"]) == {"unknown"}
    assert calls["error"].str.contains("cut off").all()
    assert set(run.frame("tasks")["status"]) <= {"completed", "cancelled"}
    assert run.frame("attempts")["outcome"].notna().all()


def test_a_model_that_never_answers_well_ends_the_run_with_the_reason(lab, key):
    with ModelServer(lambda request: Status(401)) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key), **NUMBERS))
        with pytest.raises(RunFailed, match="401"):
            run.wait(60)
    assert KEY not in run.reason


def test_a_missing_key_is_refused_before_anything_is_spent(lab, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InvalidInput, match="NO_SUCH_KEY"):
        lab.start(PopulationSearch(toy(), LLM("openai/toy", api_key_env="NO_SUCH_KEY")))
    assert lab.sql("select * from runs").empty


def test_a_recorded_search_by_a_model_has_one_lineage_at_1_and_4_in_flight(tmp_path, key):
    lineages, sent = [], 0
    with ModelServer() as server, Lab(tmp_path / "recorded", workers=2) as lab:
        recorded = lab.start(PopulationSearch(toy(), model(server, key), brief=model(server, key), **NUMBERS)).wait(120)
        lineages.append(recorded.lineage())
        sent = len(server.requests)
        for in_flight in (1, 4):
            search = PopulationSearch(toy(), Replay(recorded), brief=Replay(recorded), in_flight=in_flight, **NUMBERS)
            lineages.append(lab.start(search).wait(120).lineage())
        assert len(server.requests) == sent
    assert lineages[0].equals(lineages[1])
    assert lineages[1].equals(lineages[2])


def test_a_model_s_text_is_escaped_where_it_is_shown(lab, key):
    evil = "```python\ndef solve():\n    return 99  # <script>alert(1)</script>\n```"
    with ModelServer(lambda request: Text(evil)) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key), **NUMBERS | {"generations": 1})).wait(60)
    assert run.best.score == 99
    assert "<script>" not in run.show()._repr_html_()
    assert "<script>" not in run.best._repr_html_()
