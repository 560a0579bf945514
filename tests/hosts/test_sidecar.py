"""A sidecar does a lab's work while kernels come and go, and says so when it cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from epsilon_lab import Lab, LabError, PopulationSearch, Problem, WorkQueue, current_task
from epsilon_lab.__main__ import main
from epsilon_lab.errors import BadFrame, InvalidInput, JournalDamaged, RunFailed, SidecarLost, WorkspaceLocked
from epsilon_lab.hosts.commands import CONTROL_VERSION, LENGTH, MAX_COMMAND, Announce, Standing
from epsilon_lab.hosts.sidecar import end_sidecar
from epsilon_lab.testing.census import wait_until
from epsilon_lab.topologies.engine import Stop
from epsilon_lab.workspace.lock import holder_of
from epsilon_lab.workspace.presence import is_there


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A lab with a sidecar, for all tests that leave it without a live run."""
    path = tmp_path_factory.mktemp("shared") / "runs"
    with Lab(path, workers=2, broker="sidecar") as lab:
        yield lab
    end_sidecar(path)


def double(item):
    return item * 2


def gate(path):
    """A task that notes each of its executions, and ends once the file `go` exists."""

    def held(item):
        import os
        import select

        with open(path / "executed", "a") as file:
            file.write(f"{item}\n")
        while not os.path.exists(path / "go"):
            select.select([], [], [], 0.01)
        return item * 10

    return held


def executed(path):
    return sorted(map(int, (path / "executed").read_text().split()))


def two_started(path):
    assert wait_until(lambda: (path / "executed").exists() and len(executed(path)) == 2, within_s=60)


# -- attaching -------------------------------------------------------------------------------------------------------


def test_a_kernel_that_comes_back_finds_its_run_going_on_and_nothing_is_done_twice(runs, tmp_path):
    with Lab(runs, workers=2, broker="sidecar") as lab:
        run = lab.start(WorkQueue(range(2), gate(tmp_path)), name="long")
        panel = run.panel()
        two_started(tmp_path)
        pid = lab._core.pid
    assert run.status == "running", "the handle of a lab that has let go still answers from the disk"
    assert "running" in repr(panel)
    with pytest.raises(LabError, match="closed"):
        run.pause()
    with Lab(runs, broker="sidecar") as lab:
        assert lab._core.pid == pid
        again = lab.runs["long"]
        assert again.status == "running"
        assert again.is_live_here
        assert again.panel() is not None
        (tmp_path / "go").touch()
        assert again.wait(60).results() == [0, 10]
        assert executed(tmp_path) == [0, 1]
        attempts = again.frame("attempts")
        given_back = attempts["error"].fillna("").str.startswith("recalled")  # by a busy worker to an idle one
        assert attempts[~given_back]["outcome"].tolist() == ["completed"] * 2
        assert repr(again) == f"<Run {again.run_id}: completed>"


def test_a_run_is_taken_up_once_however_many_ask(runs, tmp_path):
    with Lab(runs, workers=2) as lab:
        run_id = lab.start(WorkQueue(range(5), gate(tmp_path))).run_id
        two_started(tmp_path)
    (tmp_path / "executed").unlink()
    with Lab(runs, workers=2, broker="sidecar") as lab:
        with ThreadPoolExecutor(8) as kernels:
            adopted = set(kernels.map(lambda _: lab._core.resume(run_id, trust=False), range(8)))
        adopted.add(lab._core.resume(run_id, trust=False))
        assert len(adopted) == 1, "each was told of the same run"
        (tmp_path / "go").touch()
        assert lab.runs[run_id].wait(60).results() == [0, 10, 20, 30, 40]
        assert executed(tmp_path) == [0, 1, 2, 3, 4]
        assert len(lab.sql("select 1 from events where type = 'run.adopted'")) == 1


def test_arguments_that_differ_from_a_running_sidecars_are_refused_with_both_values(shared):
    code = (
        "import sys\nfrom epsilon_lab import Lab\n"
        "for asked in ({'workers': 3}, {'durability': 'disk'}, {}, {'workers': 2, 'durability': 'process'}):\n"
        "    try:\n        with Lab(sys.argv[1], broker='sidecar', **asked) as lab: print(repr(lab))\n"
        "    except ValueError as error:\n        print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(shared.path)], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    workers, durability, *fine = said.stdout.splitlines()
    assert "workers=2, not 3" in workers
    assert "--stop" in workers
    assert "durability='process', not 'disk'" in durability
    assert fine == [repr(shared)] * 2
    with pytest.raises(LabError, match="broker='sidecar', not 'kernel'"):
        Lab(shared.path, broker="kernel")


def test_a_kernel_of_its_own_is_refused_where_a_sidecar_is_and_told_the_ways_out(runs):
    with Lab(runs, workers=1, broker="sidecar") as lab:
        pid = lab._core.pid
    with pytest.raises(WorkspaceLocked, match=rf"sidecar, process {pid} .*broker='sidecar'.*broker .* --stop"):
        Lab(runs)
    assert end_sidecar(runs) == pid
    assert end_sidecar(runs) is None
    Lab(runs, workers=1).close()


def test_a_sidecar_is_refused_where_a_kernel_is(runs):
    code = "import sys\nfrom epsilon_lab import Lab\nLab(sys.argv[1], broker='sidecar')\n"
    with Lab(runs, workers=1):
        said = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, timeout=60)
    assert f"WorkspaceLocked: workspace '{runs}' is open in process {os.getpid()}" in said.stderr


def test_kernels_that_come_at_the_same_time_share_one_sidecar(runs, start):
    code = (
        "import sys\nfrom epsilon_lab import Lab\n"
        "with Lab(sys.argv[1], broker='sidecar', workers=1) as lab:\n"
        "    print(lab._core.pid, flush=True)\n    sys.stdin.readline()\n"
    )
    kernels = [start("-c", code, str(runs)) for _ in range(3)]
    pids = {kernel.stdout.readline().strip() for kernel in kernels}
    assert pids == {str(holder_of(runs).pid)}, [kernel.communicate() for kernel in kernels]
    for kernel in kernels:
        kernel.communicate("\n", timeout=60)


def test_a_sidecar_is_reached_where_a_login_leaves_no_trace(runs, tmp_path, monkeypatch):
    """What lies in XDG_RUNTIME_DIR is removed when the user logs out; a sidecar may go on."""
    (tmp_path / "login").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "login"))
    with Lab(runs, workers=1, broker="sidecar") as lab:
        assert not list((tmp_path / "login").iterdir())
        assert lab.start(WorkQueue([1], double)).wait(60).results() == [2]
    reached = Path(holder_of(runs).control).parent
    end_sidecar(runs)
    assert not reached.exists()


def test_what_hinders_a_sidecar_is_said_in_the_kernel(runs):
    (runs / "lab").mkdir(parents=True)
    (runs / "lab" / "journal.ndjson").write_text("no journal\n")
    with pytest.raises(JournalDamaged, match="damaged at byte 0") as told:
        Lab(runs, broker="sidecar")
    assert told.value.offset == 0
    (runs / "lab" / "journal.ndjson").unlink()
    Lab(runs, workers=1, broker="sidecar").close()


def test_a_sidecar_that_cannot_even_start_leaves_its_last_words(runs, monkeypatch):
    monkeypatch.setattr("epsilon_lab.hosts.sidecar._BOOT", "import sys; sys.exit('not today')")
    with pytest.raises(LabError, match="does not start: not today"):
        Lab(runs, broker="sidecar")


# -- two kernels -----------------------------------------------------------------------------------------------------


def test_a_second_kernel_sees_waits_for_and_steers_what_the_first_started(shared, tmp_path):
    run = shared.start(WorkQueue(range(4), gate(tmp_path)), name="shared")
    code = (
        "import sys\nfrom epsilon_lab import Lab, WorkQueue\n"
        "with Lab(sys.argv[1], broker='sidecar') as lab:\n"
        "    run = lab.runs['shared']\n    run.pause()\n    print(run.status)\n"
        "    print(lab.resume('shared').status)\n"
        "    try:\n        lab.start(WorkQueue([1], abs), name='shared')\n"
        "    except ValueError as error:\n        print(error)\n"
        "    run.stop()\n    print(run.wait(60).status)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(shared.path)], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    paused, resumed, namesake, stopped = said.stdout.splitlines()
    assert (paused, resumed, stopped) == ("paused", "running", "stopped")
    assert f"'shared' is the name of the live run {run.run_id}" in namesake
    assert run.wait(60).status == "stopped"
    assert [each.name for each in shared.runs.values()].count("shared") == 1


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_many_wait_at_once_from_threads_and_coroutines(shared, tmp_path):
    run = shared.start(WorkQueue(range(2), gate(tmp_path)))
    two_started(tmp_path)
    threads = [threading.Thread(target=run.wait) for _ in range(3)]
    for thread in threads:
        thread.start()

    async def both():
        async def wait():
            return await run

        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        cancelled = asyncio.create_task(wait())
        await asyncio.sleep(0)
        cancelled.cancel()
        (tmp_path / "go").touch()
        return await asyncio.gather(*waiting)

    assert asyncio.run(both()) == [run] * 3
    for thread in threads:
        thread.join(60)
    assert run.results() == [0, 10]


# -- what belongs to the kernel --------------------------------------------------------------------------------------


def test_each_runs_code_has_the_place_of_the_kernel_that_started_it(shared, tmp_path, monkeypatch):
    def where(item):
        import os
        import sys

        return os.getcwd(), sys.path[-1]

    first = Path.cwd()
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / place / "modules")])
        found = shared.start(WorkQueue(range(8), where)).wait(60).results()
        assert set(found) == {(str(tmp_path / place), str(tmp_path / place / "modules"))}
    assert first != Path.cwd()


def test_a_key_that_is_set_in_a_cell_reaches_async_leaves_and_no_disk(shared, monkeypatch):
    async def ask(item):
        import os

        return os.environ.get("LATE_API_KEY", "")[:3]

    assert shared.start(WorkQueue([1], ask)).wait(60).results() == [""]
    monkeypatch.setenv("LATE_API_KEY", "sk-very-secret-indeed")
    assert shared.start(WorkQueue([1], ask)).wait(60).results() == ["sk-"]
    assert not [path for path in shared.path.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]


def test_an_environment_that_is_no_text_hinders_nothing(shared, monkeypatch):
    monkeypatch.setitem(os.environb, b"LATE_BYTES", b"\xff\xfe")

    async def ask(item):
        import os

        return list(os.environb[b"LATE_BYTES"])

    assert shared.start(WorkQueue([1], ask)).wait(60).results() == [[255, 254]]


def test_what_is_too_long_to_be_said_is_refused_before_it_is_said(shared, tmp_path):
    run = shared.start(WorkQueue([1], gate(tmp_path)))
    with pytest.raises(BadFrame, match="at most"):
        shared._core.obey(run.run_id, Stop("x" * MAX_COMMAND))
    assert run.status == "running"
    run.stop()
    assert run.wait(60).status == "stopped"


def test_a_command_that_fails_is_refused_and_the_sidecar_goes_on(shared, tmp_path):
    run = shared.start(WorkQueue([1], double)).wait(60)
    (shared.path / "broken").mkdir()
    (shared.path / "broken" / "journal.ndjson").write_bytes((run.path / "journal.ndjson").read_bytes())
    (shared.path / "broken" / "plan.json").mkdir()
    with pytest.raises(LabError, match="broken"):
        shared.resume("broken", trust=True)
    assert shared.start(WorkQueue([1], double)).wait(60).results() == [2]


def test_a_search_in_a_sidecar_takes_a_persons_brief(lab, tmp_path):
    go = tmp_path / "go"

    def propose(context):
        import os
        import select

        while context.generation == 2 and not os.path.exists(go):
            select.select([], [], [], 0.01)
        return f"def solve():\n    return {len(context.brief or '')} + {context.dice.random()}\n"

    problem = Problem("numbers", "Return a number.", "def solve():\n    return 0.0\n", score=float)
    run = lab.start(
        PopulationSearch(problem, proposer=propose, population=4, generations=3, elites=1, diverse=1, fresh=1)
    )
    assert wait_until(lambda: len(run.frame("briefs")) >= 2, within_s=60)
    generation = int(run.frame("briefs")["generation"].max())
    run.brief(generation, text="Mine now.")
    assert run.brief(generation) == "Mine now."
    go.touch()
    assert run.wait(60).status == "completed"
    assert run.best.score > 0


# -- ends ------------------------------------------------------------------------------------------------------------


def test_a_sidecar_that_is_killed_is_missed_at_once_and_its_runs_go_on_in_the_next(runs, tmp_path):
    with Lab(runs, workers=2, broker="sidecar") as lab:
        done = lab.start(WorkQueue(range(20), double)).wait(60)
        run = lab.start(WorkQueue(range(4), gate(tmp_path)), name="long")
        two_started(tmp_path)
        pid, workers = lab._core.pid, lab.workers["pid"].tolist()
        waiting = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
        waiting.start()
        with pytest.raises(RunFailed, match="interrupted"):
            run.wait(60)
        waiting.join()
        for call in (lambda: lab.start(WorkQueue([1], double)), lambda: lab.resume("long"), lambda: lab.workers):
            with pytest.raises(SidecarLost, match=f"process {pid}, has ended.*again.*resume"):
                call()
        assert run.status == "interrupted"
        assert done.results() == [2 * item for item in range(20)], "what is on disk can be read"
        assert wait_until(lambda: not any(is_there(worker, None) for worker in workers), within_s=60)
        (tmp_path / "go").touch()
        with Lab(runs, broker="sidecar") as lab:
            assert lab._core.pid != pid
            assert lab.resume("long").wait(60).results() == [0, 10, 20, 30]
            assert lab.runs[done.run_id].results() == [2 * item for item in range(20)]


def test_a_stopped_process_hinders_nobody_who_only_looks(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("epsilon_lab.hosts.sidecar._PATIENCE_S", 0.1)
    run = lab.start(WorkQueue(range(2), gate(tmp_path)))
    two_started(tmp_path)
    os.kill(lab._core.pid, signal.SIGSTOP)
    try:
        assert run.status == "running"
        assert len(lab.sql("select * from tasks")) == 2
        with pytest.raises(TimeoutError):
            run.wait(0.2)
    finally:
        os.kill(lab._core.pid, signal.SIGCONT)
    (tmp_path / "go").touch()
    assert run.wait(60).results() == [0, 10]


HANDS_OVER_AND_DIES = """
import os, signal, sys
from epsilon_lab import Lab, WorkQueue
from epsilon_lab.hosts.sidecar import Sidecar
from epsilon_lab.workspace.journal import Journal
def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
setattr({"Journal": Journal, "Sidecar": Sidecar}[sys.argv[2]], sys.argv[3], die)
Lab(sys.argv[1], broker="sidecar").start(WorkQueue([1, 2], lambda item: item * 2))
"""


@pytest.mark.parametrize("dies_in", [("Sidecar", "resume"), ("Journal", "commit")])
def test_a_run_whose_kernel_dies_while_it_hands_it_over_is_this_workspaces_own(lab, runs, start, dies_in):
    kernel = start("-c", HANDS_OVER_AND_DIES, str(runs), *dies_in)
    kernel.communicate(timeout=60)
    assert kernel.returncode == -signal.SIGKILL
    if dies_in[0] == "Journal":
        assert not lab.runs, "nothing of it was on record"
        return
    (run_id,) = lab.runs
    with Lab(runs, read_only=True) as looker:
        assert looker.runs[run_id].status == "interrupted", "nobody is at it"
    assert lab.resume(run_id).wait(60).results() == [2, 4]


def test_a_run_that_has_begun_is_not_announced(shared):
    run = shared.start(WorkQueue([1], double)).wait(60)
    with pytest.raises(InvalidInput, match=f"{run.run_id}' has begun"):
        shared._core._ask(Announce(run.run_id), Standing)


def test_who_looks_at_a_sidecar_that_hangs_is_told_and_can_leave(lab, monkeypatch):
    for name in ("_PATIENCE_S", "_ANSWER_S"):
        monkeypatch.setattr(f"epsilon_lab.hosts.sidecar.{name}", 0.1)
    panel = lab.panel()
    pid = lab._core.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for look in (lambda: lab.workers, lambda: lab.stats):
            with (
                pytest.warns(RuntimeWarning, match="has not answered"),
                pytest.raises(LabError, match=f"kill -9 {pid}"),
            ):
                look()
        lab.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert panel.is_frozen


def test_a_panel_of_a_sidecar_that_was_killed_says_that_nobody_is_at_work(lab):
    panel = lab.panel()
    assert "2 workers" in repr(lab)
    os.kill(lab._core.pid, signal.SIGKILL)
    assert wait_until(lambda: panel.is_frozen, within_s=60)
    assert "closed" in repr(panel)
    assert repr(lab).endswith("has ended>")


def test_a_sidecar_that_hangs_is_named_with_what_ends_it(lab, runs, monkeypatch):
    monkeypatch.setattr("epsilon_lab.hosts.sidecar._END_S", 0.2)
    os.kill(lab._core.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LabError, match=rf"process {lab._core.pid}, does not end; kill -9 {lab._core.pid} .*resume"):
            end_sidecar(runs)
    finally:
        os.kill(lab._core.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "option", ["--workers=0", "--workers=100000", "--linger=-1", "--linger=nan", "--bind=nonsense"]
)
def test_a_command_line_that_makes_no_sense_starts_nothing(tmp_path, capsys, option):
    assert main(["broker", str(tmp_path / "runs"), option]) == 1
    assert "must be" in (said := capsys.readouterr().err) or "is not of the form" in said


def test_to_stop_the_sidecar_of_a_workspace_that_is_none_is_a_mistake(tmp_path, capsys):
    assert main(["broker", str(tmp_path / "misspelt"), "--stop"]) == 1
    assert "there is no workspace" in capsys.readouterr().err


def broker(start, runs, *arguments):
    """A sidecar in the foreground, at work."""
    script = start("-m", "epsilon_lab", "broker", str(runs), "--workers", "1", *arguments)
    assert "broker='sidecar'" in script.stdout.readline(), script.communicate()
    return script


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_good_order(runs, tmp_path, start, number):
    script = broker(start, runs)
    with Lab(runs, broker="sidecar") as lab:
        run = lab.start(WorkQueue([1], gate(tmp_path)))
        assert wait_until((tmp_path / "executed").exists, within_s=60)
        script.send_signal(number)
        assert script.wait(60) == 0, script.communicate()
        with pytest.raises(SidecarLost):
            lab.workers  # noqa: B018
        assert run.status == "interrupted"
    with Lab(runs, workers=1, read_only=True) as reader:
        assert "lab.closed" in reader.sql("select type from events where run_id is null")["type"].tolist()


def test_it_stays_while_a_run_is_live_and_ends_by_itself_when_nobody_needs_it(runs, tmp_path, start):
    script = broker(start, runs, "--linger", "0.1")
    with Lab(runs, broker="sidecar") as lab:
        lab.start(WorkQueue([1], gate(tmp_path)), name="alone")
        assert wait_until((tmp_path / "executed").exists, within_s=60)
    with pytest.raises(subprocess.TimeoutExpired):
        script.wait(1.5)
    (tmp_path / "go").touch()
    assert script.wait(60) == 0
    with Lab(runs, read_only=True) as reader:
        assert reader.runs["alone"].status == "completed"


def test_what_it_says_is_kept_in_a_file_that_stays_short(runs):
    async def flood(item):
        import sys

        for _ in range(40):
            sys.stderr.write("x" * 99_999 + "\n")
        sys.stderr.flush()
        return item

    with Lab(runs, workers=1, broker="sidecar") as lab:
        log = runs / "lab" / "sidecar.log"
        assert log.stat().st_mode & 0o777 == 0o600
        lab.start(WorkQueue([1], flood)).wait(60)
        assert wait_until(lambda: 0 < log.stat().st_size < 1 << 20, within_s=60)


# -- strangers -------------------------------------------------------------------------------------------------------


def message(body):
    return LENGTH.pack(len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        LENGTH.pack(MAX_COMMAND + 1) + b"x",
        message(b""),
        message(bytes([CONTROL_VERSION])),
        message(bytes([CONTROL_VERSION]) + b"\xc1garbage"),
        message(bytes([CONTROL_VERSION + 1]) + b"\x80"),
        message(bytes([CONTROL_VERSION]) + b"\x81\xa4type\xa5Adopt"),
        message(bytes([CONTROL_VERSION]) + b"\x91" * 5000),
    ],
)
def test_garbage_is_refused_and_the_sidecar_goes_on(shared, data):
    address = holder_of(shared.path).control
    assert Path(address).stat().st_mode & 0o777 == 0o600
    assert Path(address).parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(address)
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        answer = line.recv(65536)
    assert not answer or b"BadFrame" in answer
    assert shared.start(WorkQueue([1], double)).wait(60).results() == [2]


def test_a_run_that_is_none_is_refused_by_name(shared):
    with pytest.raises(InvalidInput, match="nowhere"):
        shared.resume("nowhere")
    with pytest.raises(InvalidInput, match="run directory"):
        shared._core.resume("../elsewhere", trust=True)


def test_what_a_full_sidecar_has_no_room_for_waits_in_its_run(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("EPSILON_QUEUE_TASKS", "5")
    with Lab(runs, workers=1, broker="sidecar") as lab:
        run = lab.start(WorkQueue(range(20), gate(tmp_path)))
        full = lab.start(WorkQueue(range(3), double))
        count = "select status, count(*) from tasks where run_id = ? group by all order by all"
        assert dict(lab.store.rows(count, [run.run_id]))["waiting"] == 15
        assert dict(lab.store.rows(count, [full.run_id])) == {"waiting": 3}
        (tmp_path / "go").touch()
        assert run.wait(60).results() == [10 * item for item in range(20)]
        assert full.wait(60).results() == [0, 2, 4]


# -- talking ---------------------------------------------------------------------------------------------------------


def test_kernels_that_come_and_go_talk_to_tasks_that_stay(runs):
    def work(_):
        task = current_task()
        task.publish("state", "waiting")
        return [message.value for message in task.messages(timeout_s=60)]

    with Lab(runs, workers=1, broker="sidecar") as lab:
        run = lab.start(WorkQueue([1], work))
        assert lab.subscribe("state").next(60).value == "waiting"
        lab.inbox()
    with Lab(runs, broker="sidecar") as lab:
        assert lab.subscribe("state").latest.seq == 1
        lab.send(f"{run.run_id}/item-000000", "go")
        assert lab.runs[run.run_id].wait(60).results() == [["go"]]
        lab.send("lab", "a note to whoever comes next")
    with Lab(runs, broker="sidecar") as lab:
        assert lab.inbox().next(60).value == "a note to whoever comes next"
        subscription = lab.subscribe("state")
        subscription.next()
        end_sidecar(runs)
        with pytest.raises(LabError):
            lab.publish("state", "nobody is there")


def test_a_worker_elsewhere_outlives_the_kernel_too(runs, start, monkeypatch):
    with Lab(runs, workers=1, broker="sidecar", bind="tcp://127.0.0.1:0") as lab:
        endpoint = lab.endpoint
        assert endpoint.startswith("tcp://127.0.0.1:")
        key = str(runs / "lab" / "keys" / "worker.key")
        worker = start("-m", "epsilon_lab", "worker", "--connect", endpoint, "--key-file", key, "--name", "elsewhere")
        assert wait_until(lambda: lab.workers["worker_id"].str.contains("elsewhere").any(), within_s=60)
    with Lab(runs, broker="sidecar") as lab:
        assert lab.endpoint == endpoint
        [name] = [name for name in lab.workers["worker_id"] if "elsewhere" in name]
        with pytest.raises(InvalidInput, match="worker nobody: is not known"):
            lab.drain("nobody")
        lab.drain(name)
        assert worker.wait(60) == 0, worker.communicate()


def test_a_run_that_goes_on_in_a_kernel_has_that_kernels_place(runs, tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()

    def where(item):
        import os
        import select

        while item == 0 and not os.path.exists(tmp_path / "go"):
            select.select([], [], [], 0.01)
        return os.getcwd()

    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "old")
        with Lab(runs, workers=1, broker="sidecar") as lab:
            run = lab.start(WorkQueue(range(2), where))
            assert (run.path / "place.json").exists()
    end_sidecar(runs)
    (tmp_path / "go").touch()
    with Lab(runs, workers=1) as lab:
        again = lab.resume(run.run_id).wait(60)
        assert again.results() == [str(Path.cwd())] * 2
        assert not (run.path / "place.json").exists()
