"""An attempt's directory: laid out as copies, published whole, and what a stranger may put into it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, LabError, LeafFailed
from epsilon_lab.messages.events import CompletedLine, TasksCompleted
from epsilon_lab.messages.values import Value, stored
from epsilon_lab.workspace import leaf_files, trees
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layers import Layer, Piece
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.leaf_files import LeafFiles, export_files, locate_files, read_layer, sweep, tree_of

Accept = Callable[[dict[str, str]], None]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    return run


@pytest.fixture
def journal(run: RunDirectory) -> Accept:
    """Puts on record that tasks have published these files, in this order."""

    def write(accepted: dict[str, str]) -> None:
        output = stored(Value("json", b"null"))
        lines = tuple(
            CompletedLine(task_id, 1, place, output, 0.0, 1.0, files)
            for place, (task_id, files) in enumerate(accepted.items())
        )
        with closing(Journal.open(run.journal, "process")) as journal:
            journal.append(0.0, TasksCompleted(worker_id="w", tasks=lines))

    return write


def made(run: RunDirectory, task_id: str, fence: int, files: dict[str, str], below: tuple[str, ...] = ()) -> str:
    leaf = LeafFiles(run, task_id, fence, below)
    for path, text in files.items():
        (leaf.path / path).parent.mkdir(parents=True, exist_ok=True)
        (leaf.path / path).write_text(text)
    return leaf.publish()[0]


def texts(run: RunDirectory, layers: tuple[str, ...]) -> dict[str, str]:
    return {path: run.read_text(f"{source.layer}/{path}") for path, source in tree_of(run, layers).items()}


def test_a_layer_is_what_was_added_changed_and_deleted(run: RunDirectory) -> None:
    first = made(run, "api", 1, {"src/a.py": "1", "src/b.py": "2", "README": "hello"})
    first_written = (run.path / first / "README").stat().st_mtime
    leaf = LeafFiles(run, "web", 2, (first,))
    assert sorted(path.name for path in (leaf.path / "src").iterdir()) == ["a.py", "b.py"]
    assert (leaf.path / "src/a.py").stat().st_mtime < first_written - 3600  # so that any change shows
    (leaf.path / "src/a.py").write_text("3")  # as long as before
    (leaf.path / "src/b.py").unlink()
    (leaf.path / "tool").write_text("#!/bin/sh")
    (leaf.path / "tool").chmod(0o755)
    reference, lines = leaf.publish(("README", "tool"))
    layer = read_layer(run, reference)
    assert (sorted(layer.files), layer.deleted, layer.below) == (["src/a.py", "tool"], ("src/b.py",), (first,))
    assert layer.files["tool"].executable
    assert [(line.path, line.kind) for line in lines] == [
        ("leaves/web/2/src/a.py", "file"),
        ("leaves/web/2/tool", "file"),
        ("leaves/web/2.json", "layer"),
    ]
    assert texts(run, (first, reference)) == {"README": "hello", "src/a.py": "3", "tool": "#!/bin/sh"}
    assert texts(run, (first,))["src/a.py"] == "1"
    assert not (run.path / reference / "README").exists()


def test_a_change_of_mode_alone_is_a_change(run: RunDirectory) -> None:
    first = made(run, "api", 1, {"tool": "x"})
    leaf = LeafFiles(run, "web", 2, (first,))
    (leaf.path / "tool").chmod(0o755)
    assert read_layer(run, leaf.publish()[0]).files["tool"].executable


def test_nothing_changed_is_nothing_published(run: RunDirectory) -> None:
    first = made(run, "api", 1, {"a": "1"})
    assert LeafFiles(run, "web", 2, (first,)).publish() == ("", [])
    assert not (run.path / "leaves/web").exists()


def test_what_is_written_in_a_workspace_reaches_no_layer(run: RunDirectory) -> None:
    first = made(run, "api", 1, {"a": "1"})
    leaf = LeafFiles(run, "web", 2, (first,))
    with (leaf.path / "a").open("a") as file:
        file.write("more")
    assert (run.path / first / "a").read_text() == "1"
    assert (leaf.path / "a").stat().st_ino != (run.path / first / "a").stat().st_ino


def test_a_file_with_another_name_outside_is_published_as_a_copy(run: RunDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "mine"
    outside.write_text("mine")
    leaf = LeafFiles(run, "api", 1)
    os.link(outside, leaf.path / "taken")
    (leaf.path / "inner").symlink_to("taken")
    reference, _ = leaf.publish()
    outside.write_text("changed")
    assert texts(run, (reference,)) == {"inner": "mine", "taken": "mine"}
    assert outside.stat().st_mode & 0o200


def test_a_published_file_that_was_changed_since_is_refused(run: RunDirectory) -> None:
    first = made(run, "api", 1, {"a": "1"})
    place = run.path / first / "a"
    assert not place.stat().st_mode & 0o222
    place.chmod(0o644)
    place.write_text("2")
    with pytest.raises(LabError, match=r"file 'a' of leaves/api/1 is not there as run run has it on record"):
        LeafFiles(run, "web", 2, (first,))
    place.unlink()
    with pytest.raises(LabError, match="is not there as"):
        LeafFiles(run, "web", 3, (first,))


def test_a_missing_output_is_said_by_name(run: RunDirectory) -> None:
    leaf = LeafFiles(run, "api", 1)
    (leaf.path / "folder").mkdir()
    with pytest.raises(LeafFailed, match=r"output files missing: 'folder', 'report\.md'"):
        leaf.publish(("folder", "report.md"))


# -- what a stranger may put there -------------------------------------------------------------------------------------


def _link_out(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def _link_up(place: Path) -> None:
    place.symlink_to("../..")


def _dangling(place: Path) -> None:
    place.symlink_to("nowhere")


def _circle(place: Path) -> None:
    place.symlink_to(place.name)


def _inner_folder(place: Path) -> None:
    (place.parent / "folder").mkdir()
    place.symlink_to("folder")


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as held:
        back = os.getcwd()
        os.chdir(place.parent)  # the name of a socket is short
        try:
            held.bind(place.name)
        finally:
            os.chdir(back)


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (_link_out, "a link that leads out"),
        (_link_up, "a link that leads out"),
        (_dangling, "a link that leads out"),
        (_circle, "a link that leads out"),
        (_inner_folder, "a link to a directory"),
        (os.mkfifo, "a fifo"),
        (_socket, "a socket"),
    ],
)
def test_what_is_no_plain_file_is_refused_by_name(run: RunDirectory, put: object, said: str) -> None:
    leaf = LeafFiles(run, "api", 1)
    (leaf.path / "good").write_text("fine")
    put(leaf.path / "odd\none")
    with pytest.raises(LeafFailed, match=rf"^'odd\\none' in the workspace is {said}"):
        leaf.publish()
    assert not run.exists("leaves/api/1.json")


def test_a_name_that_is_no_text_is_refused_and_any_other_is_kept(run: RunDirectory) -> None:
    strange = ['a b"c', "line\nbreak", "<b>&", "日本", "-rf", ".hidden", "{'a': 1}", "x" * 255]
    leaf = LeafFiles(run, "api", 1)
    for name in strange:
        (leaf.path / name).write_text(name)
    reference, _ = leaf.publish()
    assert texts(run, (reference,)) == {name: name for name in strange}
    again = LeafFiles(run, "web", 2, (reference,))
    assert {path.name for path in again.path.iterdir()} == set(strange)
    (again.path / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(LeafFailed, match=r"a name that is no text, b'caf\\xe9'"):
        again.publish()


def test_too_much_is_refused_before_it_is_read(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaf_files, "LEAF_FILES", 3)
    leaf = LeafFiles(run, "api", 1)
    for name in "abcd":
        (leaf.path / name).touch()
    with pytest.raises(LeafFailed, match="more than a task may publish, 3 files of 512 MiB"):
        leaf.publish()
    big = LeafFiles(run, "api", 2)
    with (big.path / "huge").open("wb") as file:
        file.truncate(leaf_files.LEAF_BYTES + 1)
    with pytest.raises(LeafFailed, match="more than a task may publish"):
        big.publish()


def test_however_deep_it_is_nested_it_is_refused_and_removed(run: RunDirectory) -> None:
    leaf = LeafFiles(run, "api", 1)
    at = os.open(leaf.path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(LeafFailed, match="more than 64 directories are nested"):
        leaf.publish()
    leaf.discard()
    assert not leaf.path.exists()


def test_a_tree_is_removed_and_what_its_links_lead_to_is_not(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    top = tmp_path / "top"
    (top / "closed").mkdir(parents=True)
    (top / "closed" / "file").touch()
    (top / "out").symlink_to(outside)
    (top / "closed").chmod(0)
    top.chmod(0)
    trees.remove(top)
    trees.remove(top)
    assert not top.exists()
    assert (outside / "kept").is_dir()


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "a/../../b"])
def test_an_index_that_leads_out_is_refused(run: RunDirectory, path: str) -> None:
    index = msgspec.json.encode(Layer(files={path: Piece("00", 1)}))
    run.save("leaves/api/1.json", index, kind="layer")
    with pytest.raises(LabError, match="cannot be read"):
        tree_of(run, ("leaves/api/1",))


# -- several attempts, and the end -------------------------------------------------------------------------------------


def test_the_next_attempt_removes_what_the_one_before_left(run: RunDirectory) -> None:
    lost = LeafFiles(run, "api", 1)
    (lost.path / "half").write_text("...")
    other = LeafFiles(run, "web", 2)
    again = LeafFiles(run, "api", 3)
    assert not lost.path.exists()
    assert list(again.path.iterdir()) == []
    assert other.path.is_dir()


def test_an_end_keeps_what_counts_and_nothing_else(run: RunDirectory, journal: Accept) -> None:
    kept = made(run, "api", 1, {"a": "1"})
    made(run, "web", 2, {"b": "2"})
    LeafFiles(run, "doc", 3)
    journal({"api": kept})
    sweep(run)
    assert sorted(path.relative_to(run.path).as_posix() for path in (run.path / "leaves").rglob("*")) == [
        "leaves/api",
        "leaves/api/1",
        "leaves/api/1.json",
        "leaves/api/1/a",
    ]


def test_files_of_a_run_are_found_and_exported(run: RunDirectory, journal: Accept, tmp_path: Path) -> None:
    first = made(run, "api", 1, {"src/a": "1", "b": "2"})
    second = made(run, "web", 2, {"b": "3"}, (first,))
    third = made(run, "doc", 3, {"c": "4"})
    journal({"doc": third, "api": first, "web": second})
    found = {path: place.read_text() for path, place in locate_files(run).items()}
    assert found == {"b": "3", "c": "4", "src/a": "1"}
    assert list(locate_files(run, "web")) == ["b", "src/a"]
    with pytest.raises(InvalidInput, match="task 'nobody': published no files in run run; those that did: doc"):
        locate_files(run, "nobody")
    target = tmp_path / "out"
    (target / "src").mkdir(parents=True)
    (target / "mine").write_text("stays")
    (target / "src/a").write_text("old")
    assert export_files(run, target) == target
    assert {path.name: path.read_text() for path in target.rglob("*") if path.is_file()} == {
        "a": "1", "b": "3", "c": "4", "mine": "stays"
    }  # fmt: skip
    (target / "src/a").write_text("it is the user's own")


def test_an_export_follows_no_link_out(run: RunDirectory, journal: Accept, tmp_path: Path) -> None:
    journal({"api": made(run, "api", 1, {"src/a": "1"})})
    target, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "src").symlink_to(elsewhere)
    with pytest.raises(InvalidInput, match="leads outside"):
        export_files(run, target)
    assert list(elsewhere.iterdir()) == []
