"""Files for workers that are far from the disk: inside the run, for who works for it, whole or not at all."""

import hashlib
import os

import pytest

from epsilon_lab.broker.porter import PART, Porter
from epsilon_lab.broker.stimuli import OpenRun, Serve
from epsilon_lab.messages.frames import Fetch, File, Keep, Kept


@pytest.fixture
def porter():
    porter = Porter()
    yield porter
    porter.close()


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "q"
    (path / "code").mkdir(parents=True)
    (path / "code" / "f.pkl").write_bytes(b"pickle")
    (tmp_path / "secret").write_bytes(b"secret")
    return path


def ask(porter, run, request, now=0.0):
    porter.take(Serve("remote-a/w1", str(run), request))
    [(peer, answer)] = porter.serve(now)
    assert peer == "remote-a/w1"
    return answer


def keep(ref, content, *, offset=0, size=None, sha256=None, whole=None):
    whole = content if whole is None else whole
    return Keep(
        note_id=1,
        run_id="q",
        task_id="a",
        fence=5,
        ref=ref,
        offset=offset,
        size=len(whole) if size is None else size,
        sha256=hashlib.sha256(whole).hexdigest() if sha256 is None else sha256,
        content=content,
    )


def parts_beside(run):
    return [path.name for path in run.rglob(".part-*")]


def test_a_file_is_read_in_parts_of_one_writing(porter, run):
    content = os.urandom(PART + 10)
    (run / "big").write_bytes(content)
    first = ask(porter, run, Fetch(note_id=1, run_id="q", ref="big"))
    second = ask(porter, run, Fetch(note_id=2, run_id="q", ref="big", offset=PART))
    assert first.content + second.content == content
    assert first.size == len(content)
    assert first.tag == second.tag
    (run / "new").write_bytes(content)
    os.replace(run / "new", run / "big")
    assert ask(porter, run, Fetch(note_id=3, run_id="q", ref="big")).tag != first.tag


@pytest.mark.parametrize("ref", ["../secret", "/etc/passwd", "code/../../secret", "", "code/\0", "link", "out/secret"])
def test_nothing_outside_the_run_is_read(porter, run, ref):
    (run / "link").symlink_to("../secret")
    (run / "out").symlink_to("..")
    answer = ask(porter, run, Fetch(note_id=1, run_id="q", ref=ref))
    assert answer.problem
    assert not answer.content


def test_what_is_missing_is_said_and_what_is_no_file_too(porter, run):
    os.mkfifo(run / "pipe")
    assert ask(porter, run, Fetch(note_id=1, run_id="q", ref="none")).is_missing
    assert not ask(porter, run, Fetch(note_id=1, run_id="q", ref="pipe")).is_missing
    assert ask(porter, run, Fetch(note_id=1, run_id="q", ref="pipe")).problem
    assert ask(porter, run, Fetch(note_id=1, run_id="q", ref="code")).problem


def test_a_file_takes_its_place_once_it_is_whole(porter, run):
    content = os.urandom(PART + 10)
    assert not ask(porter, run, keep("outputs/a.pkl", content[:PART], whole=content)).problem
    assert not (run / "outputs" / "a.pkl").exists()
    assert not ask(porter, run, keep("outputs/a.pkl", content[PART:], offset=PART, whole=content)).problem
    assert (run / "outputs" / "a.pkl").read_bytes() == content
    assert not parts_beside(run)


def test_an_empty_file_is_a_file(porter, run):
    assert ask(porter, run, keep("outputs/a", b"")) == Kept(note_id=1)
    assert (run / "outputs" / "a").read_bytes() == b""


@pytest.mark.parametrize(
    "ref",
    ["journal.ndjson", "STOP", "plan.json", "code/f.pkl", "problem/judge.pkl", "../secret", "/tmp/x", "out/x", "./x"],
)
def test_what_is_the_labs_own_is_not_written(porter, run, ref):
    (run / "out").symlink_to("..")
    assert ask(porter, run, keep(ref, b"mine now")).problem
    assert (run / "code" / "f.pkl").read_bytes() == b"pickle"
    assert sorted(os.listdir(run)) == ["code", "out"]
    assert sorted(os.listdir(run.parent)) == ["q", "secret"]


@pytest.mark.parametrize("ref", ["leaves/a/4/x", "leaves/a/4.json", "leaves/b/5/x", "leaves/a/5", "leaves/a/x"])
def test_the_files_of_another_attempt_are_not_written(porter, run, ref):
    assert "is not a place for what this task writes" in ask(porter, run, keep(ref, b"mine now")).problem
    assert not ask(porter, run, keep("leaves/a/5/src/x", b"mine")).problem
    assert not ask(porter, run, keep("leaves/a/5.json", b"{}")).problem
    assert sorted(path.name for path in (run / "leaves").rglob("*")) == ["5", "5.json", "a", "src", "x"]


def test_what_did_not_arrive_as_it_was_sent_is_not_kept(porter, run):
    assert "did not arrive" in ask(porter, run, keep("outputs/a", b"data", sha256="0" * 64)).problem
    assert not (run / "outputs" / "a").exists()
    assert not parts_beside(run)


def test_parts_come_in_order_and_may_come_twice(porter, run):
    content = b"abcdef"
    ask(porter, run, keep("outputs/a", b"abc", whole=content))
    assert not ask(porter, run, keep("outputs/a", b"abc", whole=content)).problem  # begun again
    assert ask(porter, run, keep("outputs/a", b"f", offset=5, whole=content)).problem
    assert ask(porter, run, keep("outputs/a", b"def", offset=3, whole=content)).must_begin_again
    ask(porter, run, keep("outputs/a", b"ab", whole=content))
    ask(porter, run, keep("outputs/a", b"cd", offset=2, whole=content))
    assert not ask(porter, run, keep("outputs/a", b"cd", offset=2, whole=content)).problem
    assert not ask(porter, run, keep("outputs/a", b"ef", offset=4, whole=content)).problem
    assert (run / "outputs" / "a").read_bytes() == content


def test_more_than_was_said_is_refused(porter, run):
    assert ask(porter, run, keep("outputs/a", b"abc", size=2)).problem
    assert not parts_beside(run)


def test_what_its_worker_left_unfinished_is_given_up(porter, run):
    ask(porter, run, keep("outputs/a", b"abc", size=6), now=10.0)
    porter.clear(60.0)
    assert parts_beside(run)
    porter.clear(80.0)
    assert not parts_beside(run)


def test_a_turn_serves_a_few_and_the_rest_wait(porter, run):
    for number in range(20):
        porter.take(Serve("remote-a/w1", str(run), Fetch(note_id=number, run_id="q", ref="code/f.pkl")))
    served = []
    while porter.is_busy:
        answers = porter.serve(0.0)
        assert len(answers) <= 8
        served += [answer.note_id for _, answer in answers]
    assert served == list(range(20))


# -- who may ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def holding(table, make_spec):
    """A broker whose worker s/w1 holds task a of run q."""
    table.step(OpenRun("q", "/runs/q"))
    table.step(OpenRun("other", "/runs/other"))
    table.join("s/w1")
    table.submit(make_spec("a"), run_id="q")
    assert table.assigned() == {"s/w1": ["a"]}
    return table


def fence_of(table):
    [fence] = table.state.board.member("s/w1").held
    return fence


def test_a_worker_reads_what_belongs_to_a_run_that_it_works_for(holding):
    request = Fetch(note_id=1, run_id="q", ref="code/f.pkl")
    assert list(holding.say("s/w1", request)) == [Serve("s/w1", "/runs/q", request)]


@pytest.mark.parametrize("run_id", ["other", "none"])
def test_it_reads_nothing_of_another_run(holding, run_id):
    [answer] = holding.say("s/w1", Fetch(note_id=1, run_id=run_id, ref="code/f.pkl")).sent(File)
    assert "holds no task" in answer.problem


def test_it_writes_for_the_attempt_that_it_holds_and_no_other(holding):
    good = Keep(
        note_id=1, run_id="q", task_id="a", fence=fence_of(holding), ref="o/a", offset=0, size=0, sha256="", content=b""
    )
    assert [type(effect) for effect in holding.say("s/w1", good)] == [Serve]
    for wrong in ({"fence": good.fence - 1}, {"task_id": "b"}, {"run_id": "other"}):
        fields = {name: getattr(good, name) for name in good.__struct_fields__} | wrong
        [answer] = holding.say("s/w1", Keep(**fields)).sent(Kept)
        assert "in other hands" in answer.problem
