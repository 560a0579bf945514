"""All eight topologies are held to one contract, by functions, by agents over real HTTP, by programs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from epsilon_lab import Lab, WorkQueue, current_task
from epsilon_lab.processes.repository import is_installed
from epsilon_lab.testing import steps
from epsilon_lab.testing.census import children, wait_until
from epsilon_lab.testing.model_server import ModelServer
from epsilon_lab.testing.topology_contract import TopologyContract
from epsilon_lab.testing.topology_examples import EXAMPLES, Example, Hand, by_agents, by_functions, by_programs
from epsilon_lab.topologies.catalogue import TOPOLOGIES


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


@pytest.fixture(scope="module")
def hands(place: Path) -> Mapping[str, Hand]:
    return {"function": by_functions(place / "orders"), "program": by_programs()}


@pytest.fixture
def agents() -> Iterator[Hand]:
    with ModelServer(steps.play) as server:
        yield by_agents(server.url)


async def _workspace(_: int) -> str:
    return str(current_task().workspace)


@pytest.fixture(scope="module")
def lab(place: Path) -> Iterator[Lab]:
    with Lab(place / "runs", workers=2) as lab:
        lab.publish(steps.TOPIC, "")  # what it opens for good is open before the first test
        lab.start(WorkQueue([0], abs)).wait(60)
        lab.start(WorkQueue([0], _workspace)).wait(60)
        assert wait_until(lambda: len(lab.workers) == 3 and len(children()) >= 3, within_s=60)
        yield lab


@pytest.fixture
def orders(place: Path) -> Path:
    shutil.rmtree(place / "orders", ignore_errors=True)
    (place / "orders").mkdir()
    return place / "orders"


@pytest.mark.usefixtures("orders")
class TestContract(TopologyContract):
    @pytest.fixture(params=TOPOLOGIES)
    def example(self, request: pytest.FixtureRequest) -> Example:
        if request.param == "tree" and not is_installed():
            pytest.skip("git is not installed: apt-get install git")
        return EXAMPLES[request.param]
