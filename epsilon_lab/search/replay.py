"""Recorded proposals, played again: a search repeated without a model, or a report that it is no longer the same one.

What is played belongs to a candidate, a call and a question. The question is asked again by the code of today and
compared by hash with the recorded one; where they differ the reply would be an answer to something else, so that is an
error, never a guess. A model's question is its prompt; a function's is its whole context. A proposal that failed in the
recording fails again with the same words; one that took two calls takes two again.
"""

from __future__ import annotations

import html
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.prompt import Prompt, prompt_text
from epsilon_lab.agents.reply import Exchange, Receipt, Reply, read_receipt
from epsilon_lab.errors import InvalidInput, LeafFailed, ProposalFailed, ReplayMismatch
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.events import CandidateSettled, LlmCall
from epsilon_lab.messages.values import is_text
from epsilon_lab.search.context import Context
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A program, and what it was made from."""

    source: Any
    """A str; anything else is refused where proposals are checked."""

    prompt_ref: str | None = None
    reply_ref: str | None = None
    prompt_sha256: str | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What one call gave: a model's reply, a function's program, or a failure."""

    reply: str | None = None
    source: str | None = None
    error: str = ""
    question: str | None = None
    """SHA-256 of the prompt or context; None where it was not recorded."""

    model: str = "replay"
    finish_reason: str = "stop"


class Replay:
    """A proposer that plays a recording.

    Args:
        source: A run directory; or a run, past or live; or a mapping of candidate id -> reply (or replies, one a call),
            which has no prompts to compare.

    Raises:
        InvalidInput: The source is none of these, or holds no proposals.
    """

    def __init__(self, source: Any) -> None:
        self._directory: str | None = None
        if isinstance(source, Mapping):
            self._records = {str(name): _written(name, replies) for name, replies in source.items()}
            self._failures = dict.fromkeys(self._records, "no further reply is written down")
            self.name = "replay"
        else:
            path = getattr(source, "path", source)
            if not isinstance(path, str | os.PathLike):
                raise InvalidInput(
                    "Replay source", f"must be a run, a run directory or a dict of replies, got {source!r}"
                )
            run = RunDirectory(Path(path).absolute())
            if not run.journal.is_file():
                raise InvalidInput("Replay source", f"{str(run.path)!r} is not a run directory: it has no journal")
            self._directory = str(run.path)
            self._records, self._failures = _recorded(run)
            self.name = f"replay of {run.run_id}"
        if not self._records:
            raise InvalidInput("Replay source", "holds no proposals", "give a population search that has made some")

    def __repr__(self) -> str:
        return f"<Replay: {self.name}, {len(self._records)} answers>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def __len__(self) -> int:
        return len(self._records)

    def recall(self, context: Context) -> Proposal | None:
        """Give the program recorded for a candidate; None where replies are recorded, which are played by `complete`.

        Raises:
            ReplayMismatch: Nothing is recorded for the candidate, or it was shown something else.
            ProposalFailed: The recorded proposal failed, in the words it failed with then.
        """
        name = context.candidate_id
        recorded = self._find(name, 0)
        if recorded.reply is not None:
            return None
        if recorded.question not in (None, context.digest):
            raise ReplayMismatch(
                f"replay: candidate {name} is shown something else than in {self.name}: now {context.strategy} of "
                f"{', '.join(one.candidate_id for one in context.parents) or 'no parent'}, best "
                f"{context.best.candidate_id}, seed {context.seed}; {_REMEDY}"
            )
        if recorded.source is None:
            raise ProposalFailed(recorded.error)
        return Proposal(source=recorded.source, prompt_sha256=context.digest)

    async def complete(
        self, prompt: Prompt, *, leaf: Leaf, name: str, call: int = 0, candidate_id: str | None = None
    ) -> Reply:
        """Answer a prompt as the model did, files and row included, so that the copy can be played again.

        Args:
            prompt: The prompt as it is now.
            leaf: The running task.
            name: Whose question it is: a candidate's id, or a brief's task.
            call: 0 for the name's first question.
            candidate_id: The candidate it is asked for, if any.

        Raises:
            ReplayMismatch: Nothing is recorded under the name, or it is the answer to another prompt.
            LeafFailed: The recorded call failed, in the words it failed with then.
        """
        recorded = self._find(name, call)
        exchange = Exchange.of(prompt, name=name, call=call, candidate_id=candidate_id)
        if recorded.question not in (None, exchange.sha256):
            raise ReplayMismatch(
                f"replay: prompt {call} of {name} is not the recorded one: {self._difference(exchange)}; {_REMEDY}"
            )
        if recorded.reply is None:
            raise LeafFailed(recorded.error)
        exchange.save_prompt(leaf)
        receipt = Receipt(
            text=recorded.reply,
            model=recorded.model,
            prompt_sha256=exchange.sha256,
            finish_reason=recorded.finish_reason,
        ).again()
        reply = exchange.save_reply(leaf, receipt)
        leaf.emit(exchange.answered(leaf, receipt, outcome="cached", cached=True))
        return reply

    def check_end(self, name: str, call: int) -> None:
        """Refuse to stop before the recording does.

        Args:
            name: Whose question it was.
            call: The last one that was asked.

        Raises:
            ReplayMismatch: The recording has a further call.
        """
        if len(self._records[name]) > call + 1:
            raise ReplayMismatch(
                f"replay: {len(self._records[name])} calls are recorded for {name}, but {call + 1} made; {_REMEDY}"
            )

    def _find(self, name: str, call: int) -> Recorded:
        calls = self._records.get(name, ())
        if call < len(calls):
            return calls[call]
        if calls and name in self._failures:
            return Recorded(error=self._failures[name])
        raise ReplayMismatch(f"replay: nothing is recorded for {name}, call {call}, in {self!r}; {_REMEDY}")

    def _difference(self, exchange: Exchange) -> str:
        """Say where two prompts part, as long as the recording is still there."""
        recording = RunDirectory(self._directory or "")
        if self._directory is None or not recording.exists(exchange.prompt_ref):
            return "their hashes differ"
        then = recording.read_text(exchange.prompt_ref).splitlines()
        now = prompt_text(exchange.prompt).splitlines()
        for number, (before, after) in enumerate(itertools.zip_longest(then, now), 1):
            if before != after:
                return f"line {number} was {_shortened(before)} and is {_shortened(after)}"
        return "their hashes differ"


_REMEDY = "a recording fits the problem, settings, seed and version it was made with"


def _shortened(line: str | None) -> str:
    if line is None:
        return "missing"
    return repr(line if len(line) <= 80 else f"{line[:80]}…")


def _written(name: object, replies: object) -> tuple[Recorded, ...]:
    texts = [replies] if isinstance(replies, str) else replies
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidInput(f"Replay source[{name!r}]", f"must be a reply or a list of replies, got {replies!r}")
    if not all(map(is_text, texts)):
        raise InvalidInput(f"Replay source[{name!r}]", "holds a reply that cannot be encoded as UTF-8")
    return tuple(Recorded(reply=text) for text in texts)


def _recorded(run: RunDirectory) -> tuple[dict[str, tuple[Recorded, ...]], dict[str, str]]:
    """Read a run's proposals, and the calls its briefs were made with, from its journal and files.

    The second part says how candidates failed, for those that were cut off before their second call.
    """
    calls: dict[str, dict[int, Recorded]] = {}
    rows: dict[str, CandidateSettled] = {}
    for record in read_journal(run.journal).records:
        if record.type == "stage.candidate":
            row = msgspec.json.decode(record.body, type=CandidateSettled)
            rows[row.candidate_id] = row
        elif record.type == "usage.llm_call":
            call = msgspec.json.decode(record.body, type=LlmCall)
            if call.outcome == "unknown":  # what came of it, if anything did, is a later line
                continue
            calls.setdefault(call.candidate_id or call.task_id, {})[call.call] = _called(run, call)
    rows.pop(SEED_CANDIDATE, None)
    played = {name: tuple(made[number] for number in sorted(made)) for name, made in calls.items()}
    failures = {}
    for name, row in rows.items():
        failed = row.outcome == "proposal_failed" or row.source_ref is None
        if failed:
            failures[name] = row.error
        if not any(call.reply is not None for call in played.get(name, ())):
            source = None if failed else run.read_text(row.source_ref or "")
            played[name] = (Recorded(source=source, error=row.error, question=None if failed else row.prompt_sha256),)
    return played, failures


def _called(run: RunDirectory, call: LlmCall) -> Recorded:
    if call.reply_ref is None:
        return Recorded(error=call.error, question=call.prompt_sha256, model=call.model)
    receipt = read_receipt(run, call.reply_ref)
    return Recorded(
        reply=run.read_text(call.reply_ref),
        question=call.prompt_sha256,
        model=call.model,
        finish_reason=receipt.finish_reason if receipt else "stop",
    )
