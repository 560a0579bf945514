"""Which cases a decider is not asked about: those beyond the cap, whatever the order of events."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab import Budget
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import put_off
from epsilon_lab.messages.events import TYPES, Body, CaseFlagged, CaseWithdrawn, RunStarted, VerdictGiven
from epsilon_lab.workspace.fold import Fold
from epsilon_lab.workspace.journal import Record


def test_the_highest_scores_are_asked_first_then_those_flagged_first() -> None:
    cases = [("a", None), ("b", 0.5), ("c", 0.9), ("d", 0.5), ("e", -1.0)]
    assert [put_off(cases, room) for room in (5, 3, 2, 0, -1)] == [
        set(),
        {"a", "e"},
        {"a", "e", "d"},
        {"a", "b", "c", "d", "e"},
        {"a", "b", "c", "d", "e"},
    ]


def test_a_cap_is_a_positive_number() -> None:
    assert Budget(cases=3).cases == 3
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(InvalidInput, match="Budget cases"):
            Budget(cases=wrong)


def flagged(name: str, score: float | None, task_id: str | None = "reduce") -> CaseFlagged:
    return CaseFlagged(case_id=name, kind="k", question="?", options=("a", "b"), score=score, task_id=task_id)


EVENTS = st.lists(
    st.one_of(
        st.builds(flagged, st.sampled_from("abcdef"), st.sampled_from([None, 0.1, 0.2, 0.3])),
        st.builds(lambda name: CaseWithdrawn(case_id=name, reason="gone"), st.sampled_from("abcdef")),
        st.sampled_from("abcdef"),
    ),
    max_size=20,
)


@given(EVENTS, st.integers(1, 4), st.integers(0, 20))
def test_the_table_says_so_however_often_it_is_looked_at(events: list[object], most: int, look: int) -> None:
    fold, rows, given_ = Fold("r"), dict[str, str](), dict[str, int]()

    def take(body: Body, seq: int) -> None:
        fold.take(Record(seq, float(seq), TYPES[type(body)], msgspec.Raw(msgspec.json.encode(body))))

    take(RunStarted(run_id="r", topology="t", name="n", epoch=1, budget=Budget(cases=most)), 1)
    take(flagged("gate", None, task_id=None), 2)
    for seq, event in enumerate(events, 3):
        if isinstance(event, str):  # decided
            given_[event] = given_.get(event, 0) + 1
            verdict = VerdictGiven(
                case_id=event, number=given_[event], verdict="a", decider_kind="HUMAN", decider="ann"
            )
            if event in {each.case_id for each in events[: seq - 3] if isinstance(each, CaseFlagged)}:
                take(verdict, seq)
        elif isinstance(event, Body):
            take(event, seq)
        if seq % 3 == look % 3:
            rows |= {str(row["case_id"]): str(row["status"]) for row in fold.drain("cases")}
    rows |= {str(row["case_id"]): str(row["status"]) for row in fold.drain("cases")}
    assert rows["gate"] == "open"
    asked = [name for name, status in rows.items() if status == "open" and name != "gate"]
    decided = [name for name, status in rows.items() if status == "decided"]
    assert len(asked) <= max(0, most - len(decided))
    assert "deferred" not in rows.values() or len(asked) == max(0, most - len(decided))
