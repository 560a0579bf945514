"""A search by a model, over real HTTP: it completes whatever the server does, and every reply is a row."""

import gzip
import hashlib
import re

import pytest

from epsilon_lab import LLM, Lab, PopulationSearch, Problem, Replay
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import (
    Hang,
    Huge,
    ModelServer,
    Raw,
    Reset,
    Status,
    Text,
    Trickle,
    edit_number,
    vary_number,
)

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
        Text("half a program"),
    ]

    def script(request):
        """Most of the first generation is never answered well, whether asked once or twice."""
        place = re.search(r"This is candidate g000-c00([0-6])", request.prompt)
        if "half a program" in request.prompt:
            return Status(400)
        return faults[int(place[1])] if place else vary_number(request)

    with ModelServer(script) as server:
        search = PopulationSearch(toy(), model(server, key, timeout_s=1.5), **NUMBERS | {"population": 10})
        run = lab.start(search).wait(120)
    rows = run.candidates.query("generation == 0 and candidate_id != 'seed'")
    failed = rows.query("outcome == 'proposal_failed'")
    assert len(rows) == 10
    assert len(failed) == 7
    assert (failed["error"].str.len() > 10).all()
    assert failed["error"].str.contains("within 1.5 s", regex=False).sum() == 1
    said = [run.candidate(name).reply for name in failed["candidate_id"]]
    assert said.count("no program today") == said.count("half a program") == 1
    assert sum(reply == "" for reply in said) == 3  # the error, the page and the hang gave none
    assert all("def solve" in run.candidate(name).prompt for name in failed["candidate_id"])
    calls = run.frame("llm_calls")
    assert len(calls) == len(server.requests)
    assert set(calls["outcome"]) == {"ok", "timeout", "error"}
    assert sorted(calls.query("call == 1")["candidate_id"]) == ["g000-c000", "g000-c001", "g000-c002", "g000-c006"]
    assert run.best.score > 15


@pytest.mark.parametrize("door", ["openai", "http"])
def test_requests_cut_off_by_the_end_of_their_run_are_rows(lab, key, door):
    with ModelServer(lambda request: Hang()) as server:
        hanging = LLM(f"{door}/toy", api_base=server.url, api_key_env=key, timeout_s=60.0)
        run = lab.start(PopulationSearch(toy(), hanging, in_flight=4, **NUMBERS))
        server.wait_for(4)
        run.stop()
        run.wait(60)
        calls = run.frame("llm_calls")
        assert len(calls) == len(server.requests) == 4
    assert set(calls["outcome"]) == {"unknown"}
    assert calls["error"].str.contains("cut off").all()
    assert set(run.frame("tasks")["status"]) <= {"completed", "cancelled"}
    assert run.frame("attempts")["outcome"].notna().all()


@pytest.mark.parametrize(("status", "words"), [(401, "check TOY_KEY"), (404, "check model and api_base")])
def test_a_model_that_refuses_us_ends_the_run_at_its_first_call(lab, key, status, words):
    with ModelServer(lambda request: Status(status)) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key, retries=3), in_flight=1, **NUMBERS))
        with pytest.raises(RunFailed, match=f"model refused: openai/toy: .*{words}"):
            run.wait(60)
        assert len(server.requests) == 1
    assert run.status == "failed"
    assert KEY not in run.reason


def test_what_a_model_gave_before_its_account_was_empty_is_an_output(lab, key):
    with ModelServer(lambda request: Status(402) if request.index >= 8 else vary_number(request)) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key), in_flight=1, **NUMBERS)).wait(60)
        assert len(server.requests) == 9
    assert run.status == "completed"
    assert re.match("model refused: openai/toy: the account has no credit left", run.reason)
    assert run.best.score > 15


@pytest.mark.parametrize("door", ["openai", pytest.param("http", marks=pytest.mark.long)])
def test_whatever_a_server_does_the_search_says_so_and_no_request_is_lost(lab, key, door):
    """And the key is in no file, though the server sends it back."""
    echo = f"you sent {KEY}"
    at_once = {"Retry-After": "0"}
    answers = {
        "access was denied": Status(403, echo),
        "too many requests": Status(429, echo, headers=at_once),
        "the request was refused (400": Status(400, echo),
        "the request may have been billed": Status(500, echo, headers=at_once),
        "no usable answer": Raw(f"<html>{echo}</html>", "text/html"),
        "it is compressed": Raw(gzip.compress(b" " * 10_000_000), headers={"Content-Encoding": "gzip"}),
        "it is larger than": Huge(100_000_000),
        "broke the connection": Reset(),
        "no whole answer within 0.5 s": Trickle(every_s=0.01),
        "no ```python block; asked once more": Text(echo),
    }
    numbers = NUMBERS | {"population": 2, "elites": 0}
    for words, answer in answers.items():
        with ModelServer([answer]) as server:
            limit_s = 0.5 if isinstance(answer, Trickle) else 30.0
            llm = LLM(f"{door}/toy", api_base=server.url, api_key_env=key, timeout_s=limit_s, retries=1)
            run = lab.start(PopulationSearch(toy(), llm, **numbers))
            with pytest.raises(
                RunFailed, match="no proposal of generation 0 gave a program; the first said: "
            ) as caught:
                run.wait(60)
            calls = run.frame("llm_calls")
            assert words in str(caught.value)
            assert len(calls) == len(server.requests) > 0
            assert calls["outcome"].isin(["ok", "error", "timeout"]).all()
            assert list(run.candidates["outcome"]) == ["scored", "proposal_failed", "proposal_failed"]
    files = [path for path in lab.path.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_server_that_fails_for_a_while_costs_no_candidate(lab, key):
    def script(request):
        """Every other request is refused or fails."""
        again = Status(429 if request.index % 4 else 500, headers={"Retry-After": "0"})
        return vary_number(request) if request.index % 2 else again

    with ModelServer(script) as server:
        run = lab.start(PopulationSearch(toy(), model(server, key, retries=5), **NUMBERS)).wait(60)
        calls = run.frame("llm_calls")
        assert len(calls) == len(server.requests)
    assert "proposal_failed" not in set(run.candidates["outcome"])
    assert set(calls["outcome"]) == {"ok", "error"}


def test_a_missing_key_is_refused_before_anything_is_spent(own_lab, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(InvalidInput, match="NO_SUCH_KEY"):
        own_lab.start(PopulationSearch(toy(), LLM("openai/toy", api_key_env="NO_SUCH_KEY")))
    assert own_lab.sql("select * from runs").empty


def careless(request):
    """Forgets the program in one of three first replies, and edits where it may."""
    again = "Your answer cannot be used" in request.prompt
    if not again and hashlib.sha256(request.prompt.encode()).digest()[7] % 3 == 0:
        return "I would change a number."
    return edit_number(request)


@pytest.mark.parametrize("replays", [2, pytest.param(20, marks=pytest.mark.long)])
def test_replays_of_one_recorded_search_have_one_lineage(tmp_path, key, replays):
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
        for round_ in range(replays):
            replay = PopulationSearch(
                problem, Replay(recorded), brief=Replay(recorded), in_flight=(1, 16, 2, 4)[round_ % 4], **NUMBERS
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
