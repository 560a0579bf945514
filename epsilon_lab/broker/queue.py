"""What is ready to run, and whose turn it is.

Within a run: the smaller rank first, then the older ticket. A rank never changes while an item waits, so an item is put
in once and never moved: priority that grows with waiting, `priority + aging * (now - submitted)`, orders as the
constant `aging * submitted - priority` does. What comes back takes its old place, so it is not punished for a worker
that died.

Between runs: stride scheduling (C. Waldspurger and W. Weihl, "Stride Scheduling", MIT/LCS/TM-528, 1995). Each run is
charged 1 / weight a turn, and whoever was charged least is next; so a run of ten thousand items does not starve a run
of ten, and one of weight 2 gets twice the turns. A run that had nothing ready comes back at the charge of the moment:
it cannot save up turns. Pure.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_Entry = tuple[float, int, Item]
"""Rank, ticket, item."""


class _Line(Generic[Item]):
    """The ready items of one run and lane. Nearly all come in their order, and need no heap."""

    __slots__ = ("_heap", "_sorted", "charged", "is_listed", "run_id", "weight")

    def __init__(self, run_id: str, weight: float) -> None:
        self.run_id = run_id
        self.weight = weight
        self.charged = 0.0
        self.is_listed = False
        self._sorted: deque[_Entry[Item]] = deque()
        self._heap: list[_Entry[Item]] = []

    def __iter__(self) -> Iterator[_Entry[Item]]:
        yield from self._sorted
        yield from self._heap

    def push(self, entry: _Entry[Item]) -> None:
        if not self._sorted or self._sorted[-1] < entry:
            self._sorted.append(entry)
        else:
            heapq.heappush(self._heap, entry)

    def first(self) -> _Entry[Item] | None:
        """The smallest entry, discarded ones too."""
        ahead, heap = self._sorted, self._heap
        if heap and not (ahead and ahead[0] < heap[0]):
            return heap[0]
        return ahead[0] if ahead else None

    def pop(self) -> _Entry[Item]:
        """Take the smallest entry."""
        ahead, heap = self._sorted, self._heap
        if heap and not (ahead and ahead[0] < heap[0]):
            return heapq.heappop(heap)
        return ahead.popleft()

    def clear(self) -> None:
        self._sorted.clear()
        self._heap.clear()


class _Lane(Generic[Item]):
    """The lines of one lane, and those of them that have a turn coming."""

    __slots__ = ("charge", "lines", "turns", "waiting")

    def __init__(self) -> None:
        self.lines: dict[str, _Line[Item]] = {}
        self.turns: list[tuple[float, int, _Line[Item]]] = []
        self.charge = 0.0
        self.waiting = 0


class ReadyQueue(Generic[Item]):
    """Ready items by lane and run. A ticket, unique and growing, names an item."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[Item]] = {}
        self._waiting: dict[int, _Entry[Item]] = {}
        self._weights: dict[str, float] = {}
        self._paused: set[str] = set()
        self._entries = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self, lane: str) -> int:
        """How many items of a lane are ready, those of paused runs too."""
        return self._lanes[lane].waiting if lane in self._lanes else 0

    def push(self, item: Item, *, lane: str, run_id: str, rank: float, ticket: int) -> None:
        """Add an item, or put one back that was popped."""
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane()
        line = found.lines.get(run_id)
        if line is None:
            line = found.lines[run_id] = _Line(run_id, self._weights.get(run_id, 1.0))
        entry = self._waiting[ticket] = (rank, ticket, item)
        line.push(entry)
        found.waiting += 1
        if not line.is_listed:
            self._list(found, line)

    def peek(self, lane: str) -> Item | None:
        """Look at the lane's next item; None where nothing is ready."""
        found = self._lanes.get(lane)
        return None if found is None else self._front(found)

    def _front(self, lane: _Lane[Item]) -> Item | None:
        turns = lane.turns
        while turns:
            line = turns[0][2]
            while (entry := line.first()) is not None and self._waiting.get(entry[1]) is not entry:
                line.pop()  # it was discarded, or put elsewhere
            if entry is not None and line.run_id not in self._paused:
                return entry[2]
            heapq.heappop(turns)
            line.is_listed = False
        return None

    def pop(self, lane: str) -> Item:
        """Take the item that `peek` has just shown, and charge its run for the turn."""
        found = self._lanes[lane]
        line = found.turns[0][2]
        _, ticket, item = line.pop()
        del self._waiting[ticket]
        found.waiting -= 1
        found.charge = line.charged
        line.charged += 1.0 / line.weight
        self._entries += 1
        turn = (line.charged, self._entries, line)
        if len(found.turns) > 1:
            heapq.heapreplace(found.turns, turn)
        else:
            found.turns[0] = turn
        return item

    def discard(self, ticket: int, *, lane: str) -> bool:
        """Forget an item; False where it was not waiting."""
        if self._waiting.pop(ticket, None) is None:
            return False
        self._lanes[lane].waiting -= 1
        return True

    def weigh(self, run_id: str, weight: float) -> None:
        """Give a run so many turns for one of a run of weight 1."""
        self._weights[run_id] = weight
        for lane in self._lanes.values():
            if run_id in lane.lines:
                lane.lines[run_id].weight = weight

    def pause(self, run_id: str) -> None:
        """Pass over this run's items."""
        self._paused.add(run_id)

    def resume(self, run_id: str) -> None:
        """Stop passing over this run's items."""
        self._paused.discard(run_id)
        for lane in self._lanes.values():
            line = lane.lines.get(run_id)
            if line is not None and line.first() is not None and not line.is_listed:
                self._list(lane, line)

    def is_paused(self, run_id: str) -> bool:
        """Whether this run's items are passed over."""
        return run_id in self._paused

    def drop(self, run_id: str) -> None:
        """Forget a run and all its items."""
        self._paused.discard(run_id)
        self._weights.pop(run_id, None)
        for lane in self._lanes.values():
            line = lane.lines.pop(run_id, None)
            if line is not None:
                for entry in line:
                    if self._waiting.get(entry[1]) is entry:
                        del self._waiting[entry[1]]
                        lane.waiting -= 1
                line.clear()

    def _list(self, lane: _Lane[Item], line: _Line[Item]) -> None:
        line.charged = max(line.charged, lane.charge)
        line.is_listed = True
        self._entries += 1
        heapq.heappush(lane.turns, (line.charged, self._entries, line))
