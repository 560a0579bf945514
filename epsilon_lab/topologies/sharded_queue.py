"""Very many items that know nothing of each other, reduced in two steps: each shard for itself, then the shards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer, Task, work_of
from epsilon_lab.arguments import whole
from epsilon_lab.messages.tasks import Retry
from epsilon_lab.topologies.itemised import Itemised
from epsilon_lab.topologies.levels import by_shards
from epsilon_lab.topologies.reduction_manifest import ReductionManifest, ShardedFields


class ShardedQueue(Itemised):
    """Do the same with every item of a very long list, and bring the outputs together shard by shard.

    A shard is a run of neighbours. `run.output` is what the last reducer gave; without one, the outputs in order, as
    `run.results()` gives them. The task of an item is `item-<place>`, that of a shard `reduce-shard-<place>`, the last
    one is `reduce-final`. An item that fails for good is left out and said: in `run.failures`, and in `run.reason`. The
    run fails when no item has an output, when the last reducer fails, or when the quorum cannot be met.

    Args:
        items: Anything picklable; read once, when the run is started, so a generator will do.
        task: `task(item) -> output`: a function, plain or async, also one defined in a cell; its name, as
            `module:function` or `file.py:function`; an `LLM`, whose items are prompts; an `Agent`; a `Command`.
        shards: How many there are, of the same length but for one item.
        reduce: `reduce(outputs) -> output`, where `outputs` is a list in the order of the items: those of a shard, and
            at last what `reduce` itself gave for the shards. So it must not matter how the outputs are grouped
            (`epsilon_lab.reducers` has some of which that is tested). None: nothing is reduced.
        instructions: What is to be done with an item, in words for a model, an agent or a program.
        reduce_instructions: The same for outputs.
        quorum: Share of the items, 0 to 1, that must be in the last output; at least one.
        retries: How often a task that failed is tried again; or a `Retry`.
        time_limit_s: Seconds one attempt may take; None for no limit.
        qa: Looks at the last reducer's output, `qa({its task: output})`, or without one at those of all items, which
            are held in memory then; else as for `Dag`. What it finds goes back to the items and reducers that it names
            in `node`, or else to the last reducer or all items. They are told in `current_task().feedback`, and what is
            made of them is made again.
        fix_waves: As for `Dag`.
        assign: As for `Dag`.

    Raises:
        InvalidInput: An argument has a wrong type or value, or a function cannot travel.
    """

    topology = "sharded_queue"
    kind = "ShardedQueue"

    def __init__(
        self,
        items: Iterable[Any],
        task: Task,
        *,
        shards: int = 8,
        reduce: Task | None = None,
        instructions: str = "",
        reduce_instructions: str = "",
        quorum: float = 0.0,
        retries: int | Retry = 0,
        time_limit_s: float | None = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
    ) -> None:
        self.shards = whole("ShardedQueue shards", shards, least=1, most=10_000)
        super().__init__(
            items,
            work_of("ShardedQueue task", task),
            None if reduce is None else work_of("ShardedQueue reduce", reduce, form="outputs"),
            takes_texts=isinstance(task, LLM),
            instructions=(instructions, reduce_instructions),
            quorum=quorum,
            retries=retries,
            time_limit_s=time_limit_s,
            qa=qa,
            fix_waves=fix_waves,
            assign=assign,
        )

    @classmethod
    def from_manifest(
        cls,
        path: str | Path,
        *,
        model: LLM | Performer | None = None,
        quorum: float = 0.0,
        retries: int | Retry = 1,
        time_limit_s: float | None = None,
    ) -> ShardedQueue:
        """Read one from a manifest: a JSON document with Epsilon's fields, as `MapReduce.from_manifest` says, but for:

        `shard_count`: as `shards` above, in the place of `reduce_arity`. `{shard_id}`, `shard-<place>`, is the shard of
        an item, in `map_task_template` too. `reduce_task_template`: may be left out; without it and the other two
        fields of reducers nothing is reduced. Outputs of shards are `shards/<task>.json` below `output_root`, the last
        one is `final-summary.json`.

        Args:
            path: The manifest.
            model: Who answers where an executor is `agent`: an `LLM`, an `Agent` or a `Command`.
            quorum: As above.
            retries: How often a task that failed is tried again; Epsilon's own is 1.
            time_limit_s: Seconds one attempt may take; None for no limit.

        Raises:
            InvalidInput: Naming the place in the document, such as `$.items[3].id`. Nothing has run by then, but the
                top level of a handler's module.
        """
        manifest = ReductionManifest(path, ShardedFields, topology="ShardedQueue", model=model)
        made = cls(
            (),
            manifest.map,
            shards=manifest.values.shard_count,
            reduce=manifest.reduce,
            quorum=quorum,
            retries=retries,
            time_limit_s=time_limit_s,
        )
        return made._take(manifest)

    def groups(self, items: int) -> tuple[int, ...]:
        """The shards, and one group of them; none where nothing is reduced."""
        return () if self._reducer is None else by_shards(items, self.shards)

    def shard_count(self, items: int) -> int:
        """As many as were asked for, as far as there are items."""
        return max(1, min(self.shards, items))

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return super().config() | {"shards": self.shards}
