"""Formats: readable, and whatever a stranger wrote is only ever shown."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from epsilon_lab import formats

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&amp; \u202egnp.exe \x00\x1b[31m"


class Tags(HTMLParser):
    """The tags and attributes a page would act on."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize(
    "page",
    [
        formats.escape(HOSTILE),
        formats.badge(HOSTILE),
        formats.table([HOSTILE], [[HOSTILE]]),
        formats.summary(HOSTILE, [(HOSTILE, HOSTILE)]),
        formats.program(HOSTILE),
        formats.diff(f"+{HOSTILE}\n-{HOSTILE}\n@@ {HOSTILE}\n {HOSTILE}"),
    ],
)
def test_hostile_text_becomes_no_markup(page: str) -> None:
    tags = Tags(page)
    assert not tags.seen & {"script", "img", "iframe", "style", "a"}
    assert tags.attributes <= {"style"}
    assert not any(character in page for character in "\u202e\x00\x1b")


def test_long_programs_and_diffs_say_what_they_leave_out() -> None:
    text = "\n".join(f"+line {i}" for i in range(1000))
    assert "… 700 more lines" in formats.program(text)
    assert "… 800 more lines" in formats.diff(text)
    assert len(formats.program("x" * 1_000_000)) < 2000


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (20, "20"), (12345, "12,345"), (0.1, "0.1"), (1 / 3, "0.333333"), (1e-9, "1e-09")]
)
def test_numbers(value: float | None, shown: str) -> None:
    assert formats.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (0.04, "0.0 s"), (61.24, "61.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert formats.duration(seconds) == shown


def test_one_line_is_one_short_line() -> None:
    assert formats.one_line("\n\n  first \nsecond") == "first"
    assert formats.one_line("x" * 500, 10) == "x" * 9 + "…"
    assert formats.one_line("") == ""
