"""Files that tasks make: those of the attempt that counts, all or none, for the tasks that follow and for the user."""

import os
import signal

import pytest

from epsilon_lab import Lab, WorkQueue, current_task
from epsilon_lab.agents.work import work_of
from epsilon_lab.errors import RunFailed
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.tasks import TaskSpec
from epsilon_lab.topologies.plan import Add, Finish
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.outputs import task_outputs


def write(item):
    (current_task().workspace / f"{item}.txt").write_text(f"by {item}")
    return item


async def write_async(item):
    return write(item)


def fail_once(item):
    place = current_task().workspace
    assert place == current_task().workspace
    assert list(place.iterdir()) == []
    (place / f"attempt-{current_task().attempt}").touch()
    if current_task().attempt == 1:
        raise ValueError("not yet")


def die_while_it_is_published(item):
    (current_task().workspace / "note").write_text(f"attempt {current_task().attempt}")
    if current_task().attempt == 1:
        save = RunDirectory.save

        def save_and_die(*arguments, **named):
            save(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        RunDirectory.save = save_and_die


def leave_a_link(item):
    (current_task().workspace / "<b>\n").symlink_to("/etc/passwd")


def kept(run):
    return sorted(path.relative_to(run.path).as_posix() for path in run.path.glob("leaves/*/*"))


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_only_the_attempt_that_counts_publishes_whatever_became_of_the_others(sidecar_path, broker):
    tasks = (write, write_async, fail_once, die_while_it_is_published)
    with Lab(sidecar_path, workers=2, broker=broker) as lab:
        runs = {task.__name__: lab.start(WorkQueue([1], task, retries=1)).wait(60) for task in tasks}
    assert {name: list(run.files()) for name, run in runs.items()} == {
        "write": ["1.txt"],
        "write_async": ["1.txt"],
        "fail_once": ["attempt-2"],
        "die_while_it_is_published": ["note"],
    }
    assert runs["die_while_it_is_published"].files()["note"].read_text() == "attempt 2"
    for name, run in runs.items():
        rows = run.frame("artifacts").query("kind in ('file', 'layer')")
        [index] = rows[rows["kind"] == "layer"]["path"]
        assert list(rows["path"]) == [f"{index.removesuffix('.json')}/{file}" for file in run.files()] + [index], name
        assert kept(run) == sorted([index, index.removesuffix(".json")]), name


def test_what_cannot_be_published_fails_its_attempt_by_name(lab):
    run = lab.start(WorkQueue([1], leave_a_link))
    with pytest.raises(RunFailed, match="a link that leads out of it"):
        run.wait(60)
    [failure] = run.failures.itertuples()
    assert failure.error.startswith(r"'<b>\n' in the workspace is a link that leads out of it")
    assert run.files() == {}
    assert kept(run) == []


# -- over the files of others ------------------------------------------------------------------------------------------


def first(inputs):
    (current_task().workspace / "shared").write_text("first")
    (current_task().workspace / "doomed").touch()
    return current_task().feedback


def second(inputs):
    task = current_task()
    said = [f"{each.source}: {each.text}" for each in task.feedback]
    place = task.workspace
    (place / "shared").write_text((place / "shared").read_text() + ", second")
    (place / "doomed").unlink()
    return said


def nothing(inputs):
    return None


class Steps:
    """One task, and others over its files."""

    topology, title, seed, parent_run_id = "steps", "steps", None, None
    limits, reads_outputs, runs_strangers, models = {}, False, False, ()

    def __init__(self, **steps):
        self.works = {
            name: (work_of(f"Steps {name}", task, form="inputs"), needs) for name, (task, needs) in steps.items()
        }

    def config(self):
        return {}

    def validate(self, budget=None):
        pass

    def prepare(self, run):
        return self, [work.save(run) for work, _ in self.works.values()]

    def start(self, now):
        return [Add((self._task("first"),))]

    def settled(self, outcome, now):
        rest = [name for name in self.works if name != "first"]
        if outcome.task_id == "first":
            self.open = set(rest)
            said = Feedback("qa", "it is too short", "e1")
            return [Add(tuple(self._task(name, layers=(outcome.files,), feedback=(said,)) for name in rest))]
        self.open.discard(outcome.task_id)
        return [] if self.open else [Finish("completed", "all done")]

    def tick(self, now):
        return []

    def _task(self, name, **more):
        work, needs = self.works[name]
        payload = work.call(needs_files=needs, **more)
        return TaskSpec(task_id=name, kind="node", lane=work.lane, entry=work.entry, payload=payload)


def test_a_task_begins_with_the_files_of_those_before_it_and_says_what_is_missing(lab, tmp_path):
    steps = Steps(
        first=(first, ("shared",)),
        second=(second, ()),
        third=(nothing, ("shared",)),
        fourth=(nothing, ("shared", "report.md")),
    )
    run = lab.start(steps).wait(60)
    tasks = run.frame("tasks").set_index("task_id")
    assert tasks["status"].to_dict() == {
        "first": "completed",
        "second": "completed",
        "third": "completed",
        "fourth": "failed",
    }
    assert tasks["error"]["fourth"] == "output file missing: 'report.md'"
    assert {path: place.read_text() for path, place in run.files().items()} == {"shared": "first, second"}
    assert {path: place.read_text() for path, place in run.files("first").items()} == {"doomed": "", "shared": "first"}
    assert run.export(tmp_path / "out") == tmp_path / "out"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shared"]
    assert task_outputs(run._directory)["second"].data == b'["qa: it is too short"]'
