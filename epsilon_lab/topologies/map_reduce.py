"""Many items, and one answer made of all of them: outputs are brought together some at a time, level by level.

For work whose aggregation matters as much as its parts: no reducer is ever given more than `arity` outputs, and those
of one level run side by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer, Task, work_of
from epsilon_lab.arguments import whole
from epsilon_lab.messages.tasks import Retry
from epsilon_lab.topologies.itemised import Itemised
from epsilon_lab.topologies.levels import by_arity
from epsilon_lab.topologies.reduction_manifest import MapReduceFields, ReductionManifest


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
        instructions: What is to be done with an item, in words for a model, an agent or a program.
        reduce_instructions: The same for outputs.
        quorum: Share of the items, 0 to 1, that must be in the last output; at least one.
        retries: How often a task that failed is tried again; or a `Retry`.
        time_limit_s: Seconds one attempt may take; None for no limit.
        qa: Looks at the last reducer's output, `qa({its task: output})`, as it does for `Dag`. What it finds goes back
            to the items and reducers that it names in `node`, or else to the last reducer. They are told in
            `current_task().feedback`, and what is made of them is made again.
        fix_waves: As for `Dag`.
        assign: As for `Dag`.

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
        instructions: str = "",
        reduce_instructions: str = "",
        quorum: float = 0.0,
        retries: int | Retry = 0,
        time_limit_s: float | None = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
    ) -> None:
        self.arity = whole("MapReduce arity", arity, least=2)
        super().__init__(
            items,
            work_of("MapReduce map", map),
            work_of("MapReduce reduce", reduce, form="outputs"),
            takes_texts=isinstance(map, LLM),
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
    ) -> MapReduce:
        """Read one from a manifest: a JSON document with Epsilon's fields.

        `items`: what to map, each with `id` (taken once; letters, digits, `.`, `_`, `-`), and as wanted `input_ref` (a
        file), `input_text`, `payload` (an object), `output_ref` (a file below `output_root`; by default
        `maps/<id>.json` there). They may be very many: they are read one by one, and only their ids are held meanwhile.

        `output_root`: where outputs are put besides the run directory: a text as it is, all else as JSON. Those of
        reducers are `reduce/level-<level>/<task>.json`, the last one is `final-summary.json` too.

        `map_task_template`: what to do with an item, with the placeholders `{item_id}`, `{input_ref}`, `{input_text}`
        (the item's, or else what is in its `input_ref`), `{output_ref}`, `{payload_json}`, `{task_type}` and
        `{payload_<name>}` for a number or text of the payload.

        `reduce_task_template`: what a reducer is to do, with the placeholders `{reduce_label}` (its
        task), `{shard_id}`, `{output_ref}`, `{child_count}`, `{child_output_refs_json}`, `{child_output_refs_text}` (a
        line each), `{task_type}`, and `{payload_json}` and `{payload_<name>}` of `reduce_payload`.

        `map_executor`, `reduce_executor`: `agent` (the default): `model` is asked, with the filled template; a reducer
        is given its children's outputs too. `python_handler`: `map_payload.handler` and `reduce_payload.handler` name
        functions, `module:function` or `file.py:function`, which are called in a child process with `task_id`,
        `task_payload` and `task_root` (the manifest's directory); their output is what they return, plain data. The
        payload of an item has its fields, `instructions` and `map_payload`; that of a reducer `reduce_label`,
        `child_output_refs`, `child_outputs`, `child_count`, `output_ref`, `instructions` and `reduce_payload`.
        `local_reduce`: counts the words of `input_text` and keeps the first 24; adds up such counts and keeps the first
        16 summaries. `direct_wiki` needs the network and is refused.

        `reduce_arity`: as `arity` above. `task_type`: a word for templates. All paths are below the manifest's
        directory. The task of an item is `item-<place>-<id>`.

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
        manifest = ReductionManifest(path, MapReduceFields, topology="MapReduce", model=model)
        made = cls(
            (),
            manifest.map,
            cast("Task", manifest.reduce),  # it has a template, or it would not have been read
            arity=manifest.values.reduce_arity,
            quorum=quorum,
            retries=retries,
            time_limit_s=time_limit_s,
        )
        return made._take(manifest)

    def groups(self, items: int) -> tuple[int, ...]:
        """As many as hold `arity` each, until one is left."""
        return by_arity(items, self.arity)

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return super().config() | {"arity": self.arity}
