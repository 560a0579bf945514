"""A search by a model, over real HTTP: it completes whatever the server does, and every reply is a row."""

import hashlib
import re

import pytest

from epsilon_lab import LLM, Lab, PopulationSearch, Problem, Replay
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import Hang, ModelServer, Raw, Status, Text, edit_number, vary_number

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
    faults = [
        Text("no program today"),
        Text("```python\ndef solve(:\n```"),
        Text("```python\ndef other(): pass\n```"),
        Status(500),
        Raw("<html>proxy</html>", "text/html"),
        Hang(),
    ]

    def script(request):
        """Half of the first generation is never answered well, whether asked once or twice."""
        place = re.search(r"This is candidate g000-c00([0-5])", request.prompt)
        return faults[int(place[1])] if place else vary_number(request)

    with ModelServer(script) as server:
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
    assert sorted(calls.query("call == 1")["candidate_id"]) == ["g000-c000", "g000-c001", "g000-c002"]
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


def careless(request):
    """Forgets the program in one of three first replies, and edits where it may."""
    again = "Your answer cannot be used" in request.prompt
    if not again and hashlib.sha256(request.prompt.encode()).digest()[7] % 3 == 0:
        return "I would change a number."
    return edit_number(request)


def test_twenty_replays_of_one_recorded_search_have_one_lineage(tmp_path, key):
    """Whatever is in flight at once; with edits, repairs and a model that writes the briefs."""
    source = f'"""{"A remark. " * 250}"""\n\ndef solve():\n    return 10 + 5\n'
    problem = Problem("toy", "Return a large number.", source, score=float)
    with ModelServer(careless) as server, Lab(tmp_path / "recorded", workers=2) as lab:
        search = PopulationSearch(problem, model(server, key), brief=model(server, key), **NUMBERS)
        recorded = lab.start(search).wait(120)
        sent = len(server.requests)
        calls = recorded.frame("llm_calls")
        assert (calls["call"] == 1).sum() >= 2
        assert sum("<<<<<<< SEARCH" in (recorded.path / ref).read_text() for ref in calls["reply_ref"]) >= 2
        assert recorded.candidates["score"].notna().sum() > 4
        for round_ in range(20):
            replay = PopulationSearch(
                problem, Replay(recorded), brief=Replay(recorded), in_flight=(1, 2, 4, 16)[round_ % 4], **NUMBERS
            )
            replayed = lab.start(replay).wait(120)
            assert replayed.lineage().equals(recorded.lineage())
            assert replayed.frame("briefs")["text"].equals(recorded.frame("briefs")["text"])
        assert len(server.requests) == sent


def test_a_model_s_text_is_escaped_where_it_is_shown(lab, key):
    evil = "```python\ndef solve():\n    return 99  # <script>alert(1)</script>\n```"
    with ModelServer(lambda request: Text(evil)) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key), **NUMBERS | {"generations": 1})).wait(60)
    assert run.best.score == 99
    assert "<script>" not in run.show()._repr_html_()
    assert "<script>" not in run.best._repr_html_()
