"""A model's reply on disk: put down before it is used, found again instead of being paid for again.

What counts is the receipt: which prompt earned the reply, why the model stopped, what it cost, and the reply itself. It
is one file, which is there as a whole or not at all, so that no moment of a crash loses a reply that was paid for. The
text beside it is a copy for people.
"""

from __future__ import annotations

import msgspec

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.prompt import Prompt, ToolCall, calls_text, prompt_sha256, prompt_text
from epsilon_lab.messages.events import Ceiling, LlmCall
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory

REPLY_ROOM = 256 * 1024
"""Bytes kept free for a reply before it is asked for: twice 32,000 tokens of four bytes."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A reply and what is known of it."""

    text: str
    model: str
    prompt_sha256: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    """Why the model stopped, in the provider's word; `length` where it ran into its token limit."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None where the price is unknown."""

    latency_s: float | None = None
    request: str = ""
    """The request it came of: its row replaces the one that says `unknown`."""

    most: Ceiling | None = None
    """What it can have come to, where the server did not count."""

    span_id: str | None = None
    """What the request's `traceparent` header called it."""

    def again(self) -> Receipt:
        """The receipt of the same reply used once more: it cost nothing, and nothing was requested."""
        return msgspec.structs.replace(
            self, prompt_tokens=0, completion_tokens=0, cost_usd=0.0, latency_s=0.0, request="", most=None, span_id=None
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answer, on disk."""

    call: int
    """The question it answers: 0 for the first of its name."""

    prompt_ref: str
    reply_ref: str
    receipt: Receipt
    cached: bool = False
    """Found on disk, not paid for again."""

    @property
    def text(self) -> str:
        """What the model said."""
        return self.receipt.text


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model: the names of its files, and its hash."""

    name: str
    """Whose question it is: a candidate's id, or a task's."""

    call: int
    """0 for the first question of that name."""

    prompt: Prompt
    sha256: str
    candidate_id: str | None
    """The candidate it is asked for, if any."""

    @classmethod
    def of(cls, prompt: Prompt, *, name: str, call: int = 0, candidate_id: str | None = None) -> Exchange:
        """Name a question."""
        return cls(name=name, call=call, prompt=prompt, sha256=prompt_sha256(prompt), candidate_id=candidate_id)

    @property
    def prompt_ref(self) -> str:
        """Where the prompt lies in the run directory."""
        return f"prompts/{self.name}-{self.call}.md"

    @property
    def reply_ref(self) -> str:
        """Where the reply lies in the run directory."""
        return f"replies/{self.name}-{self.call}.md"

    def step(self, request: str) -> tuple[str, ...]:
        """What names a request among the steps of its attempt in the run's trace."""
        return (request, str(self.call)) if self.call else (request,)

    def save_prompt(self, leaf: Leaf, *, known: int = 0) -> None:
        """Write the prompt, without as many messages as the call before it had in the same words."""
        before = f"<!-- goes on from prompts/{self.name}-{self.call - 1}.md and its reply -->\n\n" if known else ""
        leaf.save(self.prompt_ref, before + prompt_text(self.prompt[known:]), kind="prompt")

    def save_reply(self, leaf: Leaf, receipt: Receipt, *, cached: bool = False) -> Reply:
        """Write a reply: its receipt, which decides, then the copy for people, which may be missing after a crash."""
        leaf.save(receipt_ref(self.reply_ref), msgspec.json.encode(receipt), kind="receipt")
        calls = [calls_text(receipt.tool_calls)] * bool(receipt.tool_calls)
        leaf.save(self.reply_ref, "\n\n".join([receipt.text] * bool(receipt.text or not calls) + calls), kind="reply")
        return Reply(
            call=self.call, prompt_ref=self.prompt_ref, reply_ref=self.reply_ref, receipt=receipt, cached=cached
        )

    def find_receipt(self, run: RunDirectory) -> Receipt | None:
        """Find the receipt of the reply to this very prompt, if one was ever received."""
        receipt = read_receipt(run, self.reply_ref)
        return receipt if receipt is not None and receipt.prompt_sha256 == self.sha256 else None

    def answered(self, leaf: Leaf, receipt: Receipt, *, outcome: str = "ok", cached: bool = False) -> LlmCall:
        """The row of a call that has a reply."""
        return LlmCall(
            task_id=leaf.task_id,
            call=self.call,
            model=receipt.model,
            outcome=outcome,
            prompt_ref=self.prompt_ref,
            prompt_sha256=self.sha256,
            reply_ref=self.reply_ref,
            prompt_tokens=receipt.prompt_tokens,
            completion_tokens=receipt.completion_tokens,
            cost_usd=receipt.cost_usd,
            latency_s=receipt.latency_s,
            cached=cached,
            candidate_id=self.candidate_id,
            request=receipt.request,
            most=receipt.most,
            trace_id=leaf.trace_id,
            span_id=receipt.span_id,
        )

    def unanswered(
        self,
        leaf: Leaf,
        request: str,
        *,
        model: str,
        outcome: str,
        error: str,
        latency_s: float | None = None,
        most: Ceiling | None = None,
        is_free: bool = False,
    ) -> LlmCall:
        """The row of a request that has none, or none yet; one that is free cannot have been billed."""
        return LlmCall(
            task_id=leaf.task_id,
            call=self.call,
            model=model,
            outcome=outcome,
            prompt_ref=self.prompt_ref,
            prompt_sha256=self.sha256,
            latency_s=latency_s,
            candidate_id=self.candidate_id,
            error=error,
            request=request,
            most=most,
            trace_id=leaf.trace_id,
            span_id=leaf.span_id(*self.step(request)),
            prompt_tokens=0 if is_free else None,
            completion_tokens=0 if is_free else None,
            cost_usd=0.0 if is_free else None,
        )

    def is_on_record(self, leaf: Leaf) -> bool:
        """Tell whether the journal has the row of the call that the reply was paid with.

        It is looked at once for an attempt, however many replies it finds: they are all of earlier ones.
        """
        if leaf.replies_on_record is None:
            rows = (record for record in read_journal(leaf.run.journal).records if record.type == "usage.llm_call")
            calls = (msgspec.json.decode(row.body, type=LlmCall) for row in rows)
            leaf.replies_on_record = frozenset(
                (call.reply_ref, call.prompt_sha256)
                for call in calls
                if call.task_id == leaf.task_id and call.reply_ref
            )
        return (self.reply_ref, self.sha256) in leaf.replies_on_record


def receipt_ref(reply_ref: str) -> str:
    """Where a reply's receipt lies."""
    return reply_ref.removesuffix(".md") + ".json"


def read_receipt(run: RunDirectory, reply_ref: str) -> Receipt | None:
    """Read a reply's receipt; None where it is missing or damaged."""
    try:
        return msgspec.json.decode(run.read_bytes(receipt_ref(reply_ref)), type=Receipt)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
