"""Two ways to read a paper: its table alone, quickly; and what is said around it, closely.

The quick reading takes the head of the table and its caption at their word. The close one is for a row that somebody
has doubts about: it reads the footnotes and the sentences about its benchmark too, and says how sure it is. It knows
the usual words and no more: of what is told in others it says that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from benchmark_papers.corpus import CATALOGUE, CONDITIONS, Paper

SIGNS = "†‡§"
_CITED = re.compile(r"(?P<name>.*?)(?: \[(?P<number>\d+)\]| \(ours\))?$")
_HEAD = re.compile(r"(?P<name>[^(†‡§]*?)(?: (?P<version>\d+\.\d+))?(?: \((?P<inside>[^)]*)\))?(?P<sign>[†‡§]?)$")
_REFERENCE = re.compile(r"^\[(\d+)\] .*, paper (\w+)\.$", re.MULTILINE)
_UNITS = ("%", "share", "ms", "s")

_WORDS: dict[str, dict[str, str]] = {
    "metric": {
        "exact match": r"exact match|\bEM\b",
        "F1": r"\bF1\b",
        "top-1 accuracy": r"\btop-1\b",
        "top-5 accuracy": r"\btop-5\b",
        "error rate": r"\berror\b",
        "majority of 8": r"majority|maj@8",
        "pass@10": r"pass@10\b",
        "pass@1": r"pass@1\b",
        "median latency": r"\bmedian\b",
        "99th percentile": r"99th|\bp99\b",
        "accuracy": r"(?<!top-1 )(?<!top-5 )\baccuracy\b(?!,? (?:is )?top)|\bacc\.",
    },
    "version": {"1.1": r"\b1\.1\b", "1.0": r"\b1\.0\b"},
    "split": {"test": r"\btest\b", "dev": r"\bdev(?:elopment)?\b"},
    "shots": {"0": r"\b(?:zero|0)-shot\b", "5": r"\b(?:five|5)-shot\b"},
}
_TOLD = {
    condition: {
        value: re.compile(words, 0 if condition == "metric" else re.IGNORECASE) for value, words in told.items()
    }
    for condition, told in _WORDS.items()
}


Row = dict[str, str]
"""A number in a table, and what its table says of it, by the names of `FIELDS`; empty where it does not."""

FIELDS = {
    "row": "paper and place, such as p07-1: numbers are counted through the table, line by line, from left to right",
    "paper": "the paper, such as p07",
    "system": "the system, without what stands in brackets",
    "source": "the paper that the number is cited from, such as p03",
    "benchmark": "the benchmark as it is written, without version, brackets and signs",
    "metric": f"one of {', '.join(_WORDS['metric'])}",
    "version": "1.1 or 1.0",
    "split": "test or dev",
    "shots": "0 or 5",
    "unit": f"one of {', '.join(_UNITS)}",
    "printed": "the number, as printed",
    "sign": "the sign of a footnote at the head of its column",
}

SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {name: {"type": "string", "description": meaning} for name, meaning in FIELDS.items()},
        "required": list(FIELDS),
        "additionalProperties": False,
    },
}
"""JSON Schema of a list of rows, for a model."""

INSTRUCTIONS = """\
List the numbers in the table of the paper. Take the head of the table and its caption at their word and nothing else; \
what they do not tell is an empty text."""
"""What a model is told that reads in place of `quick`."""


class Known(TypedDict):
    """What is told of a condition."""

    value: str
    sure: bool
    """Whether nothing else is told in the same place."""


def quick(paper: Paper) -> list[Row]:
    """The rows of a paper's table, by its head and its caption."""
    text, name = paper["text"], paper["paper"]
    head, *lines = table(text)
    under = {condition: next(iter(told(caption(text), condition)), "") for condition in ("split", "shots")}
    sources = dict(_REFERENCE.findall(text))
    rows: list[Row] = []
    for who, *cells in lines:
        system = _matched(_CITED, who)
        for title, printed in zip(head[1:], cells, strict=True):
            if printed == "–":
                continue
            found = _matched(_HEAD, title)
            inside = found["inside"].split(", ")
            metrics = [next(iter(told(part, "metric")), "") for part in inside]
            rows.append(
                {
                    "row": f"{name}-{len(rows) + 1}",
                    "paper": name,
                    "system": system["name"],
                    "source": sources.get(system["number"], ""),
                    "benchmark": found["name"],
                    "metric": next(filter(None, metrics), ""),
                    "version": found["version"],
                    "split": under["split"],
                    "shots": under["shots"],
                    "unit": next((part for part in inside if part in _UNITS), ""),
                    "printed": printed,
                    "sign": found["sign"],
                }
            )
    return rows


def shown(paper: Paper, row: Row) -> dict[str, str]:
    """What a decider sees of a row: where it stands, and all that its paper says about it."""
    text = paper["text"]
    head = next(each for each in table(text)[0] if _matched(_HEAD, each)["name"] == row["benchmark"])
    notes = [line for line in text.splitlines() if row["sign"] and line.startswith(f"{row['sign']} ")]
    return {
        "system": f"{row['system']}, cited from paper {row['source']}" if row["source"] else row["system"],
        "column": head,
        "printed": row["printed"],
        "caption": caption(text),
        "footnote": " ".join(notes),
        "setup": setup(text),
    }


def closely(evidence: Mapping[str, str]) -> dict[str, Known]:
    """What is told of a row by its footnote, else its column, else the caption, else the text about it."""
    name = _matched(_HEAD, evidence["column"])["name"]
    about = [each for each in re.split(r"(?<=\.) (?=[A-Z])", evidence["setup"]) if _is_about(each, name)]
    places = (evidence["footnote"], evidence["column"], evidence["caption"], " ".join(about))
    known: dict[str, Known] = {}
    for condition in CONDITIONS:
        found = next(filter(None, (list(told(place, condition)) for place in places)), [])
        if found:
            known[condition] = {"value": found[0], "sure": len(found) == 1}
    return known


def examine(case: Mapping[str, Any]) -> dict[str, Any]:
    """Decide a case as one who reads closely: the same benchmark? may the two be compared?

    Returns:
        verdict (None where the papers do not tell it in words that are known here), note, confidence.
    """
    if case["kind"] == "alike":
        is_misspelt = case["evidence"]["rule"] == "near"
        note = "one is a misspelling" if is_misspelt else "one has a word more: it is another benchmark"
        return {"verdict": "same" if is_misspelt else "different", "note": note, "confidence": 0.9}
    left, right = case["evidence"].values()
    one, other = closely(left), closely(right)
    asked = _asked(left, right)
    apart = [name for name in asked if name in one and name in other and one[name]["value"] != other[name]["value"]]
    silent = [name for name in asked if name not in one or name not in other]
    is_sure = all(known[name]["sure"] for known in (one, other) for name in asked if name in known)
    if apart:
        words = (f"{name}: {one[name]['value']}, {other[name]['value']}" for name in apart)
        return {"verdict": "not comparable", "note": "; ".join(words), "confidence": 1.0 if is_sure else 0.5}
    if silent:
        return {"verdict": None, "note": f"nothing that I understand tells: {', '.join(silent)}", "confidence": 0.0}
    return {"verdict": "comparable", "note": f"the same {', '.join(asked)}", "confidence": 1.0 if is_sure else 0.5}


def table(text: str) -> list[list[str]]:
    """The table of a paper, its head first."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def caption(text: str) -> str:
    """The line above the table."""
    return next((line for line in text.splitlines() if line.startswith("Table 1")), "")


def setup(text: str) -> str:
    """The section about it."""
    return text.partition("## Setup\n")[2].partition("\n## ")[0].strip()


def told(text: str, condition: str) -> Iterator[str]:
    """The values of a condition that a text names."""
    return (value for value, words in _TOLD[condition].items() if words.search(text))


def _asked(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions of the benchmark that either is catalogued under."""
    names = (_matched(_HEAD, each["column"])["name"] for each in (right, left))
    return next((CATALOGUE[name].conditions for name in names if name in CATALOGUE), CONDITIONS)


def _is_about(sentence: str, name: str) -> bool:
    """Whether a sentence is about a benchmark, or about all of them."""
    others = [other for other in CATALOGUE if other != name and not name.startswith(other)]
    return name in sentence or not any(other in sentence for other in others)


def _matched(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    found = pattern.match(text)
    return {} if found is None else {name: value or "" for name, value in found.groupdict().items()}
