"""The dispatches: the same bytes from their generator, the truth in them, and a model that reads them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from epsilon_lab.testing.model_server import Call, ModelServer

ROOT = Path(__file__).parents[2]
HOME = ROOT / "datasets" / "dispatches"
NOTEBOOK = ROOT / "notebooks" / "04_entity_graph.ipynb"


def generator():
    spec = importlib.util.spec_from_file_location("dispatches_generate", HOME / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generator_gives_the_same_bytes() -> None:
    dispatches, truth = generator().make()
    assert dispatches == (HOME / "dispatches.jsonl").read_text(encoding="utf-8")
    assert truth == (HOME / "truth.json").read_text(encoding="utf-8")


def test_every_name_is_one_thing_and_stands_in_its_text() -> None:
    truth = json.loads((HOME / "truth.json").read_text(encoding="utf-8"))
    texts = [json.loads(line) for line in (HOME / "dispatches.jsonl").read_text(encoding="utf-8").splitlines()]
    known = {thing["id"]: thing["names"] for thing in truth["entities"]}
    belongs: dict[str, str] = {}
    for text in texts:
        for name, thing in truth["mentions"][text["id"]].items():
            assert name in text["text"]
            assert name in known[thing]
            assert belongs.setdefault(name, thing) == thing
    assert (len(set(belongs.values())), len(belongs)) == (46, 109)


SCRIPT = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
notebook.cells.insert(-1, nbformat.v4.new_code_cell("print(json.dumps(run.output['entities']))"))
nbclient.NotebookClient(notebook, timeout=120).execute()
print(notebook.cells[-2].outputs[0]["text"])
"""


@pytest.mark.long
def test_a_model_reads_and_judges_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [
        ["Jo Doe", "leads", "Acme", "d000", "Jo Doe leads Acme."],
        ["J. Doe", "leads", "Acme", "d000", "So she does."],
    ]
    answers = {"verdict": {"verdict": "same", "note": "by what is said"}, "": facts}

    def answer(request):
        return Call("done", {"output": next(says for word, says in answers.items() if word in str(request.messages))})

    with ModelServer(answer) as server:
        for name, value in {"WORKSPACE": str(tmp_path / "runs"), "MODEL": "http/toy", "API_BASE": server.url}.items():
            monkeypatch.setenv(f"EPSILON_{name}", value)
        script = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(NOTEBOOK)]
        done = subprocess.run(script, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"Acme": ["Acme"], "Jo Doe": ["J. Doe", "Jo Doe"]}
