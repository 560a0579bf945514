"""What tasks do in a made-up world: each a small fate, drawn before it begins, so that its rightful end is known."""

from __future__ import annotations

from random import Random
from typing import Literal, NamedTuple

from epsilon_lab.messages.tasks import Lane, Retry, TaskSpec
from epsilon_lab.messages.values import pack

Fate = Literal["works", "raises", "kills", "hangs", "asks"]


class Work(NamedTuple):
    """One task, and what happens when it is executed."""

    spec: TaskSpec
    fate: Fate
    """`works`; `raises` in its first `bad` attempts, in all of them if those are more than it is given; `kills` its
    process; `hangs`, in the same, until its time limit; `asks` a model, which the budget must admit."""

    seconds: float
    bad: int = 0

    @property
    def end(self) -> str:
        """The status it must come to if no fault hits it."""
        if self.fate == "kills":
            return "dead"
        return "failed" if self.bad > _tries(self.spec) else "completed"


def draw_work(dice: Random, count: int) -> list[Work]:
    """Draw so many tasks; most work."""
    return [_draw(dice, f"t{number}") for number in range(count)]


def _draw(dice: Random, task_id: str) -> Work:
    fates: list[Fate] = ["works", "works", "works", "works", "raises", "kills", "hangs", "asks"]
    fate = dice.choice(fates)
    bad = dice.randint(1, 2) if fate in ("raises", "hangs") else 0
    lane: Lane = "async" if fate == "asks" or (fate in ("works", "raises") and dice.random() < 0.2) else "process"
    spec = TaskSpec(
        task_id=task_id,
        kind=dice.choice(("k1", "k2")),
        lane=lane,
        entry="simulated",
        payload=pack(task_id),
        priority=dice.choice((0, 0, 1)),
        retry=Retry(limit=limit, base_s=dice.choice((0.0, 1.0))) if (limit := dice.randint(0, 2)) else None,
        delay_s=dice.choice((0.0, 0.0, 0.0, 0.0, 2.0)),
        finish_within_s=dice.choice((None,) * 9 + (15.0,)),
        time_limit_s=2.0 if fate == "hangs" else None,
        prefetch=dice.random() < 0.9,
    )
    seconds = dice.choice((0.0, 0.001, 0.02, 0.3, 3.0 if spec.time_limit_s is None else 0.3))
    return Work(spec, fate, seconds, bad)


def _tries(spec: TaskSpec) -> int:
    return 0 if spec.retry is None else spec.retry.limit
