"""What a candidate prints, raises or is called reaches a page as text and a terminal as nothing that it would obey."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epsilon_lab import LLM, Lab, PopulationSearch, Problem
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import ModelServer, Status

NASTY = "<script>alert(1)</script>\x1b]52;c;cm0gLXJm\x07\x1b[2J\u202egnp.exe\x00\x9b31m"
"""Markup; escape sequences that write the clipboard and clear the screen; text that runs backwards; a bare control."""

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

SEED = "def solve():\n    return 1\n"


def propose(context: Any) -> str:
    words = {
        0: f"def solve():\n    print({NASTY!r})\n    return 2\n",
        1: f"def solve():\n    raise ValueError({NASTY!r})\n",
        2: f"def solve():\n    return {NASTY!r}\n",
        3: f"def solve():\n    import os, sys\n    os.write(2, {NASTY.encode()!r})\n    os._exit(3)\n",
        4: f"# {NASTY.replace(chr(0), '')}\ndef solve():\n    return 3\n",
        5: f"class E(Exception): pass\nE.__name__ = E.__qualname__ = {NASTY!r}\ndef solve(): raise E(1)\n",
    }
    if context.candidate_id == "g001-c000":
        raise ValueError(NASTY)
    return words[int(context.candidate_id[-1]) % len(words)]


def score(output: Any) -> Any:
    if isinstance(output, str):
        raise ValueError(output)
    return {"score": float(output), "said": NASTY}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Lab(tmp_path_factory.mktemp("display"), workers=1) as lab:
        problem = Problem("display", "Return a number.", SEED, score=score)
        search = PopulationSearch(problem, propose, population=6, generations=2, elites=1, diverse=1, fresh=1)
        yield lab.start(search).wait(120)


def texts(run: Any) -> dict[str, str]:
    """Everything that is shown as plain text, in a terminal."""
    candidate = run.candidate("g000-c001")
    with pd.option_context("display.max_columns", None, "display.max_colwidth", None, "display.width", 0):
        return {
            "frame": repr(run.candidates),
            "tasks": repr(run.frame("tasks")),
            "attempts": repr(run.frame("attempts")),
            "failures": repr(run.failures),
            "column": str(run.candidates["stdout"].tolist()[1]),
            "card": str(run.show()),
            "run": repr(run),
            "candidate": repr(candidate),
            "traceback": candidate.traceback,
            "stdout": run.candidate("g000-c000").stdout,
            "brief": run.brief(0),
            "best": repr(run.best),
            "reason": run.reason,
            "leaderboard": (run.path / "leaderboard.csv").read_text(),
        }


def test_no_terminal_obeys_a_candidate(run: Any) -> None:
    assert {name: found for name, text in texts(run).items() if (found := OBEYED.findall(text))} == {}


def test_a_model_server_s_words_are_a_strangers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-test")
    with ModelServer(lambda request: Status(418, NASTY)) as server, Lab(tmp_path, workers=1) as lab:
        model = LLM("http/test", api_base=server.url, api_key_env="TEST_KEY")
        run = lab.start(PopulationSearch(Problem("display", "Return a number.", SEED, score=score), model))
        with pytest.raises(RunFailed) as failed:
            run.wait(120)
        shown = {
            "error": str(failed.value),
            "reason": run.reason,
            **{name: repr(run.frame(name)) for name in ("candidates", "tasks", "attempts", "llm_calls", "events")},
        }
    assert {name: found for name, text in shown.items() if (found := OBEYED.findall(text))} == {}


def test_no_page_runs_what_a_candidate_wrote(run: Any) -> None:
    pages = {
        "run": run._repr_html_(),
        "candidate": run.candidate("g000-c004")._repr_html_(),
        "frame": run.candidates._repr_html_(),
        "card": run.show()._repr_html_(),
    }
    assert {name for name, page in pages.items() if "<script" in page or OBEYED.search(page)} == set()
    assert any("&lt;script" in page for page in pages.values())


@pytest.mark.parametrize("name", ["../seed", "/etc/passwd", "g000-c000/../../x", "..", ".", ""])
def test_a_candidates_id_is_no_path(run: Any, name: str) -> None:
    with pytest.raises(InvalidInput):
        run.candidate(name)
