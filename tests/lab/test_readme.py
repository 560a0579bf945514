"""What the README shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
DOCS = "from pathlib import Path\n\ndef write(request):\n    Path(request['workspace'], 'docs.md').write_text('docs')\n"


def block_with(words: str) -> str:
    (block,) = (block for block in BLOCKS if words in block)
    return block.strip()


@pytest.fixture
def run_in(tmp_path, monkeypatch):
    """Runs lines of the README one after the other, and closes the lab that they open."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}

    def run(lines):
        exec(compile(lines, "README.md", "exec"), names)
        return names

    yield run
    names["lab"].close()


def test_the_build_passes_in_its_second_wave(tmp_path, run_in):
    (tmp_path / "docs.py").write_text(DOCS)
    block = block_with("Dag(")
    lines, _, rerun = block.rpartition("\n")
    run = run_in(lines)["run"]
    said = re.search(r"^run\.reason  # '(.*)'$", block, re.MULTILINE)
    assert said is not None
    assert run.reason == said[1]
    assert list(run.frame("tasks")["task_id"]) == ["code", "docs", "qa", "code~2", "qa~2"]
    assert (tmp_path / "product" / "mean.py").read_text().endswith("/ len(n)\n")
    run_in(rerun)
    run.wait(60)
    assert "code~3" in set(run.frame("tasks")["task_id"])


def test_a_case_is_decided_and_the_outputs_go_by_it(tmp_path, run_in):
    names = run_in(block_with("flag(key="))
    run = names["run"]
    assert (run.output["same"], len(run.cases.open)) == ([], 1)
    assert run.cases.open[0].question in block_with("flag(key=")
    names["agent"] = lambda case: "different"
    lines = block_with("run.finalize()").replace(
        "run.adjudicate(agent, where=\"status = 'open' and score > 0.5\")", "None"
    )
    run_in(lines)
    assert run.output["same"] == [["B. Obama", "Barack Obama"]]
    run_in('print(run.artifacts); run.to_parquet("export")')
    assert (tmp_path / "export" / "verdicts.parquet").is_file()
