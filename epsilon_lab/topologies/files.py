"""A resumed run's files against its journal: what tasks will read must be on record, what rules wrote is mended.

The journal is the truth. A file that a task wrote or the run began with cannot be made again, so where it is not what
its line says the run is not resumed. A file that the rules write can: a crash may have left a later version of it that
no line speaks of, and it is brought back.
"""

from __future__ import annotations

import hashlib

import msgspec

from epsilon_lab.errors import LabError, WorkspaceError
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.topologies.plan import Copy, Write
from epsilon_lab.topologies.recovery import Recovered
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.leaf_files import read_layer

_GIVEN = ("plan", "code", "problem", "input")
"""Kinds of file that a run begins with."""

_MADE = ("source", "file", "layer")
"""Kinds of file that one task makes and others read; while that task is open, the file is not final."""


def read_outcome(run: RunDirectory, outcome: TaskOutcome) -> TaskOutcome:
    """Take back from the disk what rules that look into outputs see: the output itself, and which files there are.

    Raises:
        OSError: The output's file cannot be read.
        LabError: What describes the files cannot be read.
    """
    if outcome.output is not None and outcome.output.form == "file":
        outcome = msgspec.structs.replace(outcome, output=run.fetch(outcome.output))
    if outcome.files:
        outcome = msgspec.structs.replace(outcome, paths=tuple(read_layer(run, outcome.files).files))
    return outcome


def check_files(run: RunDirectory, found: Recovered) -> None:
    """Compare what is left to read with what is on record.

    Raises:
        LabError: A file is missing, or is another one; the message names it and its line.
    """
    for seq, artifact in found.artifacts.values():
        if artifact.path in found.files:  # bound inputs, say: they are mended
            continue
        is_final = artifact.task_id is None or artifact.task_id not in found.left
        if artifact.kind not in _GIVEN and not (artifact.kind in _MADE and is_final):
            continue
        try:
            with run.locate(artifact.path).open("rb") as file:  # it may be a file of very many items
                is_same = hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
        except OSError as error:
            raise _not_as_recorded(run, artifact.path, seq, f"cannot be read ({error.strerror})") from error
        if not is_same:
            raise _not_as_recorded(run, artifact.path, seq, "is another one, edited perhaps")


def mend_files(run: RunDirectory, found: Recovered) -> None:
    """Bring back what the rules wrote last.

    Raises:
        WorkspaceError: A file cannot be written.
    """
    try:
        for effect in found.files.values():
            match effect:
                case Write(text=text):
                    content = text.encode("utf-8", "surrogatepass")
                case Copy(source=source):
                    content = run.read_bytes(source)
            if not run.exists(effect.ref) or run.read_bytes(effect.ref) != content:
                run.save(effect.ref, content, kind=effect.kind)
    except OSError as error:
        raise WorkspaceError(
            f"run directory {run.path} cannot be brought back to what its journal says ({error})"
        ) from error


def _not_as_recorded(run: RunDirectory, ref: str, seq: int, how: str) -> LabError:
    return LabError(
        f"run {run.run_id} cannot be resumed: its file {ref} {how}, and not what line {seq} of its journal describes; "
        f"put it back. Nothing was changed"
    )
