"""A hold-out that somebody chose by would be none: it is in the table, and in nothing a proposer is told."""

from __future__ import annotations

import re

from epsilon_lab import LLM, PopulationSearch, problems
from epsilon_lab.problems.bins import HELD_OUT
from epsilon_lab.problems.weibull_items import items
from epsilon_lab.testing.model_server import ModelServer, Text

RULE = """```python
def priority(item, spaces):
    return [-(space - item) if space - item < 5 or space - item > {limit} else -100 for space in spaces]
```"""


def answer(request):
    """Another limit for each candidate; now and then a program that packs otherwise when it is fed."""
    place = re.search(r"This is candidate g(\d+)-c(\d+)", request.prompt)
    if place is None:
        return Text("Larger limits do better.")
    rule = RULE.format(limit=6 + 3 * int(place[1]) + int(place[2]))
    return Text(rule.replace("[-(", "[id(spaces) % 97 - (") if place[2] == "001" else rule)


def test_the_hold_out_is_reported_and_shown_to_nobody_who_proposes(lab, monkeypatch):
    monkeypatch.setenv("TOY_KEY", "sk-1234")
    with ModelServer(answer) as server:
        model = LLM("openai/toy", api_base=server.url, api_key_env="TOY_KEY")
        search = PopulationSearch(
            problems.bin_packing(), model, population=5, generations=3, elites=1, diverse=1, fresh=1, brief=model
        )
        run = lab.start(search).wait(300)
    assert run.status == "completed", run.reason
    rows = run.candidates
    checked = rows[rows["checked"] == True]  # noqa: E712 - a column with None in it
    assert len(checked) >= 3
    assert checked["score_held_out"].notna().all()
    assert rows[rows["checked"] != True]["score_held_out"].isna().all()  # noqa: E712
    assert run.best.row["score_held_out"] < rows.set_index("candidate_id").loc["seed", "score_held_out"]

    told = [request.prompt for request in server.requests]
    told += [path.read_text() for folder in ("briefs", "prompts") for path in run.path.glob(f"{folder}/**/*.*")]
    told.append((run.path / "problem" / "public.json").read_text())
    assert len(told) > len(server.requests) > 10
    hidden = [f"{score:.{digits}f}" for score in checked["score_held_out"] for digits in (3, 6)]
    hidden += [repr(score) for score in checked["score_held_out"]]
    for number in range(HELD_OUT):
        hidden.append(", ".join(map(str, items(500, seed=17, of="held out", number=number)[:6])))
    assert any(f"{score:.10g}" in text for score in checked["score"] for text in told)  # what is shown is found so
    assert [secret for secret in ["held", *hidden] for text in told if secret in text] == []
