"""A worker elsewhere: it needs the key and nothing else of the lab's machine, and leaves as it is told."""

import os
import signal
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from epsilon_lab import Dag, Lab, MapReduce, PopulationSearch, WorkQueue, current_task, ids, problems
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until

BIG = 700_000


def be_at(place):
    """Say in a file who is at it, and stay until told to go."""
    with open(place, "a") as file:
        file.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + 60
    while not os.path.exists(place + ".go") and time.monotonic() < deadline:
        time.sleep(0.01)
    return place


def until(condition):
    assert wait_until(condition, within_s=60)


def begun(place):
    """Who was at a place, one after another."""
    return [int(line) for line in Path(place).read_text().splitlines()]


def let_go(places):
    for place in places:
        Path(f"{place}.go").touch()


def test_functions_items_and_outputs_of_any_size_travel_without_a_shared_disk(far_lab, start, await_members):
    offset = np.arange(BIG)  # captured by the function: its pickle is many parts long

    def work(item):
        time.sleep(0.05)
        return {"sum": int(item.sum() + offset.sum()), "echo": item * 2}

    start(far_lab.endpoint, "--slots", "2", "--name", "box")
    await_members(far_lab, 3)
    items = [np.full(BIG, number) for number in range(12)]
    run = far_lab.start(WorkQueue(items, work)).wait(120)
    for number, output in enumerate(run.results()):
        assert output["sum"] == int(items[number].sum() + offset.sum())
        assert (output["echo"] == items[number] * 2).all()
    attempts = run.frame("attempts")
    assert set(attempts["outcome"]) <= {"completed", "lost"}
    assert any(worker.startswith("remote-box-") for worker in attempts["worker_id"])
    artifacts = run.frame("artifacts")
    assert all(
        (run.path / path).stat().st_size == size
        for path, size in zip(artifacts["path"], artifacts["bytes"], strict=True)
    )
    assert not list(run.path.rglob(".part-*"))


def test_items_that_lie_on_the_labs_disk_are_read_there_and_what_is_made_of_them_comes_back(
    far_lab, start, await_members
):
    def work(item):
        time.sleep(0.01)
        return [item, os.getpid()]

    def joined(outputs):
        return [each for output in outputs for each in (output if isinstance(output[0], list) else [output])]

    start(far_lab.endpoint, "--slots", "2", "--name", "box")
    await_members(far_lab, 3)
    run = far_lab.start(MapReduce(range(300), work, joined, arity=40)).wait(120)
    assert [item for item, _ in run.output] == list(range(300))
    attempts = run.frame("attempts")
    assert any(worker.startswith("remote-box-") for worker in attempts["worker_id"])


def test_a_population_search_runs_there_with_sandbox_and_judge(far_lab, start, await_members):
    start(far_lab.endpoint, "--slots", "2")
    await_members(far_lab, 3)
    run = far_lab.start(PopulationSearch(problems.cap_set(n=4), generations=2)).wait(120)
    attempts = run.frame("attempts")
    there = attempts[attempts["worker_id"].str.startswith("remote-")]
    assert {"evaluate", "propose"} <= {task_id.partition("-")[0] for task_id in there["task_id"]}
    assert set(attempts["outcome"]) <= {"completed", "lost"}
    assert not {"scorer_failed", "proposal_failed"} & set(run.candidates["outcome"])
    assert run.best.score is not None


def test_async_functions_run_there_too(far_lab, start, await_members):
    async def work(item):
        import anyio

        await anyio.sleep(0.05)
        return os.getpid(), "x" * 200_000

    start(far_lab.endpoint)
    await_members(far_lab, 2)
    run = far_lab.start(WorkQueue(list(range(600)), work)).wait(120)
    pids = {pid for pid, _ in run.results()}
    assert len(pids) == 2
    assert any(worker.endswith("/leaves") for worker in run.frame("attempts")["worker_id"])


def test_a_task_there_knows_who_it_is_and_talks(far_lab, start, await_members):
    def talk(item):
        task = current_task()
        task.publish("here", item)
        task.send(f"item-{1 - item:06d}", {"from": item})
        [letter] = task.messages(timeout_s=60)  # each waits for the other: one is here, one there
        task.beat()
        order = task.subscribe("orders").next(60)
        task.send("lab", task.attempt)
        return os.getpid(), letter.value, order.value, task.traceparent

    far_lab.publish("orders", "go")
    inbox = far_lab.inbox()
    start(far_lab.endpoint)
    await_members(far_lab, 2)
    run = far_lab.start(WorkQueue([0, 1], talk)).wait(120)
    (pid, first, order, _), (other, second, _, _) = run.results()
    assert pid != other
    assert (first, second, order) == ({"from": 1}, {"from": 0}, "go")
    completed = run.frame("attempts").query("outcome == 'completed'")
    assert any(worker.startswith("remote-") for worker in completed["worker_id"])
    for row, result in zip(completed.sort_values("task_id").itertuples(), run.results(), strict=True):
        assert result[3] == ids.traceparent(run.run_id, row.task_id, row.attempt)
    said = far_lab.sql("select sender from messages where topic = 'here'")
    assert set(said["sender"]) <= {f"{run.run_id}/item-{n:06d}" for n in range(2)}
    assert {inbox.next(60).sender for _ in range(2)} == {f"{run.run_id}/item-{n:06d}" for n in range(2)}


def test_an_async_task_there_talks_as_well(far_lab, start, await_members):
    more_than_one_lane_takes = 300

    async def listen(item):
        task = current_task()
        subscription = await task.subscribe("go")
        await task.send("lab", os.getpid())
        return (await subscription.next(60)).value

    start(far_lab.endpoint)
    await_members(far_lab, 2)
    inbox = far_lab.inbox(timeout_s=60)
    run = far_lab.start(WorkQueue(list(range(more_than_one_lane_takes)), listen))
    assert len({message.value for message in islice(inbox, more_than_one_lane_takes)}) == 2, "here and there"
    far_lab.publish("go", "on")
    assert run.wait(60).results() == ["on"] * more_than_one_lane_takes


def test_what_a_task_raises_there_is_told_here(far_lab, start, await_members):
    def work(item):
        time.sleep(0.1)
        print("seen", item)
        raise ValueError(f"no {item}")

    start(far_lab.endpoint, "--slots", "2")
    await_members(far_lab, 3)
    run = far_lab.start(WorkQueue(list(range(6)), work))
    with pytest.raises(RunFailed, match="ValueError: no "):
        run.wait(60)
    failures = run.failures
    assert all(failures["error"].str.startswith("ValueError: no "))
    assert all("seen" in tail for tail in failures["stdout_tail"])


def test_a_drained_worker_finishes_what_it_has_begun_and_goes(far_lab, start, await_members, tmp_path):
    def work(item):
        with open(f"{item}", "a") as file:
            file.write("begun\n")
        deadline = time.monotonic() + 60
        while not os.path.exists(item + ".go") and time.monotonic() < deadline:
            time.sleep(0.01)
        return item

    station = start(far_lab.endpoint, "--slots", "1")
    members = await_members(far_lab, 2)
    places = [str(tmp_path / f"item-{number}") for number in range(4)]
    run = far_lab.start(WorkQueue(places, be_at))
    until(lambda: sum(map(os.path.exists, places)) == 2)
    far_lab.drain(members[0])
    assert station.process.poll() is None
    let_go(places)
    assert "at work as remote-" in station.end()
    assert station.process.returncode == 0
    run.wait(60)
    assert run.results() == places
    assert [len(begun(place)) for place in places] == [1, 1, 1, 1]
    assert "failed" not in set(run.frame("attempts")["outcome"])


def test_sigterm_drains_and_a_second_one_ends_it_now(far_lab, start, await_members, tmp_path):
    station = start(far_lab.endpoint)
    await_members(far_lab, 2)
    places = [str(tmp_path / f"item-{number}") for number in range(2)]
    run = far_lab.start(WorkQueue(places, be_at))
    until(lambda: all(map(os.path.exists, places)))
    station.signal(signal.SIGTERM)
    assert "takes nothing more" in station.process.stdout.readline() + station.process.stdout.readline()
    station.signal(signal.SIGTERM)
    station.end()
    assert station.process.returncode == 130
    let_go(places)
    assert run.wait(60).results() == places  # what it had begun was done again here


def test_a_killed_worker_leaves_nothing_running_and_its_task_is_done_elsewhere(far_lab, start, await_members, tmp_path):
    station = start(far_lab.endpoint)
    await_members(far_lab, 2)
    places = [str(tmp_path / f"item-{number}") for number in range(2)]
    run = far_lab.start(WorkQueue(places, be_at))
    until(lambda: all(map(os.path.exists, places)))
    pids = [begun(place)[0] for place in places]
    station.signal(signal.SIGKILL)
    station.end()
    until(lambda: sum(os.path.exists(f"/proc/{pid}") for pid in pids) == 1)
    let_go(places)
    assert run.wait(60).results() == places
    assert "expired" in set(run.frame("attempts")["outcome"])


def test_a_lab_that_comes_back_takes_up_what_still_runs(tmp_path, start, await_members, free_port):
    places = [str(tmp_path / f"item-{number}") for number in range(2)]
    address = f"tcp://127.0.0.1:{free_port}"
    with Lab(tmp_path / "runs", workers=1, bind=address) as lab:
        station = start(address)
        await_members(lab, 2)
        run_id = lab.start(WorkQueue(places, be_at)).run_id
        until(lambda: all(map(os.path.exists, places)))
    assert station.process.poll() is None
    with Lab(tmp_path / "runs", workers=1, bind=address) as lab:
        run = lab.resume(run_id)
        let_go(places)
        assert run.wait(60).results() == places
        assert sorted(len(begun(place)) for place in places) == [1, 2]  # there it went on; here it was begun anew
        [adopted] = run.frame("attempts").query("outcome == 'completed' and attempt == 1")["worker_id"]
        assert adopted.startswith("remote-")


def test_a_wrong_key_is_told_and_nothing_else_is_touched(far_lab, start, await_members, tmp_path):
    Lab(tmp_path / "other", workers=1, bind="tcp://127.0.0.1:0").close()
    started = time.monotonic()
    said = start(far_lab.endpoint, key_file=tmp_path / "other" / "lab" / "keys" / "worker.key").end()
    assert "another lab's" in said
    assert time.monotonic() - started < 30
    assert far_lab.start(WorkQueue([1, 2], abs)).wait(60).results() == [1, 2]


def test_a_key_that_is_no_longer_known_is_told(tmp_path, start, free_port):
    address = f"tcp://127.0.0.1:{free_port}"
    Lab(tmp_path / "runs", workers=1, bind=address).close()
    old = tmp_path / "old.key"
    (tmp_path / "runs" / "lab" / "keys" / "worker.key").rename(old)
    with Lab(tmp_path / "runs", workers=1, bind=address):
        station = start(address, key_file=old)
        assert "does not admit this key" in station.end()
        assert station.process.returncode == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--slots", "0"], "workers"),
        (["--name", "a/b"], "name"),
        (["--give-up-after", "0"], "give_up_s"),
    ],
)
def test_bad_arguments_are_refused(far_lab, start, options, word):
    station = start(far_lab.endpoint, *options)
    assert word in station.end()
    assert station.process.returncode == 1


def test_a_key_file_that_others_can_read_is_refused(far_lab, start, tmp_path):
    loose = tmp_path / "loose.key"
    loose.write_bytes((tmp_path / "runs" / "lab" / "keys" / "worker.key").read_bytes())
    loose.chmod(0o644)
    assert "chmod 600" in start(far_lab.endpoint, key_file=loose).end()


def test_a_worker_without_a_lab_gives_up(tmp_path, start, free_port):
    Lab(tmp_path / "runs", workers=1, bind="tcp://127.0.0.1:0").close()
    said = start(f"tcp://127.0.0.1:{free_port}", "--give-up-after", "1").end()
    assert "has not been reached for 1 s" in said


def test_the_labs_own_workers_are_not_drained(far_lab):
    until(lambda: len(far_lab.workers) == 2)
    with pytest.raises(InvalidInput, match="the lab's own"):
        far_lab.drain(far_lab.workers["worker_id"][0])
    with pytest.raises(InvalidInput, match="is not known"):
        far_lab.drain("remote-nobody/w1")


def add_a_line(inputs):
    """Hand on the files of the tasks before, one line longer, and a large one."""
    place = current_task().workspace
    told = place / "told" / "by whom.txt"
    told.parent.mkdir(exist_ok=True)
    with told.open("a") as file:
        file.write(f"{current_task().task_id}\n")
    (place / "large").write_bytes(current_task().task_id.encode() * BIG)
    return str(place)


def test_files_travel_to_the_next_task_and_back_without_a_shared_disk(far_lab, start, await_members, tmp_path):
    start(far_lab.endpoint, "--slots", "1")
    far = next(member for member in await_members(far_lab, 2) if member.endswith("/w1"))
    workers = far_lab.workers.set_index("worker_id")["pid"]
    [near] = [pid for member, pid in workers.items() if member.startswith("local-") and member.endswith("/w1")]
    places = [str(tmp_path / name) for name in ("this", "that")]
    busy = far_lab.start(WorkQueue(places, be_at))
    until(lambda: all(map(os.path.exists, places)))
    let_go([place for place in places if begun(place) != [near]])  # the lab's own child stays at the other
    run = far_lab.start(
        Dag([{"id": "one", "task": add_a_line}, {"id": "two", "task": add_a_line, "depends_on": ["one"]}])
    )
    run.wait(60)
    let_go(places)
    busy.wait(60)
    assert set(run.frame("attempts")["worker_id"]) == {far}
    assert run.files()["told/by whom.txt"].read_text() == "one\ntwo\n"
    assert run.files()["large"].read_bytes() == b"two" * BIG
    assert run.files("one")["large"].read_bytes() == b"one" * BIG
    artifacts = run.frame("artifacts").query("kind == 'file'")
    assert all(
        (run.path / path).stat().st_size == size
        for path, size in zip(artifacts["path"], artifacts["bytes"], strict=True)
    )
    assert not Path(run.results()[1]).exists()  # what was handed over is not kept there


@pytest.mark.long
def test_verdicts_are_read_where_they_lie_by_a_reducer_elsewhere(far_lab, start, await_members, tmp_path):
    def total(outputs, *, flag=None):
        return sum(outputs) + (100 if flag(key="more", question="More?", options=["yes", "no"]) == "yes" else 0)

    busy = far_lab.start(WorkQueue([str(tmp_path / "busy")], be_at))  # the lab's own child
    until((tmp_path / "busy").exists)
    start(far_lab.endpoint, "--name", "box")
    await_members(far_lab, 2)
    run = far_lab.start(MapReduce([1, 2], abs, total)).wait(60)
    run.cases.decide(run.cases.open[0].case_id, "yes")
    assert list(run.finalize()["after"]) == [103]
    done = run.frame("attempts").query("outcome == 'completed'")
    assert all(worker.startswith("remote-box-") for worker in done["worker_id"])
    let_go([str(tmp_path / "busy")])
    busy.wait(60)
