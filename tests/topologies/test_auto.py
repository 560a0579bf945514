"""What is picked for what is given, and that a run says so."""

from __future__ import annotations

import pytest

from epsilon_lab import Auto, Lab, problems
from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.auto import MANY, choose


def double(item):
    return item * 2


def of_inputs(inputs):
    return len(inputs)


@pytest.mark.parametrize(
    ("given", "topology", "because"),
    [
        ({"is_problem": True}, "population_search", "scorer"),
        ({"has_items": True, "items": 3}, "work_queue", "3 items"),
        ({"has_items": True, "items": MANY + 1}, "sharded_queue", "10,001 items"),
        ({"has_items": True, "items": None}, "sharded_queue", "nobody knows"),
        ({"has_items": True, "items": 3, "has_reduce": True}, "map_reduce", "brought together"),
        ({"has_plan": True}, "dag", "depends on"),
        ({"has_plan": True, "is_reviewed": True}, "supervisor", "reviewed"),
        ({"has_stages": True}, "pipeline", "order"),
        ({"has_teams": True}, "tree", "teams"),
        ({"sentence": "Build a parser"}, "dag", "nothing in it"),
        ({"sentence": "Recover what failed, adaptive"}, "supervisor", "'adaptive', 'recover'"),
        ({"sentence": "Split it into TEAMS."}, "tree", "'teams'"),
        ({"sentence": "frontend, backend, api and database"}, "tree", "'frontend', 'backend', 'api', 'database'"),
        ({"sentence": "frontend and backend"}, "dag", "nothing in it"),
        ({"sentence": "an ETL pipeline"}, "pipeline", "'pipeline', 'etl'"),
        ({"sentence": "upload the download page"}, "dag", "nothing in it"),
        ({"sentence": "work through the queue"}, "dag", "gives no items"),
    ],
)
def test_the_rule(given, topology, because):
    choice = choose(**given)
    assert choice.topology == topology
    assert because in choice.reason


@pytest.mark.parametrize(
    ("work", "given", "topology"),
    [
        (double, {"items": [1, 2]}, "work_queue"),
        (double, {"items": iter([1, 2]), "shards": 2}, "sharded_queue"),
        (double, {"items": [1, 2], "reduce": sum, "arity": 2}, "map_reduce"),
        (None, {"plan": [{"id": "a", "task": of_inputs}]}, "dag"),
        (None, {"plan": [{"id": "a", "task": of_inputs}], "review": of_inputs}, "supervisor"),
        (None, {"stages": [double, double], "input": 2}, "pipeline"),
        (problems.cap_set(n=3), {"generations": 1}, "population_search"),
        ("Build a parser", {"agent": double}, "dag"),
    ],
)
def test_the_topology_is_made_of_what_was_given(work, given, topology):
    auto = Auto(work, **given)
    assert auto.topology == auto.choice.topology == topology
    assert auto.config()["auto"] == f"{topology}: {auto.reason}"
    assert repr(auto) == f"<Auto {topology}: {auto.reason}>"


@pytest.mark.parametrize(
    ("work", "given", "said"),
    [
        (None, {}, "cannot tell what None is"),
        (" ", {}, "cannot tell"),
        (double, {}, "cannot tell"),
        ("Build it", {"plan": []}, "what to do, plan, which are different kinds"),
        (None, {"stages": [], "teams": []}, "stages, teams, which are different kinds"),
        (double, {"reduce": sum}, "there are none"),
        (double, {"items": [1], "arity": 2}, "picked work_queue"),
    ],
)
def test_what_is_not_one_kind_of_work_is_refused(work, given, said):
    with pytest.raises(InvalidInput, match=said):
        Auto(work, **given)


def test_a_run_says_what_was_picked_and_why(tmp_path):
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(Auto(double, items=[1, 2])).wait(60)
        assert (run.topology, run.results()) == ("work_queue", [2, 4])
        assert "picked work_queue: 2 items do not depend on each other" in repr(run.show())
        assert "picked work_queue" in run.show()._repr_html_()
