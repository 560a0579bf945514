"""What the README shows of topologies runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
DOCS = "from pathlib import Path\n\ndef write(request):\n    Path(request['workspace'], 'docs.md').write_text('docs')\n"


def test_the_build_passes_in_its_second_wave(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs.py").write_text(DOCS)
    (block,) = (
        block for block in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL) if "Dag(" in block
    )
    *lines, rerun = block.strip().splitlines()
    names: dict = {"__name__": "readme"}
    exec(compile("\n".join(lines), "README.md", "exec"), names)
    run, lab = names["run"], names["lab"]
    try:
        said = re.search(r"^run\.reason  # '(.*)'$", block, re.MULTILINE)
        assert said is not None
        assert run.reason == said[1]
        assert list(run.frame("tasks")["task_id"]) == ["code", "docs", "qa", "code~2", "qa~2"]
        assert (tmp_path / "product" / "mean.py").read_text().endswith("/ len(n)\n")
        exec(compile(rerun, "README.md", "exec"), names)
        run.wait(60)
        assert "code~3" in set(run.frame("tasks")["task_id"])
    finally:
        lab.close()
