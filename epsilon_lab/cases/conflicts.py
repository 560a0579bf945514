"""Pairs that are said to be the same, and pairs that are said to differ: where the two contradict each other.

Pure. If A is B and B is C, then A is C; who says that A and C differ contradicts that chain. What is the same forms
groups, kept as in a union-find by relabelling the smaller one: a verdict that joins two groups costs the smaller one,
one that tells what differs nothing. Verdicts are taken back too, which a union-find proper cannot do: then the one
group is formed anew.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from epsilon_lab.cases.case import DIFFERENT, SAME


class Step(NamedTuple):
    """A pair on the way from one thing to another."""

    case_id: str
    left: str
    right: str


class Comparisons:
    """What was said about pairs, by case; things go by their names."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str, str]] = {}
        self._same: dict[str, dict[str, str]] = {}
        """Thing -> case -> the other thing."""

        self._different: dict[str, dict[str, str]] = {}
        self._groups: dict[str, set[str]] = {}
        """Thing -> all that are the same; a thing that is like no other has no entry."""

    def put(self, case_id: str, left: str, right: str, verdict: str | None) -> list[str]:
        """Take in what is said about a pair from now on: `same`, `different`, or nothing that bears on others.

        Returns:
            Cases whose pairs are said to differ and may be contradicted since.
        """
        if (old := self._said.pop(case_id, None)) is not None:
            self._forget(case_id, *old)
        if verdict not in (SAME, DIFFERENT):
            return []
        self._said[case_id] = (left, right, verdict)
        sides = self._same if verdict == SAME else self._different
        sides.setdefault(left, {})[case_id] = right
        sides.setdefault(right, {})[case_id] = left
        return self._join(left, right) if verdict == SAME else [case_id]

    def chain(self, case_id: str) -> list[Step]:
        """The shortest way from one side to the other of a pair that is said to differ, by pairs that are said to be
        the same, of several the one said first; empty where there is none, and nothing contradicts it.
        """
        left, right, verdict = self._said.get(case_id, ("", "", ""))
        if verdict != DIFFERENT or right not in self._groups.get(left, ()):
            return []
        reached: dict[str, Step | None] = {left: None}
        ahead = deque([left])
        while right not in reached:
            here = ahead.popleft()
            for via, there in self._same[here].items():
                if there not in reached:
                    reached[there] = Step(via, here, there)
                    ahead.append(there)
        way: list[Step] = []
        here = right
        while (step := reached[here]) is not None:
            way.append(step)
            here = step.left
        return way[::-1]

    def _join(self, left: str, right: str) -> list[str]:
        small, large = sorted((self._groups.get(each, {each}) for each in (left, right)), key=len)
        if small is large:
            return []
        doubtful = [
            case_id for each in small for case_id, other in self._different.get(each, {}).items() if other in large
        ]
        large |= small
        self._groups.update(dict.fromkeys((*small, left, right), large))
        return doubtful

    def _forget(self, case_id: str, left: str, right: str, verdict: str) -> None:
        sides = self._same if verdict == SAME else self._different
        for each in (left, right):
            del sides[each][case_id]
            if not sides[each]:
                del sides[each]
        if verdict == SAME:
            for each in (left, right):
                group = self._reach(each)
                for member in group:
                    self._groups[member] = group
                if len(group) == 1:
                    del self._groups[each]
                if left in group and right in group:
                    return

    def _reach(self, thing: str) -> set[str]:
        found, ahead = {thing}, [thing]
        while ahead:
            for other in self._same.get(ahead.pop(), {}).values():
                if other not in found:
                    found.add(other)
                    ahead.append(other)
        return found
