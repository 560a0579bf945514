"""Many items, and one answer made of all of them: outputs are brought together some at a time, level by level.

For work whose aggregation matters as much as its parts: no reducer is ever given more than `arity` outputs, and those
of one level run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Task, work_of
from epsilon_lab.arguments import whole
from epsilon_lab.messages.tasks import Retry
from epsilon_lab.topologies.itemised import Itemised
from epsilon_lab.topologies.levels import by_arity


class MapReduce(Itemised):
    """Do the same with every item, and bring the outputs together, in groups of groups.

    `run.output` is what the last reducer gave, `run.results()` are the outputs of the items, in order. The task of an
    item is `item-<place>`, that of a group `reduce-l<level>-n<place>`. An item that fails for good is left out and
    said: in `run.failures`, and in `run.reason`. The run fails when there is nothing left to reduce, when the last
    reducer fails, or when the quorum cannot be met.

    Args:
        items: Anything picklable; read once, when the run is started, so a generator will do.
        map: `map(item) -> output`: a function, plain or async, also one defined in a cell; its name, as
            `module:function` or `file.py:function`; an `LLM`, whose items are prompts; an `Agent`; a `Command`.
        reduce: `reduce(outputs) -> output`, where `outputs` is a list in the order of the items, of what `map` or
            `reduce` itself gave: it must not matter how the outputs are grouped (`epsilon_lab.reducers` has some
            of which that is tested). Every output goes through it, so a single item is reduced once. The same kinds of
            things will do.
        arity: Most outputs that are reduced at once. Groups of a level are as even as can be.
        quorum: Share of the items, 0 to 1, that must be in the last output; at least one.
        retries: How often a task that failed is tried again; or a `Retry`.
        time_limit_s: Seconds one attempt may take; None for no limit.

    Raises:
        InvalidInput: An argument has a wrong type or value, or a function cannot travel.
    """

    topology = "map_reduce"
    kind = "MapReduce"

    def __init__(
        self,
        items: Iterable[Any],
        map: Task,  # noqa: A002 - the word for it
        reduce: Task,
        *,
        arity: int = 8,
        quorum: float = 0.0,
        retries: int | Retry = 0,
        time_limit_s: float | None = None,
    ) -> None:
        self.arity = whole("MapReduce arity", arity, least=2)
        super().__init__(
            items,
            work_of("MapReduce map", map),
            work_of("MapReduce reduce", reduce, form="outputs"),
            takes_texts=isinstance(map, LLM),
            quorum=quorum,
            retries=retries,
            time_limit_s=time_limit_s,
        )

    def groups(self, items: int) -> tuple[int, ...]:
        """As many as hold `arity` each, until one is left."""
        return by_arity(items, self.arity)

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return super().config() | {"arity": self.arity}
