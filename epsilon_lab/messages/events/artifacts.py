"""`artifact.`, `usage.`: files, and calls of models and tools; told by leaves and by the engine."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.events.body import Body


class ArtifactSaved(Body, frozen=True, kw_only=True):
    """`artifact.saved`: a file of the run directory, written once or replaced as a whole."""

    path: str
    kind: str
    sha256: str
    bytes: int
    task_id: str | None = None


class Ceiling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most that one request to a model can come to, whatever it answers."""

    prompt_tokens: int
    reply_tokens: int | None = None
    """None where nothing limits the reply."""

    prices: tuple[float, float] | None = None
    """US dollars for a token of the prompt, and of the reply; None where nobody knows them."""


class LlmCall(Body, frozen=True, kw_only=True):
    """`usage.llm_call`: one request to a model, whatever came of it.

    A line of outcome `unknown` is written before the request goes out; the later line of the same request replaces it.
    """

    task_id: str
    call: int
    """0 for the task's first request."""

    model: str
    outcome: str
    """`ok`, `timeout`, `error`, `cached` (a reply found on disk and not paid again), `refused` (the run's budget did
    not admit it, so it never went out), `unknown` (nothing came of it yet, or ever: its run was stopped or its lab
    died)."""

    prompt_ref: str
    prompt_sha256: str
    reply_ref: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None where the price is unknown."""

    latency_s: float | None = None
    cached: bool = False
    candidate_id: str | None = None
    trace_id: str | None = None
    error: str = ""
    request: str = ""
    """Tells this request from others of the same task and call; empty for a line that no later one replaces."""

    most: Ceiling | None = None
    """What its budget counts where tokens or price are not told."""

    span_id: str | None = None
    """What the request's `traceparent` header calls it; None for a reply that was found on disk."""


class ToolCalled(Body, frozen=True, kw_only=True):
    """`usage.tool_call`: an agent's model had a tool called."""

    task_id: str
    attempt: int
    step: int
    """0 for the model's first reply."""

    place: int
    """0 for the first call of a reply."""

    tool: str
    """As the model named it; there may be no such tool."""

    outcome: str
    """`ok`; `refused` (the tool, or the loop, said why nothing was done); `error` (it raised); `kept` (the result of an
    earlier attempt was used again)."""

    duration_s: float
    provenance: str = ""
    """Who answered: `epsilon_lab`, a function, a server of tools; empty where nobody did."""

    arguments: str = ""
    """The beginning of them."""

    result: str = ""
    """The beginning of what the model was told."""

    result_sha256: str = ""
    """Of all of that, which the transcript holds."""

    trace_id: str | None = None
