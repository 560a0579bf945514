"""What topologies over very many items share: their arguments, and how a run of them is laid out.

The items are read once, when the run is started, and written to its directory as they come; nobody holds a copy of them
all. So an item that cannot travel is refused by `lab.start`, before anything is spent, and leaves nothing behind.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, ClassVar, Self

import msgspec

from epsilon_lab.agents.work import Task, Work
from epsilon_lab.arguments import above_zero, number, text, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import Body, TaskLine, task_line
from epsilon_lab.messages.tasks import Retry, TaskSpec
from epsilon_lab.messages.values import Value, as_json, pack
from epsilon_lab.topologies.manifest import make_root
from epsilon_lab.topologies.output_layout import NAMES, Names
from epsilon_lab.topologies.plan import Plan, read_rules, save_rules
from epsilon_lab.topologies.quality import Inspection
from epsilon_lab.topologies.reduction import ReductionPlan, ReductionRules, reduction_plan
from epsilon_lab.topologies.reduction_manifest import ReductionManifest
from epsilon_lab.workspace.items import ITEMS, save_items
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory, needing_room


class Itemised:
    """A topology over items."""

    topology: ClassVar[str]
    kind: ClassVar[str]
    """Its name, as messages call it."""

    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        items: Iterable[Any],
        work: Work,
        reducer: Work | None,
        *,
        takes_texts: bool,
        instructions: tuple[str, str],
        quorum: float,
        retries: int | Retry,
        time_limit_s: float | None,
        qa: Task | None,
        fix_waves: int,
        assign: Task | None,
    ) -> None:
        if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
            raise InvalidInput(f"{self.kind} items", f"must be an iterable of items, got {type(items).__name__}")
        if not isinstance(retries, Retry):
            retries = Retry(limit=whole(f"{self.kind} retries", retries, least=0))
        self.items: Iterable[Any] | None = items
        self.quorum = number(f"{self.kind} quorum", quorum, least=0, most=1)
        self.retry = retries
        self.time_limit_s = above_zero(f"{self.kind} time_limit_s", time_limit_s)
        self._work, self._reducer = work, reducer
        self._takes_texts = takes_texts
        self._instructions = {
            kind: text(f"{self.kind} {name}", each, blank=True)
            for kind, name, each in zip(
                ("item", "reduce"), ("instructions", "reduce_instructions"), instructions, strict=True
            )
        }
        self._qa = Inspection.of(self.kind, qa, assign, fix_waves)
        self._title = work.name
        self._count = len(items) if isinstance(items, Sized) else None
        self._manifest: ReductionManifest[Any] | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self._title}: {'?' if self._count is None else self._count} items>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def title(self) -> str:
        """What is done with the items, in a word."""
        return self._title

    def _take(self, manifest: ReductionManifest[Any]) -> Self:
        """Take the items from a manifest, once all of them have been looked at.

        Raises:
            InvalidInput: Naming the place in the document.
        """
        self._manifest, self._count, self._title = manifest, manifest.count, manifest.path.stem
        for _ in manifest.filled(self.shard_count(manifest.count)):
            pass
        return self

    def groups(self, items: int) -> tuple[int, ...]:
        """How many groups each level has above so many items."""
        raise NotImplementedError

    def shard_count(self, items: int) -> int | None:  # noqa: ARG002
        """How many shards so many items are in; None where there is no such thing."""
        return None

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "items": self._count,
            "map": self._work.name,
            "reduce": None if self._reducer is None else self._reducer.name,
            "quorum": self.quorum,
            "retries": self.retry.limit,
            "time_limit_s": self.time_limit_s,
            **(self._qa.config() if self._qa else {}),
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what cannot be done, such as to ask a model whose key is missing, before anything is spent.

        Raises:
            InvalidInput: A key is missing, a model's name is not one, or its price is unknown.
        """
        for work in self._works():
            work.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write the functions, the items and the rules into the run directory.

        Raises:
            InvalidInput: An item cannot travel, or the items were an iterator that is used up.
            DiskFull: There is no room for them.
        """
        events: list[Body] = [work.save(run) for work in self._works()]
        names = bytearray()
        with needing_room(ITEMS):
            self._count, files = save_items(run, self._values(names))
        if names:
            files.append(run.save(NAMES, bytes(names), kind="plan"))
        if self._manifest is not None:
            make_root(self._manifest.layout.root)
        rules = ReductionRules(
            items=self._count,
            groups=self.groups(self._count) if self._count else (),
            is_sharded=self.topology == "sharded_queue",
            quorum=self.quorum,
            map=self._line(self._work, "item"),
            reduce=None if self._reducer is None else self._line(self._reducer, "reduce"),
            layout=None if self._manifest is None else self._manifest.layout,
            asks=tuple(work.code_ref for work in (self._work, self._reducer) if work and work.checked is not None),
            quality=None if self._qa is None else self._qa.rules(),
        )
        return reduction_plan(rules, Names(bytes(names)) if names else None), [*events, *files, save_rules(rules, run)]

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Make the rules again, from the run directory alone.

        Raises:
            LabError: They are not there, or cannot be read.
        """
        return reduction_plan(*_kept(run))

    @staticmethod
    def item_ids(run: RunDirectory) -> Iterable[str]:
        """What the tasks of a run's items are called, or would be, in order.

        Raises:
            LabError: Its rules are not there, or cannot be read.
        """
        return ReductionPlan(*_kept(run)).item_names()

    def _works(self) -> list[Work]:
        return [self._work, *([self._reducer] if self._reducer else ()), *(self._qa.works if self._qa else ())]

    def _values(self, names: bytearray) -> Iterator[Value]:
        """The items, packed one by one; a manifest's give their names too."""
        if self._manifest is not None:
            for entry in self._manifest.filled(self.shard_count(self._manifest.count)):
                names += msgspec.json.encode((entry.id, entry.output_ref)) + b"\n"
                yield pack(entry.value)
            return
        if self.items is None:
            raise InvalidInput(f"{self.kind} items", "were an iterator, and another run has used it up", "give a list")
        items = iter(self.items)
        if items is self.items:
            self.items = None
        for place, item in enumerate(items):
            if self._takes_texts:
                text(f"{self.kind} item {place}", item)
            try:
                yield pack(item)
            except InvalidInput as error:
                raise InvalidInput(f"{self.kind} item {place}", str(error)) from error

    def _line(self, work: Work, kind: str) -> TaskLine:
        """What the tasks of a kind have in common."""
        call = Call(code=work.sha256, form=work.form, instructions=self._instructions[kind])
        return task_line(
            TaskSpec(
                task_id="",
                kind=kind,
                lane=work.lane,
                entry=work.entry,
                payload=Value("json", b"null") if work.is_light else as_json(call),
                retry=self.retry if self.retry.limit else None,
                time_limit_s=self.time_limit_s or work.time_limit_s,
            )
        )


def _kept(run: RunDirectory) -> tuple[ReductionRules, Names | None]:
    rules = read_rules(run, ReductionRules)
    return rules, None if rules.layout is None else Names(run.read_bytes(NAMES))
