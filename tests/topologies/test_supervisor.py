"""What a supervisor refuses before anything is spent."""

import pytest

from epsilon_lab import Dag, Supervisor
from epsilon_lab.errors import InvalidInput


def work(inputs):
    return None


ONE = [{"id": "a", "task": work}]


@pytest.mark.parametrize(
    ("plan", "more", "words"),
    [
        ([{"id": "a", "task": 3}], {}, r"Supervisor plan: \$\.nodes\[0\]\.task: must be a function"),
        ([{"id": "a", "task": work, "depends_on": ["b"]}], {}, r"Supervisor plan: \$\.nodes\[0\]\.depends_on\[0\]"),
        ("Write a book.", {}, "Supervisor plan: is a sentence, and there is no agent"),
        (ONE, {"review": 3}, "Supervisor review: must be a function"),
        (ONE, {"workers": {"ann": 3}}, "Supervisor worker 'ann': must be a function"),
        (ONE, {"workers": [work]}, "Supervisor workers: must be a dict"),
        (ONE, {"workers": {"": work}}, "Supervisor workers: must be by name"),
        (ONE, {"retries": -1}, "Supervisor retries"),
        (ONE, {"reassign_depth": 1.5}, "Supervisor reassign_depth"),
        (ONE, {"split_depth": 9}, "Supervisor split_depth"),
        (ONE, {"time_limit_s": 0}, "Supervisor time_limit_s"),
        (ONE, {"beat_within_s": 0}, "Supervisor beat_within_s"),
        (ONE, {"fix_waves": -1}, "Supervisor fix_waves"),
    ],
)
def test_what_will_not_do_is_refused_by_name(plan, more, words):
    with pytest.raises(InvalidInput, match=words):
        Supervisor(plan, **more)


def test_a_dag_can_be_supervised_as_it_is():
    made = Supervisor(Dag(ONE), review=work, workers={"ann": work})
    assert repr(made) == "<Supervisor supervisor: 1 nodes>"
    assert (made.config()["review"], made.config()["workers"]) == ("work", {"ann": "work"})
