"""The suite bites: a mistake planted in the source turns red what is there to see it."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("plants_check", Path(__file__).with_name("check.py"))
check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(check)

QUICK = ("a cancelled entry stays in the heap", "a failure is not counted", "a request to a model is not charged")
"""Those that are planted in every test run; the rest with --long, or by `make plants`."""


@pytest.fixture(scope="module")
def plot():
    with check.garden() as plot:
        yield plot


@pytest.mark.parametrize("plant", check.PLANTS, ids=lambda plant: plant.name)
def test_every_mistake_can_still_be_made(plant):
    check.patched(plant)
    for test in plant.tests:
        assert (check.ROOT / test.partition("::")[0]).is_file()


def test_source_that_has_moved_is_told_and_not_passed_over():
    moved = check.PLANTS[0]._replace(there="no such text")
    with pytest.raises(check.Moved, match="move the plant along"):
        check.patched(moved)


@pytest.mark.parametrize("plant", [p for p in check.PLANTS if p.name.startswith(QUICK)], ids=lambda plant: plant.name)
def test_a_mistake_is_noticed(plot, plant):
    assert plot.goes_red(plant) == ""


def test_what_is_no_mistake_turns_nothing_red(plot):
    plant = check.PLANTS[0]._replace(file="broker/queue.py", there='"""What is ready', instead='"""What was ready')
    harmless = plant._replace(tests=("tests/broker/test_ready_queue.py",))
    assert plot.goes_red(harmless) == "no test failed"
    assert (plot.root / "epsilon_lab" / "broker" / "queue.py").read_text().startswith('"""What is ready')


@pytest.mark.long
@pytest.mark.parametrize(
    "plant", [p for p in check.PLANTS if not p.name.startswith(QUICK)], ids=lambda plant: plant.name
)
def test_each_of_the_others_is_noticed(plot, plant):
    assert plot.goes_red(plant) == ""
