"""Places at which a process of a drill kills itself: before a write, within it, behind it, before an answer goes out.

They are made from outside, around `os` and the listener, so that the product has no code for its own death. A failpoint
is `<place>:<count>`: the process dies when it comes to the place for the count-th time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a process may die."""

    when: str
    """`before`, `within` or `after` ..."""

    what: str
    """... `write` or `fsync` of a journal, `rename` of any file, `answer` of the broker to a peer."""

    most: int
    """A count that a lab at work comes to within seconds."""

    def __str__(self) -> str:
        return f"{self.when} {self.what}"


PLACES = [
    *(Place(when, "write", 60) for when in ("before", "within", "after")),
    *(
        Place(when, what, most)
        for what, most in (("fsync", 60), ("answer", 60), ("rename", 4))
        for when in ("before", "after")
    ),
]


def arm(failpoint: str) -> None:
    """Wrap what leads to the place; from then on this process lives on borrowed time."""
    place, _, count = failpoint.partition(":")
    when, what = place.split()
    left = int(count)

    def around(call: Callable[..., Any], is_there: Callable[..., bool]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            nonlocal left
            is_last = is_there(*arguments) and (left := left - 1) == 0
            if is_last and when == "within":
                handle, data = arguments
                call(handle, memoryview(data)[: len(data) // 2])
            if is_last and when != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = call(*arguments)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return wrapped

    match what:
        case "write":
            os.write = around(os.write, lambda handle, _: _is_journal(handle))
        case "fsync":
            os.fdatasync = around(os.fdatasync, _is_journal)
        case "rename":
            os.replace = around(os.replace, lambda *_: True)
        case "answer":
            from epsilon_lab.transport.zeromq import ZeroMQListener

            ZeroMQListener.send = around(ZeroMQListener.send, lambda *_: True)
        case _:
            raise ValueError(f"no place {place!r}; there are {', '.join(map(str, PLACES))}")


def _is_journal(handle: int) -> bool:
    return "journal" in os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
