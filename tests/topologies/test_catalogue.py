"""A run's topology is found by its name, and nothing else of the room is."""

import pytest

from epsilon_lab.errors import LabError
from epsilon_lab.messages.events import RunStarted
from epsilon_lab.topologies.catalogue import TOPOLOGIES, restore, topology_of
from epsilon_lab.workspace.layout import RunDirectory


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_is_called_as_its_module_is(name):
    topology = topology_of(name)
    assert topology is None or (topology.topology, topology.__module__) == (name, f"epsilon_lab.topologies.{name}")


@pytest.mark.parametrize("name", ["engine", "nodes", "", ".work_queue", "work_queue.WorkQueue", "of_tomorrow"])
def test_a_name_in_a_journal_loads_nothing_but_a_topology(name, tmp_path):
    assert topology_of(name) is None
    with pytest.raises(LabError, match="which this version of epsilon_lab does not know"):
        restore(RunDirectory(tmp_path / "r"), RunStarted(run_id="r", topology=name, name="n"), [])
