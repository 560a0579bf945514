"""The benchmark papers: the same bytes from their generator, what two readings find in them, a model in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from benchmark_papers import corpus, generate, measuring, reading
from benchmark_papers.comparing import Placed, follow, leaderboard, placed
from benchmark_papers.corpus import CATALOGUE, HERE, Paper
from benchmark_papers.measuring import misplaced, true_ranking, worth

from epsilon_lab import reducers
from epsilon_lab.testing.model_server import Call, ModelServer

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "06_benchmark_scout.ipynb"


TOP_1 = "For OrchardBench, accuracy is top-1."
OBLIQUE = "On OrchardBench only the first label that a model gives is looked at."
MIXED = "We report test figures. Unlike others on the dev split."


def nobody(**case: Any) -> None:
    return None


def examined(**case: Any) -> str | None:
    verdict: str | None = reading.examine(case)["verdict"]
    return verdict


def collated(papers: list[Paper], flag: Callable[..., str | None]) -> list[Placed]:
    """What the notebook's reducer does."""
    rows = [row for paper in papers for row in reading.quick(paper)]
    alike = reducers.flag_alike([row["benchmark"] for row in rows], flag=flag)
    names = {
        name: next((each for each in entity.names if each in CATALOGUE), entity.name)
        for entity in alike.entities
        for name in entity.names
    }
    found = placed(rows, names)
    by_name = {paper["paper"]: paper for paper in papers}
    for each in found:
        for reference in each.references:
            if not each.settle(reference, flag(**each.question(reference, by_name))):
                break
    follow(found)
    return found


def f1(found: list[Placed], truth: Mapping[str, Mapping[str, str]]) -> float:
    groups = {row: each["group"] for row, each in truth.items()}
    return worth({each.row["row"]: each.group for each in found}, groups).f1


def paper(head: str, *, caption: str = "Table 1: Results (test split).", setup: str = "", after: str = "") -> Paper:
    table = f"| System | {head} |\n|---|---|\n| Heron (ours) | 70.1 |"
    return {"paper": "p01", "text": f"## Setup\n\n{setup}\n\n## Results\n\n{caption}\n\n{table}\n\n{after}"}


def shown(read: Paper) -> dict[str, str]:
    [row] = reading.quick(read)
    return reading.shown(read, row)


# -- the data ---------------------------------------------------------------------------------------------------------


def test_the_generator_gives_the_same_bytes() -> None:
    made = {path: text.encode() for path, text in generate.files().items()}
    kept = {
        path.relative_to(HERE).as_posix(): path.read_bytes() for path in [*HERE.glob("papers/*"), HERE / "truth.csv"]
    }
    assert made == kept


def test_the_card_counts_what_is_planted() -> None:
    own = [row for row in corpus.truth().values() if not row["origin"]]
    usual = {each.name: each for each in generate.BENCHMARKS}
    counted = {
        "papers": len(corpus.papers()),
        "rows": len(corpus.truth()),
        "cited": len(corpus.truth()) - len(own),
        "another metric": sum(row["metric"] != usual[row["benchmark"]].metrics[0] for row in own),
        "development split": sum(row["split"] == "dev" for row in own),
        "five-shot": sum(row["shots"] == "5" for row in own),
        "older version": sum(row["version"] == "1.0" for row in own),
        "another unit": sum(row["unit"] in ("share", "s") for row in own),
        "told in text or a footnote": sum(bool(row["hidden"]) for row in own),
        "benchmark's name misspelt": sum(
            any(f"{each.typo}" in line for each in generate.BENCHMARKS if each.typo)
            for read in corpus.papers()
            for line in read["text"].splitlines()
            if line.startswith("| System")
        ),
    }
    card = (HERE / "README.md").read_text("utf-8")
    for what, count in counted.items():
        assert f"| {what} | {count} |" in card


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_quick_reading_misses_no_number_and_names_what_the_head_tells() -> None:
    truth = corpus.truth()
    rows = [row for read in corpus.papers() for row in reading.quick(read)]
    assert [row["row"] for row in rows] == list(truth)
    assert all(
        (row["system"], row["printed"]) == (truth[row["row"]]["system"], truth[row["row"]]["printed"]) for row in rows
    )
    own = [row for row in rows if not (row["source"] or row["sign"])]
    told = [
        (row[name], truth[row["row"]][name]) for row in own for name in corpus.CONDITIONS if truth[row["row"]][name]
    ]
    assert all(said in ("", true) for said, true in told)
    assert round(mean(said == true for said, true in told), 2) == 0.71


@pytest.mark.parametrize(
    ("read", "known"),
    [
        (paper("OrchardBench (top-5, %)"), {"metric": "top-5 accuracy", "split": "test"}),
        (paper("OrchardBench (top-5)†", after="† Development split."), {"metric": "top-5 accuracy", "split": "dev"}),
        (paper("OrchardBench", setup=TOP_1), {"metric": "top-1 accuracy", "split": "test"}),
        (paper("OrchardBench", setup="On Gravelspeak we report accuracy."), {"split": "test"}),
        (paper("Lanternfield 1.0", caption="", setup="We use 5-shot prompts."), {"version": "1.0", "shots": "5"}),
    ],
)  # fmt: skip
def test_a_close_reading_goes_by_what_is_nearest(read: Paper, known: dict[str, str]) -> None:
    assert {name: each["value"] for name, each in reading.closely(shown(read)).items()} == known


@pytest.mark.parametrize(
    ("other", "verdict", "confidence"),
    [
        (paper("OrchardBench", setup=TOP_1), "comparable", 1.0),
        (paper("OrchardBench (top-5)"), "not comparable", 1.0),
        (paper("OrchardBench", setup=OBLIQUE), None, 0.0),
        (paper("OrchardBench (top-1)", caption="", setup=MIXED), "comparable", 0.5),
    ],
)  # fmt: skip
def test_rows_are_comparable_where_all_that_counts_is_told_and_the_same(
    other: Paper, verdict: str | None, confidence: float
) -> None:
    case = {"kind": "comparable", "evidence": {"p01-1": shown(other), "p02-1": shown(paper("OrchardBench (top-1)"))}}
    said = reading.examine(case)
    assert (said["verdict"], said["confidence"]) == (verdict, confidence)


# -- comparing --------------------------------------------------------------------------------------------------------


def test_a_second_look_mends_what_the_tables_hide_and_one_who_knows_the_rest() -> None:
    papers, truth = corpus.papers(), corpus.truth()

    def knows(**case: Any) -> str | None:
        if case["kind"] == "alike":
            return examined(**case)
        one, other = (truth[row]["group"] for row in case["key"])
        return "comparable" if one == other else "not comparable"

    found = [collated(papers, flag) for flag in (nobody, examined, knows)]
    assert [round(f1(each, truth), 3) for each in found] == [0.777, 0.929, 0.994]
    boards = [leaderboard([row.record() for row in each], "Lanternfield") for each in found]
    assert [(len(board), misplaced(board, truth)) for board in boards] == [(18, 9), (10, 1), (9, 0)]
    group = truth[boards[2][0]["row"]]["group"]
    assert [row["system"] for row in boards[2]] == true_ranking(truth, group)
    copies = [each for each in found[0] if each.copy_of]
    assert len(copies) > 90
    assert all(each.copy_of == truth[each.row["row"]]["origin"] for each in copies)


def test_a_number_is_taken_times_a_hundred_only_once_that_is_decided() -> None:
    rows = [
        {**reading.quick(paper("OrchardBench (top-1)"))[0], "row": row, "printed": printed}
        for row, printed in (("a", "70.1"), ("b", "0.7"))
    ]
    rows[1]["metric"] = ""
    for verdict, points in ((None, 0.7), ("not comparable", 0.7), ("comparable", 70.0)):
        one, other = placed(rows, {"OrchardBench": "OrchardBench"})
        assert [each.row["row"] for each in other.references] == ["a"]
        assert other.settle(one, verdict) == (verdict == "not comparable")
        assert other.points == points
        assert (other.group == one.group) == (verdict != "not comparable")


def test_pairs_are_counted_as_one_would_by_listing_them() -> None:
    found, true = dict(zip("abcde", "xxxyy", strict=True)), dict(zip("abcde", "xxyyz", strict=True))
    assert worth(found, true) == measuring.Worth(1 / 4, 1 / 2, 1 / 3)


@pytest.mark.long
def test_it_is_so_for_papers_drawn_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(corpus, "HERE", tmp_path)
    (tmp_path / "papers").mkdir()
    gains = []
    for seed in range(20):
        for path, text in generate.files(seed).items():
            (tmp_path / path).write_text(text, "utf-8")
        first, second = (f1(collated(corpus.papers(), flag), corpus.truth()) for flag in (nobody, examined))
        gains.append(second - first)
    assert min(gains) > 0
    assert mean(gains) > 0.1


# -- a model ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
show = "print(json.dumps({'f1': reached['second pass']['f1'], 'calls': len(lab.sql('from llm_calls'))}))"
notebook.cells.insert(-1, nbformat.v4.new_code_cell(f"import json; {show}"))
nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(notebook.cells[-2].outputs[0]["text"])
"""


@pytest.mark.long
def test_a_model_reads_and_decides_where_one_is_named(tmp_path: Path) -> None:
    by_text = {read["text"]: read for read in corpus.papers()}

    def answer(request: Any) -> Call:
        item = json.loads(request.task.rpartition("# Item\n")[2])
        if "text" in item:
            return Call("done", {"output": reading.quick(by_text[item["text"]])})
        return Call("done", {"output": reading.examine(item)})

    with ModelServer(answer) as server:
        named = {"WORKSPACE": str(tmp_path / "runs"), "MODEL": "http/toy", "API_BASE": server.url}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(NOTEBOOK), str(NOTEBOOK.parent)],
            env={**os.environ, **{f"EPSILON_{name}": value for name, value in named.items()}},
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert round(said["f1"], 3) == 0.929, "the same readings, by way of a model"
    assert said["calls"] == len(by_text) + 114
