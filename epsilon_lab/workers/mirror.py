"""A run directory as a worker sees it that is far from the disk: read by asking, written by handing over.

Nothing else knows the difference: what `save` gives back is on the lab's disk, as it would be next to it. A file that
was read once is kept, since what a task is given does not change; a file that a task of this worker made is not, since
another attempt may be the one that counts. Files are kept in a directory of the worker's own, under the run's id, for
as long as the worker lives.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from epsilon_lab.broker.client import Answer, Peer
from epsilon_lab.broker.porter import PART
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.frames import Fetch, File, Keep, Kept
from epsilon_lab.messages.tasks import Assignment
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.scan import segment_path

_AT_ONCE = 16
"""Parts of a file on their way at once, so that a distant lab costs one round trip and not one a part."""

_TRIES = 5
"""Times a file is begun again whose other end changed or went away meanwhile."""


class Mirrors:
    """Run directories for the assignments of one peer.

    Args:
        peer: Whose tasks they are; asked from the thread that it belongs to.
        root: Where what was read is kept.
    """

    def __init__(self, peer: Peer, root: Path) -> None:
        self._peer = peer
        self._root = root

    def __call__(self, assignment: Assignment) -> MirroredRun:
        """Find the files of an assignment's run."""
        return MirroredRun(self._peer, assignment, self._root)


class MirroredRun(RunDirectory):
    """The files of one run, for one attempt."""

    is_here = False

    def __init__(self, peer: Peer, assignment: Assignment, root: Path) -> None:
        if assignment.run_id in ("", ".", "..") or Path(assignment.run_id).name != assignment.run_id:
            raise InvalidInput(f"run id {assignment.run_id!r}", "is no name of a directory")
        super().__init__(root / assignment.run_id)
        self._peer = peer
        self._assignment = assignment

    @property
    def journal(self) -> Path:
        """A copy of the run's journal as it is now."""
        journal = super().journal
        for number in itertools.count(1):
            name = segment_path(journal, number).name
            try:
                super().save(name, self._fetch(name), kind="copy")
            except FileNotFoundError:
                break
        return journal

    def save(self, ref: str, content: str | bytes, *, kind: str, task_id: str | None = None) -> ArtifactSaved:
        """Hand a whole file over, and describe it once it is on the lab's disk.

        Raises:
            OSError: The lab does not take it: its disk is full, or the task is in other hands by now.
        """
        self.locate(ref)
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        for _ in range(_TRIES):
            if self._hand_over(ref, data, digest):
                return ArtifactSaved(path=ref, kind=kind, sha256=digest, bytes=len(data), task_id=task_id)
        raise OSError(f"{ref} of run {self.run_id}: the lab was opened anew each time it was sent")

    def read_bytes(self, ref: str) -> bytes:
        """Read a file of the run.

        Raises:
            FileNotFoundError: The run has no such file.
            OSError: The lab does not give it: the task is in other hands by now.
        """
        try:
            return super().read_bytes(ref)
        except FileNotFoundError:
            content = self._fetch(ref)
            super().save(ref, content, kind="copy")
            return content

    def read_part(self, ref: str, offset: int, size: int) -> bytes:
        """Read so many bytes of a file of the run, all of which is kept from then on.

        Raises:
            FileNotFoundError: The run has no such file.
            OSError: The lab does not give it: the task is in other hands by now.
        """
        try:
            return super().read_part(ref, offset, size)
        except FileNotFoundError:
            self.read_bytes(ref)
            return super().read_part(ref, offset, size)

    def exists(self, ref: str) -> bool:
        """Tell whether the run has this file."""
        try:
            self.read_bytes(ref)
        except FileNotFoundError:
            return False
        return True

    def _hand_over(self, ref: str, data: bytes, digest: str) -> bool:
        """Send a file; False where it has to be begun again."""

        def part(offset: int) -> Keep:
            return Keep(
                note_id=0,
                run_id=self.run_id,
                task_id=self._assignment.task.task_id,
                fence=self._assignment.fence,
                ref=ref,
                offset=offset,
                size=len(data),
                sha256=digest,
                content=data[offset : offset + PART],
            )

        for answer in self._in_turn(part, range(0, max(len(data), 1), PART)):
            assert isinstance(answer, Kept)
            if answer.must_begin_again:
                return False
            if answer.problem:
                raise OSError(f"{ref} of run {self.run_id}: {answer.problem}")
        return True

    def _fetch(self, ref: str) -> bytes:
        """Read a file from the lab, all of it from one writing."""

        def part(offset: int) -> Fetch:
            return Fetch(note_id=0, run_id=self.run_id, ref=ref, offset=offset)

        for _ in range(_TRIES):
            [first] = map(self._found, self._in_turn(part, range(1)))
            parts = [first, *map(self._found, self._in_turn(part, range(PART, first.size, PART)))]
            if all(part.tag == first.tag for part in parts):
                return b"".join(part.content for part in parts)
        raise OSError(f"{ref} of run {self.run_id} changes all the time")

    def _found(self, answer: Answer) -> File:
        assert isinstance(answer, File)
        if answer.is_missing:
            raise FileNotFoundError(errno.ENOENT, f"run {self.run_id} has no such file")
        if answer.problem:
            raise OSError(f"a file of run {self.run_id} cannot be read: {answer.problem}")
        return answer

    def _in_turn(self, question: Callable[[int], Fetch | Keep], offsets: Iterable[int]) -> Iterator[Answer]:
        """Ask about parts, many at once; the answers in order, however long the broker is away."""
        answers: dict[int, Answer] = {}
        asked: deque[int] = deque()

        def first() -> Answer:
            while asked[0] not in answers:
                self._peer.listen()
            return answers.pop(asked.popleft())

        try:
            for offset in offsets:
                number = self._peer.ask(question(offset), lambda answer: answers.__setitem__(answer.note_id, answer))
                asked.append(number)
                if len(asked) == _AT_ONCE:
                    yield first()
            while asked:
                yield first()
        finally:
            for number in asked:
                self._peer.forget(number)
