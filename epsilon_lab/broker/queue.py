"""What is ready to run, and whose turn it is.

Within a run: larger priority first, then the order of submission; a task that comes back takes its old place, so it is
not punished for a worker that died. Between runs: one task each in turn, so that a run of ten thousand items does not
starve a run of ten. Pure.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadyQueue(Generic[Item]):
    """Ready items by lane and run. A ticket, unique and growing, names an item and is its age."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, str], list[tuple[int, int, Item]]] = {}
        self._turns: dict[str, deque[str]] = {}
        self._waiting: dict[int, str] = {}
        self._paused: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, item: Item, *, lane: str, run_id: str, priority: int, ticket: int) -> None:
        """Add an item, or put one back that was popped."""
        heap = self._heaps.get((lane, run_id))
        if heap is None:
            heap = self._heaps[lane, run_id] = []
            self._turns.setdefault(lane, deque()).append(run_id)
        heapq.heappush(heap, (-priority, ticket, item))
        self._waiting[ticket] = run_id

    def peek(self, lane: str) -> Item | None:
        """Look at the lane's next item; None where nothing is ready."""
        turns = self._turns.get(lane, deque())
        for _ in range(len(turns)):
            heap = self._heaps[lane, turns[0]]
            while heap and heap[0][1] not in self._waiting:
                heapq.heappop(heap)
            if not heap:
                del self._heaps[lane, turns.popleft()]
            elif turns[0] in self._paused:
                turns.rotate(-1)
            else:
                return heap[0][2]
        return None

    def pop(self, lane: str) -> Item | None:
        """Take the lane's next item; the next run has the next turn."""
        if self.peek(lane) is None:
            return None
        turns = self._turns[lane]
        _, ticket, item = heapq.heappop(self._heaps[lane, turns[0]])
        del self._waiting[ticket]
        turns.rotate(-1)
        return item

    def discard(self, ticket: int) -> bool:
        """Forget an item; False where it was not waiting."""
        return self._waiting.pop(ticket, None) is not None

    def pause(self, run_id: str) -> None:
        """Pass over this run's items."""
        self._paused.add(run_id)

    def resume(self, run_id: str) -> None:
        """Stop passing over this run's items."""
        self._paused.discard(run_id)

    def is_paused(self, run_id: str) -> bool:
        """Whether this run's items are passed over."""
        return run_id in self._paused

    def drop(self, run_id: str) -> None:
        """Forget a run and all its items."""
        self._paused.discard(run_id)
        for lane, turns in self._turns.items():
            heap = self._heaps.pop((lane, run_id), None)
            if heap is not None:
                turns.remove(run_id)
                for _, ticket, _ in heap:
                    self._waiting.pop(ticket, None)
