"""What any topology must do, as tests: subclass, give a few fixtures, done.

What is promised of runs in general is promised in every shape: here each promise is a test, and each topology is held
to it by a small `Example` (topology_examples.py), whose steps a function, an agent or a program can do (steps.py).
"""

from __future__ import annotations

import hashlib
import html
import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, LabError, RunFailed
from epsilon_lab.ids import origin
from epsilon_lab.lab import Lab
from epsilon_lab.messages.budget import Budget
from epsilon_lab.runs import Run
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.steps import TOPIC
from epsilon_lab.testing.topology_examples import Example, Hand
from epsilon_lab.topologies.catalogue import restore, topology_of
from epsilon_lab.topologies.files import read_outcome
from epsilon_lab.topologies.recovery import beginning, recover
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory

_PATIENCE_S = 60.0
HOSTILE = "<script>alert(1)</script>"


class _Trap:
    """A pickle that says that it was loaded."""

    def __init__(self, told: Path) -> None:
        self._told = told

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self._told,)


def _statuses(run: Run) -> dict[str, str]:
    tasks = run.frame("tasks")
    return dict(zip(tasks["task_id"], tasks["status"], strict=True))


def _begun(orders: Path) -> list[str]:
    ran = orders / "ran"
    return ran.read_text().split() if ran.exists() else []


def _held(orders: Path) -> list[str]:
    return sorted(path.name.removeprefix("held-") for path in orders.glob("held-*"))


def _holding(run: Run, orders: Path) -> list[str]:
    """Those of this run: of one that was stopped before, tasks may hold a moment longer."""
    running = {name for name, status in _statuses(run).items() if status == "running"}
    return [name for name in _held(orders) if name in running]


def _same(run: Run, example: Example) -> None:
    """What came of a run is what must come of it."""
    assert run.status == "completed", run.reason
    assert run.results() == list(example.results)
    assert example.read(run.output) == example.output


class TopologyContract:
    """The tests.

    A subclass provides the fixtures `example`; `hands` by `function` and `program`, those of functions bound to
    `orders`, a directory that is empty when a test begins; `agents`, a hand that asks a server of the test's own; and
    `lab`, with two workers, which tests may share.
    """

    @pytest.fixture
    def held(self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path) -> Iterator[Run]:
        """Give a run whose first steps are under way and wait for the file `hold` to go."""
        (orders / "hold").touch()
        run = lab.start(example.make(hands["function"]))
        assert wait_until(lambda: bool(_holding(run, orders)), within_s=_PATIENCE_S), run.show()
        yield run
        (orders / "hold").unlink(missing_ok=True)
        run.stop()
        with suppress(RunFailed):
            run.wait(_PATIENCE_S)

    # -- what comes of it ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["function", "program"])
    def test_functions_and_programs_come_to_the_same(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], kind: str
    ) -> None:
        """All tasks of the plan, each behind what it depends on, and nothing else."""
        run = lab.start(example.make(hands[kind])).wait(_PATIENCE_S)
        self._check(run, example)
        assert run.frame("llm_calls").empty

    def test_agents_come_to_the_same(self, lab: Lab, example: Example, agents: Hand) -> None:
        """Each step by a model, and each of its replies on record."""
        run = lab.start(example.make(agents)).wait(_PATIENCE_S)
        self._check(run, example)
        kinds = run.frame("tasks")["kind"]
        assert len(run.frame("llm_calls")) == sum(kinds.isin([example.kind, "reduce"]))

    def _check(self, run: Run, example: Example) -> None:
        _same(run, example)
        tasks = run.frame("tasks")
        assert {name: list(after) for name, after in zip(tasks["task_id"], tasks["depends_on"], strict=True)} == {
            name: list(after) for name, after in example.tasks.items()
        }
        assert set(tasks["status"]) == {"completed"}
        assert set(tasks["kind"]) >= {example.kind}
        started = dict(zip(tasks["task_id"], tasks["started_at"], strict=True))
        ended = dict(zip(tasks["task_id"], tasks["finished_at"], strict=True))
        for name, after in example.tasks.items():
            assert all(ended[other] <= started[name] for other in after), name
        assert run.failures.empty

    def test_what_it_says_of_itself_is_on_record_and_drawn_without_harm(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand]
    ) -> None:
        """Its arguments, its files, each of its nodes by name; a name that is markup stays text."""
        topology = example.make(hands["function"])
        drawn: str = getattr(topology, "_repr_html_")()  # noqa: B009 - no part of the protocol
        assert drawn == f"<code>{html.escape(repr(topology))}</code>"
        assert topology_of(example.topology) is not None
        run = lab.start(topology, name=HOSTILE).wait(_PATIENCE_S)
        assert run.topology == example.topology == topology.topology
        [config] = lab.sql("select config from runs where run_id = ?", [run.run_id])["config"]
        config = json.loads(config) if isinstance(config, str) else config
        assert config == json.loads(json.dumps(topology.config()))
        artifacts = run.frame("artifacts")
        assert "code" in set(artifacts["kind"])
        for row in artifacts.drop_duplicates("path", keep="last").itertuples():
            assert hashlib.sha256((run.path / str(row.path)).read_bytes()).hexdigest() == row.sha256, row.path
        text, picture = str(run.show()), getattr(run.show(), "_repr_html_")()  # noqa: B009 - as above
        assert HOSTILE not in picture + run._repr_html_()
        assert html.escape(HOSTILE) in picture
        if run.observe().work and run.observe().work.nodes:  # type: ignore[union-attr]
            assert all(name in text for name in example.tasks)
            assert all(name in picture for name in example.tasks)

    def test_who_looks_on_or_has_a_copy_sees_the_same(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], tmp_path: Path
    ) -> None:
        """A run directory answers by itself, wherever it lies."""
        run = lab.start(example.make(hands["function"])).wait(_PATIENCE_S)
        (tmp_path / "elsewhere").mkdir()
        shutil.copytree(run.path, tmp_path / "elsewhere" / run.run_id, symlinks=True)
        for place in (lab.path, tmp_path / "elsewhere"):
            with Lab(place, read_only=True) as onlooker:
                seen = onlooker.runs[run.run_id]
                _same(seen, example)
                assert seen.reason == run.reason
                assert seen.frame("tasks").equals(run.frame("tasks"))
                assert sorted(seen.files()) == sorted(run.files())
                assert [path.read_bytes() for path in seen.files().values()] == [
                    path.read_bytes() for path in run.files().values()
                ]
                with pytest.raises(LabError):
                    seen.pause()

    def test_its_rules_are_made_again_from_any_cut_of_its_journal_and_nothing_is_unpickled(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], tmp_path: Path
    ) -> None:
        """Up to the moment when a worker loads it, a stranger's run is data."""
        run = lab.start(example.make(hands["function"])).wait(_PATIENCE_S)
        copy = tmp_path / run.run_id
        shutil.copytree(run.path, copy, symlinks=True)
        told = tmp_path / "loaded"
        for path in copy.rglob("*.pkl"):
            path.unlink()
            path.write_bytes(pickle.dumps(_Trap(told)))
        directory = RunDirectory(copy)
        records = read_journal(directory.journal).records
        started = beginning(run.run_id, records, over=True)
        last = next(place for place, record in enumerate(records) if record.type == "run.ended")
        first = next(place for place, record in enumerate(records) if record.type == "run.started")
        for cut in range(first + 1, last + 1):
            plan = restore(directory, started, records[:cut])
            found = recover(run.run_id, plan, records[:cut], read=partial(read_outcome, directory))
            settled = {name for record in records[:cut] if record.type == "task.completed" for name in _names(record)}
            assert not settled & found.left.keys(), f"cut before line {records[cut].seq}"
        assert found.state.ended == (records[last - 1].type != "run.started")
        assert found.state.status == "completed"
        assert not told.exists()

    # -- while it goes on ----------------------------------------------------------------------------------------------

    def test_paused_it_begins_nothing_and_then_goes_on_to_the_same_end(
        self, example: Example, held: Run, orders: Path
    ) -> None:
        """What is in a worker's hands, finishes."""
        held.pause()
        assert held.status == "paused"
        (orders / "hold").unlink()
        assert wait_until(lambda: "running" not in _statuses(held).values(), within_s=_PATIENCE_S)
        lines = [record.type for record in read_journal(held.path / "journal.ndjson").records]
        assert "task.assigned" not in lines[lines.index("run.paused") :]
        if held.status == "paused":  # not where all of it was assigned before
            held.resume()
        _same(held.wait(_PATIENCE_S), example)

    def test_stopped_it_leaves_nothing_at_work(self, lab: Lab, held: Run) -> None:
        """What was open is cancelled, and its memory of it is the journal's."""
        held.stop()
        assert held.wait(_PATIENCE_S).status == "stopped"
        assert "stopped by the user" in held.reason
        assert not set(_statuses(held).values()) & {"queued", "running", "waiting"}
        with pytest.raises(LabError, match="not live"):
            held.pause()
        with pytest.raises(InvalidInput, match="nothing left"):
            lab.resume(held.run_id)

    def test_a_priority_and_a_message_reach_the_task_they_are_for(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path
    ) -> None:
        """And what tasks say reaches who listens."""
        (orders / "talk").touch()
        (orders / "hold").touch()
        heard = lab.subscribe(TOPIC, timeout_s=_PATIENCE_S)
        run = lab.start(example.make(hands["function"]))
        assert wait_until(lambda: bool(_holding(run, orders)), within_s=_PATIENCE_S)
        first = _holding(run, orders)[0]
        lab.send(f"{run.run_id}/{first}", {"for": first})
        open_tasks = [name for name, status in _statuses(run).items() if status in ("queued", "waiting", "running")]
        run.prioritise(open_tasks[-1], 7)
        (orders / "hold").unlink()
        _same(run.wait(_PATIENCE_S), example)
        assert json.loads((orders / f"heard-{first}").read_text()) == [{"for": first}]
        steps = set(_begun(orders)) & set(_statuses(run))
        said: set[object] = set()
        for message in heard:
            said.add(message.value)
            if said >= steps:
                break
        assert said >= steps
        assert first in steps
        tasks = run.frame("tasks").set_index("task_id")
        assert tasks.loc[open_tasks[-1], "priority"] == 7
        assert "task.prioritised" in set(run.frame("events")["type"])

    def test_a_task_that_is_given_up_is_not_begun(self, held: Run, example: Example, orders: Path) -> None:
        """Whether the broker has it, or it waits for others; nobody waits for it in vain."""
        at_work = set(_held(orders))
        left = [
            name
            for name, status in _statuses(held).items()
            if status in ("queued", "waiting") and name not in at_work and name in example.tasks
        ]
        if not left:
            return
        held.cancel(left[-1], reason="not wanted")
        (orders / "hold").unlink()
        with suppress(RunFailed):
            held.wait(_PATIENCE_S)
        assert _statuses(held)[left[-1]] == "cancelled"
        assert left[-1] not in _begun(orders)
        assert not set(_statuses(held).values()) & {"queued", "running", "waiting"}

    def test_a_budget_is_never_overdrawn(self, lab: Lab, example: Example, agents: Hand) -> None:
        """The second request to a model is not sent, and the run comes to an end that says so."""
        run = lab.start(example.make(agents), budget=Budget(calls=1))
        with suppress(RunFailed):
            run.wait(_PATIENCE_S)
        calls = run.frame("llm_calls")
        assert len(calls[calls["outcome"] == "ok"]) == 1
        assert "budget" in run.reason + " ".join(run.failures["error"].astype(str))

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def test_a_step_that_fails_once_is_tried_again(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path
    ) -> None:
        """Where the topology retries; else its failure stays its own."""
        (orders / f"once-{example.leaf}").touch()
        run = lab.start(example.make(hands["function"])).wait(_PATIENCE_S)
        attempts = run.frame("attempts")
        assert f"{example.leaf} fails once" in " ".join(attempts["error"].dropna())
        if example.retries:
            _same(run, example)
        else:
            assert _statuses(run)[example.leaf] == "failed"

    def test_a_step_that_fails_for_good_is_told_and_what_is_not_behind_it_is_done(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path
    ) -> None:
        """With its story: the error, and the traceback."""
        (orders / f"fail-{example.leaf}").touch()
        run = lab.start(example.make(hands["function"]))
        with suppress(RunFailed):
            run.wait(_PATIENCE_S)
        failures = run.failures.set_index("task_id")
        told = failures[failures["error"].str.contains(f"{example.leaf} fails", na=False)]
        assert not told.empty
        assert "in _obey" in told.iloc[-1]["traceback"]
        done = {name for name, status in _statuses(run).items() if status == "completed"}
        steps = {name for name in example.tasks if name not in example.behind(example.leaf) and name != example.leaf}
        assert steps <= done | set(example.spared)

    def test_a_step_is_done_again_for_whoever_asks(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path
    ) -> None:
        """With all that depends on it, or the refusal says why not and nothing is changed."""
        run = lab.start(example.make(hands["function"])).wait(_PATIENCE_S)
        if not example.takes_up:
            with pytest.raises(LabError, match="start a new run"):
                run.rerun(example.leaf)
            assert run.status == "completed"
            return
        run.rerun(example.leaf, feedback="mind the words")
        _same(run.wait(_PATIENCE_S), example)
        assert f"{example.leaf}~2" in _statuses(run)
        assert _begun(orders).count(example.leaf) == 1
        assert _begun(orders).count(f"{example.leaf}~2") == 1

    def test_a_dead_letter_is_tried_again(
        self, lab: Lab, example: Example, hands: Mapping[str, Hand], orders: Path
    ) -> None:
        """A step that took its workers along, once it is mended; or the refusal says why not."""
        (orders / f"die-{example.leaf}").touch()
        run = lab.start(example.make(hands["function"]))
        with suppress(RunFailed):
            run.wait(_PATIENCE_S)
        dead = _dead(lab, run)
        assert {origin(name) for name in dead} == {example.leaf}
        (orders / f"die-{example.leaf}").unlink()
        if not example.takes_up:
            with pytest.raises(LabError, match="no use for late outputs"):
                run.requeue()
            return
        run.requeue()
        _same(run.wait(_PATIENCE_S), example)
        assert len(_dead(lab, run)) == len(dead) - 1, "but for revisions that speak for nothing any more"


def _dead(lab: Lab, run: Run) -> list[str]:
    letters = lab.dead_letters
    return list(letters.loc[letters["run_id"] == run.run_id, "task_id"])


def _names(record: Any) -> list[str]:
    body = msgspec.json.decode(record.body)
    return [task["task_id"] if isinstance(task, dict) else task[0] for task in body["tasks"]]
