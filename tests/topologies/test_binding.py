"""What a node takes from outputs: a condition says why it does not hold, and inputs are what was given, unread."""

import msgspec
import pytest

from epsilon_lab.messages.call import Call, call_of
from epsilon_lab.messages.values import Value, as_json, pack, restored
from epsilon_lab.topologies.binding import Unreadable, bound, unmet
from epsilon_lab.topologies.plan import Condition

REVIEW = as_json({"verdict": "pass", "errors": [{"severity": 3}], "final": True, "count": 1})


@pytest.mark.parametrize(
    ("path", "equals", "why"),
    [
        (("verdict",), "pass", ""),
        (("errors", 0, "severity"), 3, ""),
        (("errors", -1), {"severity": 3}, ""),
        (("final",), True, ""),
        (("verdict",), "fail", 'review.verdict is "pass", not "fail"'),
        (("errors", 1), 3, "there is no review.errors.1"),
        (("errors", "0"), 3, "there is no review.errors.0"),
        (("verdict", "deeper"), 3, "there is no review.verdict.deeper"),
        (("count",), True, "review.count is 1, not true"),
        (("final",), 1, "review.final is true, not 1"),
        ((), None, 'review is {"verdict":"pass","errors":[{"severity":3}],"final":true,"count":1}, not null'),
    ],
)
def test_a_condition_looks_where_it_says(path, equals, why):
    assert unmet((Condition("review", path, equals),), {"review": REVIEW}) == why


def test_all_conditions_must_hold_and_the_first_that_does_not_is_named():
    when = (Condition("review", ("verdict",), "pass"), Condition("gone"), Condition("review", ("count",), 7))
    assert unmet(when, {"review": REVIEW}) == "gone has no output"
    assert unmet(when[:1], {"review": REVIEW}) == ""


@pytest.mark.parametrize(
    ("output", "said"), [(pack({1}), "a pickle"), (Value("file", b"outputs/x.json"), "in the file outputs/x.json")]
)
def test_what_is_not_json_is_not_guessed_at(output, said):
    with pytest.raises(Unreadable, match=f"looks into the output of x, which is {said} and not JSON"):
        unmet((Condition("x"),), {"x": output})


def test_inputs_come_in_the_order_of_dependencies_as_they_were_given():
    outputs = {"c": pack([1, 2]), "a~2": pack({1, 2}), "d": Value("file", b"outputs/d.pkl")}
    payload = as_json(Call(code="x", form="inputs", about={"role": "cook"}))
    call = call_of(bound(payload, ("d", "c", "b", "a~2"), outputs, {"b": "ValueError: no"}))
    assert [name for name, _ in call.inputs] == ["d", "c", "a"], "a revision speaks under its node's name"
    assert [restored(value) for _, value in call.inputs] == [outputs["d"], outputs["c"], outputs["a~2"]]
    assert (call.failed, call.about, call.code) == ({"b": "ValueError: no"}, {"role": "cook"}, "x")
    assert msgspec.json.decode(bound(payload, (), {}, {}).data) == msgspec.json.decode(payload.data)
