"""What a supervisor may do: whatever reviews say, a node is over after finitely many of them, and never by mistake."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.messages.values import Value, pack
from epsilon_lab.topologies.supervision import Books, Limits, Part, Verdict, by_rule, settle, verdict_of

LIMITS = Limits(retries=2, reassign_depth=2, split_depth=1)
WORKERS = ("", "ann", "bo")

VERDICTS = st.builds(
    Verdict,
    st.sampled_from(["pass", "retry", "split", "reassign", "fail"]),
    st.sampled_from(["", "because"]),
    st.lists(st.builds(Part, st.just("piece"), st.sampled_from(["", "ann", "nobody"])), max_size=9).map(tuple),
    st.booleans(),
    st.sampled_from(["", "ann", "bo", "nobody"]),
)


@given(st.data())
def test_whatever_reviews_say_a_node_ends_with_a_reason_and_nothing_without_output_passes(data):
    """Its pieces included: they are nodes of their own, one split deeper."""
    nodes, reviews = [Books()], 0
    most = (LIMITS.retries + 1) * (LIMITS.reassign_depth + 1)
    while nodes:
        books = nodes.pop()
        for _ in range(most):
            reviews += 1
            has_output = data.draw(st.booleans())
            said = data.draw(VERDICTS)
            done, after = settle(said, books, LIMITS, has_output=has_output, workers=WORKERS)
            if done.verdict == "pass":
                assert has_output
                assert said.verdict == "pass"
                break
            if done.verdict == "fail":
                assert done.reason or said.verdict == "fail"
                break
            assert done == said
            if done.verdict == "split":
                assert 1 <= len(done.parts) <= 8
                assert books.splits < LIMITS.split_depth
                nodes += [Books(splits=books.splits + 1)] * len(done.parts)
                break
            assert after != books
            books = after
        else:
            pytest.fail("a node goes on for longer than its budget")
    assert reviews <= most * 9


@given(st.lists(st.booleans(), min_size=20, max_size=20))
def test_the_rule_without_a_review_ends_too_and_gives_to_others_only_after_its_retries(fails):
    books, workers = Books(), WORKERS
    tried = []
    for failed in fails:
        said = by_rule("it broke" if failed else None, books, LIMITS, workers)
        done, books = settle(said, books, LIMITS, has_output=not failed, workers=workers)
        assert done == said
        if done.verdict == "reassign":
            tried.append(done.to)
        if done.verdict in ("pass", "fail"):
            assert (done.verdict == "pass") is not failed
            break
    else:
        pytest.fail("the rule goes on for ever")
    assert len(set(tried)) == len(tried)


def test_what_failed_is_tried_again_then_given_to_others_then_fails_with_its_own_reason():
    books, story = Books(), []
    for _ in range(9):
        said = by_rule("it broke", books, LIMITS, WORKERS)
        said, books = settle(said, books, LIMITS, has_output=False, workers=WORKERS)
        story.append((said.verdict, said.to))
    retry = [("retry", "")] * 2
    assert story == [*retry, ("reassign", "ann"), *retry, ("reassign", "bo"), *retry, ("fail", "")]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, Verdict("pass")),
        (True, Verdict("pass")),
        (False, Verdict("retry")),
        ("use metres", Verdict("retry", "use metres")),
        ({"verdict": "reassign", "to": "ann", "reason": "slow"}, Verdict("reassign", "slow", to="ann")),
        (
            {"verdict": "split", "parts": [{"task": "half"}, {"task": "rest", "worker": "bo"}], "chained": True},
            Verdict("split", parts=(Part("half"), Part("rest", "bo")), chained=True),
        ),
    ],
)
def test_a_review_is_read(answer, expected):
    assert verdict_of(pack(answer)) == expected


@pytest.mark.parametrize(
    "answer", [3, [], {}, {"verdict": "maybe"}, {"verdict": "pass", "but": 1}, {"verdict": "split", "parts": 3}]
)
def test_a_review_without_a_verdict_fails_closed(answer):
    said = verdict_of(pack(answer))
    assert said.verdict == "fail"
    assert "no verdict" in said.reason


def test_a_review_that_is_no_plain_data_fails_closed_and_is_not_unpickled():
    assert verdict_of(Value("pickle", b"no pickle")).verdict == "fail"
    assert verdict_of(None).verdict == "fail"


@pytest.mark.parametrize(
    ("said", "books", "words"),
    [
        (Verdict("retry", "again"), Books(retries=2), "had its 2 retries: again"),
        (Verdict("reassign", to="ann"), Books(tried=("", "bo")), "reassigned 2 times"),
        (Verdict("reassign", to="carl"), Books(), "'carl', who is no worker"),
        (Verdict("split"), Books(), "into 0 parts"),
        (Verdict("split", parts=(Part("p"),)), Books(splits=1), "no more than 1 deep"),
        (Verdict("split", parts=(Part("p", "carl"),)), Books(), "'carl', who is no worker"),
        (Verdict("pass"), Books(), "it has no output"),
    ],
)
def test_what_the_budget_does_not_cover_fails_with_the_reason(said, books, words):
    done, after = settle(said, books, LIMITS, has_output=False, workers=WORKERS)
    assert done.verdict == "fail"
    assert words in done.reason
    assert after == books


def test_the_schemas_are_json():
    from epsilon_lab.topologies import gates, supervision

    assert json.loads(json.dumps([gates.VERDICT, supervision.REVIEW]))
