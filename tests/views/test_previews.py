"""What a look at a file shows: its first rows, lines or bytes, bounded, escaped, and nothing that could run."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from epsilon_lab.views import previews
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.recorded import opened

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.fixture
def show(tmp_path: Path):
    def show(name: str, data: str | bytes) -> str:
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
        with opened(RunDirectory(tmp_path), name) as file:
            return previews.content(file)

    return show


@pytest.mark.parametrize("name", ["a.md", "a.svg", "a.html", "a.json", "a.csv", "a.ndjson", "a.py", "a.patch", "a"])
def test_nothing_a_file_says_becomes_part_of_the_page(show, name):
    for text in (HOSTILE, f'{{"{HOSTILE[:25]}": "{HOSTILE[:25]}"}}', f"{HOSTILE},{HOSTILE}\n{HOSTILE},{HOSTILE}\n"):
        shown = show(name, text)
        assert "&lt;script" in shown
        assert "<script" not in shown
        assert "<img" not in shown


def test_tables_are_shown_by_their_first_rows(show, tmp_path):
    assert "1,000 rows × 2 columns; shown are 10 × 2" in show("a.csv", "x,y\n" + "1,2\n" * 1000)
    assert "1 rows × 30 columns; shown are 1 × 24" in show(
        "a.csv", ",".join(f"c{n}" for n in range(30)) + "\n" + ",1" * 29
    )
    assert "2 rows × 1 columns<" in show("a.jsonl", '{"x": 1}\n{"x": 2}\n')
    duckdb.sql("select range as n from range(12)").write_parquet(str(tmp_path / "b.parquet"))
    assert "12 rows × 1 columns" in show("a.parquet", (tmp_path / "b.parquet").read_bytes())
    assert "50 41 52 31" in show("a.parquet", b"PAR1\0broken")


def test_a_path_that_looks_like_a_pattern_is_read_itself(show, tmp_path):
    (tmp_path / "ab.csv").write_text("x\n" + "1\n" * 7)
    assert "3 rows" in show("a[b].csv", "x\n" + "1\n" * 3)


def test_a_look_is_bounded(show):
    for name, data in {
        "a.txt": "line\n" * 1_000_000,
        "b.txt": "x" * 5_000_000,
        "a.json": '{"a":[' + ",".join(["[1,2]"] * 90_000) + "]}",
        "b.json": "[" * 900_000 + "]" * 900_000,
        "c.json": "[" * 400 + "]" * 400,
        "a.bin": b"\0\1" * 1_000_000,
        "a.csv": "x\n" + "y" * 1_000_000,
        "a.png": b"\x89PNG\r\n\x1a\n" + b"\0" * (3 << 20),
    }.items():
        assert len(show(name, data)) < 60_000, name


def test_a_picture_is_what_begins_as_one(show):
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 10
    assert '<img src="data:image/png;base64,iVBORw0KGgo' in show("a.txt", png)
    assert "<img" not in show("a.png", "<svg onload=alert(1)>")
    assert "too large" in show("a.png", png + b"\0" * (2 << 20))


def test_json_unfolds_and_says_what_it_leaves_out(show):
    shown = show("a.json", '{"b": [1, {"c": null}], "d": "' + "x" * 500 + '"}')
    assert shown.count("<details") == 3
    assert "2 fields" in shown
    assert "x" * 300 not in shown
    assert "… and 9,700 more" in show("a.json", "[" + ",".join(["0"] * 9_999) + "]")


def test_prose_is_wrapped_and_its_headings_stand_out(show):
    shown = show(
        "a.md", "# One\n" + "word " * 200 + "\n```\n# no heading\n```\n## [Two](javascript:alert(1))\n" + "\n" * 99
    )
    assert "<b># One</b>" in shown
    assert "<b>## [Two](javascript:alert(1))</b>" in shown
    assert "<b># no heading" not in shown
    assert "word " * 200 in shown
    assert "pre-wrap" in shown
    assert "… 46 more characters" in shown


def test_bytes_are_shown_as_bytes(show):
    assert "000010  10 11 12" in show("a.bin", bytes(range(256)))
    assert show("a.txt", "") == previews._note("an empty file")
    assert "�" not in show("a.txt", "ä" * 200_000), "a letter that the look cuts in two is left out"
