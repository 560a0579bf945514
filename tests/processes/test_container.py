"""What a container engine is told, word for word, and that every container is removed. No engine need run: a stand-in
records what it is told and runs the program here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from epsilon_lab import Command, Lab, PopulationSearch, Problem, WorkQueue
from epsilon_lab.errors import InvalidInput
from epsilon_lab.processes import tree
from epsilon_lab.processes.container import NoEngine, check_image, find_engine, image_of, start_command
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.program import run_program
from epsilon_lab.processes.spawner import Spawner, SpawnerFailed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.stand_in_engine import StandInEngine


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    find_engine.cache_clear()
    yield
    find_engine.cache_clear()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInEngine:
    made = StandInEngine(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.path.parent}:{os.environ['PATH']}")
    return made


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_leaves_nothing_to_the_engine():
    command = start_command(
        "/usr/bin/docker", "one", "image:1", ["prog", "--flag"], user="1000:100", memory_mb=512, processes=9,
        writable="/data/work", readable=["/data/agent.py"], variables=["TOKEN"],
    )  # fmt: skip
    assert command == [
        "/usr/bin/docker", "run", "--rm", "--interactive", "--init", "--pull=never", "--name=one", "--network=none",
        "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=1000:100", "--pids-limit=9",
        "--ulimit=core=0", "--memory=512m", "--memory-swap=512m",
        "--tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777,size=1024m", "--env=HOME=/tmp", "--env=TMPDIR=/tmp",
        "--mount=type=bind,source=/data/work,target=/data/work", "--workdir=/data/work",
        "--mount=type=bind,source=/data/agent.py,target=/data/agent.py,readonly", "--env=TOKEN",
        "--entrypoint=prog", "image:1", "--flag",
    ]  # fmt: skip


def test_a_container_is_limited_also_where_nobody_says_so():
    command = start_command("/usr/bin/docker", "one", "image", ["prog"], user="1:1")
    assert {"--memory=4096m", "--memory-swap=4096m", "--pids-limit=256", "--network=none"} <= set(command)


def test_podman_maps_ids_and_the_network_is_asked_for():
    command = start_command("/usr/bin/podman", "one", "image", ["prog"], user="1:1", network=True)
    assert {"--userns=keep-id", "--security-opt=label=disable"} <= set(command)
    assert not [part for part in command if part.startswith("--network")]
    with pytest.raises(NoEngine, match="comma"):
        start_command("docker", "one", "image", ["prog"], user="1:1", writable="/data/a,b")


@pytest.mark.parametrize(("executor", "image"), [("moon", None), ("host", "a"), ("docker", ""), ("docker", "--rm")])
def test_what_is_no_executor_or_image_is_refused(executor: str, image: str | None):
    with pytest.raises(InvalidInput, match=r"^What "):
        image_of("What", executor, image)  # type: ignore[arg-type]


# -- where none answers -----------------------------------------------------------------------------------------------


def test_where_no_engine_answers_its_own_words_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(NoEngine, match="neither docker nor podman is in PATH"):
        find_engine()
    StandInEngine(tmp_path / "bin", refusal="Is the docker daemon running?")
    with pytest.raises(NoEngine, match=r"docker says: Is the docker daemon running\?.*executor='host'"):
        find_engine()
    podman = StandInEngine(tmp_path / "bin", name="podman")
    assert find_engine() == str(podman.path)


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no Docker here")
def test_the_real_docker_of_this_machine_answers_or_says_why_not():
    answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    with nullcontext() if answers else pytest.raises(NoEngine, match="docker says: "):
        assert find_engine()


def test_an_image_that_is_not_here_is_refused_with_the_way_to_make_it(engine: StandInEngine):
    check_image("here")
    with pytest.raises(NoEngine, match="docker pull missing:1"):
        check_image("missing:1")
    assert engine.calls("image") == [["image", "inspect", "here"], ["image", "inspect", "missing:1"]]


# -- programs ---------------------------------------------------------------------------------------------------------


def removed(engine: StandInEngine) -> bool:
    """Whether each container that was started was removed by its name."""
    names = [part.removeprefix("--name=") for call in engine.calls("run") for part in call if part[:7] == "--name="]
    return bool(names) and {call[-1] for call in engine.calls("rm")} == set(names)


def test_a_program_runs_in_a_container_that_is_removed_at_its_limit(engine: StandInEngine, tmp_path: Path):
    done = run_program(
        'pwd; echo "$TOKEN"', cwd=tmp_path, timeout_s=60, image="some", env={"TOKEN": "secret"}, memory_mb=64
    )
    assert (done.stdout, done.code) == (f"{tmp_path}\nsecret\n", 0)
    assert done.isolation == "container (docker)"
    [call] = engine.calls("run")
    assert "--env=TOKEN" in call
    assert "secret" not in " ".join(call)
    assert call[-4:] == ["--entrypoint=/bin/sh", "some", "-c", 'pwd; echo "$TOKEN"']
    assert run_program("sleep 1000", cwd=tmp_path, timeout_s=3, image="some").outcome == "timeout"
    assert removed(engine)


def test_who_runs_it_is_killed_and_the_container_is_removed(engine: StandInEngine, tmp_path: Path):
    code = f"""
        from epsilon_lab.processes.program import run_program
        run_program("echo > here; sleep 1000", cwd={str(tmp_path)!r}, timeout_s=600, image="some")
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    assert wait_until((tmp_path / "here").exists, within_s=60)
    process.kill()
    process.wait()
    assert wait_until(lambda: removed(engine), within_s=60)


LOUD = """
import os, time
from epsilon_lab.agent_sdk import AgentSession

with AgentSession.from_stdio() as session:
    session.send("begun", target="lab")
    if session.item == "hang" and session.context["attempt"] == 1:
        time.sleep(1000)
    session.done([session.item.upper(), os.getcwd() == session.workspace])
"""


def test_a_command_in_a_container_and_its_worker_killed(engine: StandInEngine, tmp_path: Path):
    (tmp_path / "agent.py").write_text(LOUD)
    command = Command(["python", str(tmp_path / "agent.py")], executor="docker", image="some")
    with Lab(tmp_path / "runs", workers=1) as lab:
        with pytest.raises(InvalidInput, match="docker pull missing"):
            lab.start(WorkQueue(["a"], Command(["python"], executor="docker", image="missing")))
        inbox = lab.inbox(timeout_s=60)
        run = lab.start(WorkQueue(["hang"], command))
        assert next(iter(inbox)).value == "begun"
        keeper = next(pid for pid in tree.descendants(os.getpid()) if b"takes-leave" in _command_line(pid))
        with open(f"/proc/{keeper}/stat") as file:
            os.kill(int(file.read().rpartition(")")[2].split()[1]), 9)
        assert run.wait(60).results() == [["HANG", True]]
    assert len(engine.calls("run")) == 2
    assert removed(engine)
    agent = tmp_path / "agent.py"
    assert f"--mount=type=bind,source={agent},target={agent},readonly" in engine.calls("run")[0]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- candidates -------------------------------------------------------------------------------------------------------

LIMITS = Limits(timeout_s=3, memory_mb=256, output_mb=1)


def test_a_sandbox_lives_in_a_container(engine: StandInEngine):
    with Spawner(None, {"data": b"7"}, LIMITS, preload=None, image="some") as spawner:
        report = spawner.run("def solve(): return int(open('data').read()) + 1", seed=1)
        assert report.outcome is None
        assert spawner.isolation.startswith("container+")
        assert spawner.run("import time\ndef solve(): time.sleep(1000)", seed=1).outcome == "timeout"
    [call] = engine.calls("run")
    told = {"--network=none", "--read-only", "--cap-drop=ALL", "--user=65534:65534", "--pids-limit=40"}
    assert told <= set(call)
    assert "--tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777,size=144m" in call
    assert not [part for part in call if part.startswith(("--mount", "--env=PATH"))]


def test_a_container_that_hangs_is_removed(engine: StandInEngine, monkeypatch: pytest.MonkeyPatch):
    engine.path.write_text(engine.path.read_text().replace("os.execvpe(", "import time; time.sleep(1000); ("))
    monkeypatch.setattr("epsilon_lab.processes.spawner._START_S", 0.5)
    with pytest.raises(SpawnerFailed, match=r"no answer in 0\.5 s"):
        Spawner(None, {}, LIMITS, preload=None, image="some").start()
    assert removed(engine)


def test_an_image_with_another_python_is_refused(engine: StandInEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with (
        pytest.raises(SpawnerFailed, match=r"the lab 3\.99; take an image with 3\.99"),
        Spawner(None, {}, LIMITS, preload=None, image="some") as spawner,
    ):
        spawner.start()


def test_a_search_whose_candidates_run_in_containers(engine: StandInEngine, tmp_path: Path):
    problem = Problem("seven", "Return 7.", "def solve():\n    return 6\n", score=lambda output: -abs(output - 7))
    refused = PopulationSearch(problem, executor="docker", image="missing")

    def propose(context: object) -> str:
        return "def solve():\n    return 7\n"

    with Lab(tmp_path / "runs", workers=1) as lab:
        with pytest.raises(InvalidInput, match="PopulationSearch executor: there is no image"):
            lab.start(refused)
        search = PopulationSearch(
            problem, propose, population=1, generations=1, elites=0, diverse=0, fresh=1, executor="docker", image="some"
        )
        run = lab.start(search).wait(60)
        assert run.best.score == 0
        assert run.candidates.isolation.str.startswith("container+").all()
    assert engine.calls("run")
