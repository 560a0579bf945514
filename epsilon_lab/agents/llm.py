"""Language models: what is asked, what it cost, and what is kept of it.

A model call is the only thing here that costs money and cannot be repeated, so the order never varies: the prompt and a
row that says `unknown` are on record before the request goes out; the reply is on disk with its receipt before anyone
looks at it; the row that says what it cost is recorded with what was made of it, or before the next request. Whatever
cuts a request off, its first row stays. A reply on disk is used and not paid for again, and counted if it was not yet.
What is sent again, and when, backoff.py says; whatever else fails is the task's failure. A model that refuses us
altogether is told apart: no other task would fare better.

How a request travels is not decided here: most go through litellm, those to `http/...` through plain HTTP.
"""

from __future__ import annotations

import html
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec

from epsilon_lab.agents import http_door, litellm_door
from epsilon_lab.agents.answer import Answer, Door, NoAnswer
from epsilon_lab.agents.backoff import LONGEST_WAIT_S, is_passing, wait_s
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.prompt import Prompt, ToolCall, ToolSpec
from epsilon_lab.agents.reply import REPLY_ROOM, Exchange, Receipt, Reply
from epsilon_lab.dice import dice
from epsilon_lab.errors import InvalidInput, LeafFailed, ModelRefused
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Ceiling
from epsilon_lab.messages.secrets import conceal
from epsilon_lab.processes.environment import held_secrets, looks_secret

_CREDENTIAL = re.compile(
    r"(^|[_-])(api[_-]?key|authorization|secret|password|(access|auth|bearer)[_-]?token)$", re.IGNORECASE
)
_TAKEN = frozenset({"model", "messages", "stream", "n", "timeout", "max_retries", "num_retries", "mock_response"})
_PLAIN = "http/"
_LITELLM, _HTTP = litellm_door.LitellmDoor(), http_door.HttpDoor()


@dataclass(frozen=True, repr=False)
class LLM:
    """A language model to ask, by name: a value that holds no key and can travel.

    Args:
        model: litellm's name for it: `openai/gpt-4o-mini`, `anthropic/claude-sonnet-4-5`, `ollama/qwen3`; or
            `http/<name>` for a server at `api_base` that speaks OpenAI's chat protocol, asked without litellm: faster,
            and without prices.
        api_key_env: The environment variable that holds the key, read when a call is made. None for the provider's own
            variable; with `api_base`, for a server that needs no key: a provider's key never goes to another address.
        api_base: The server's address, for a model that is not at its provider's.
        temperature: Sampling temperature; None for the provider's default.
        max_tokens: Most tokens of a reply; None for the provider's default.
        timeout_s: Seconds from request to the last byte of the reply.
        retries: How often a request is sent again that the server refused for the moment or failed at (HTTP 429, 5xx),
            or that found no connection: after 1, 2, 4, ... seconds less some chance, or as long as the server says.
        extra: Further arguments of the request, such as `{"reasoning_effort": "high"}`.

    Raises:
        InvalidInput: An argument has a wrong type or value, or holds a key.
    """

    model: str
    api_key_env: str | None = field(default=None, kw_only=True)
    api_base: str | None = field(default=None, kw_only=True)
    temperature: float | None = field(default=None, kw_only=True)
    max_tokens: int | None = field(default=None, kw_only=True)
    timeout_s: float = field(default=120.0, kw_only=True)
    retries: int = field(default=3, kw_only=True)
    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InvalidInput("LLM model", f"must be a name, got {self.model!r}", "for example 'openai/gpt-4o-mini'")
        for what in ("api_key_env", "api_base"):
            value = getattr(self, what)
            if value is not None and (not isinstance(value, str) or not value):
                raise InvalidInput(f"LLM {what}", f"must be a non-empty str or None, got {_kind(value)}")
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise InvalidInput(
                "LLM api_key_env", "is not the name of an environment variable", "give the name, never the key itself"
            )
        if self.api_base is not None and "@" in urlsplit(self.api_base).netloc:
            raise InvalidInput("LLM api_base", "holds a user or password", "give the key by name: api_key_env=...")
        for what, least in (("temperature", 0.0), ("max_tokens", 1), ("timeout_s", 0.001), ("retries", 0)):
            value = getattr(self, what)
            if value is None and what in ("temperature", "max_tokens"):
                continue
            kind = int if what in ("max_tokens", "retries") else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
                raise InvalidInput(f"LLM {what}", f"must be a number of at least {least:g}, got {value!r}")
        if self.model.startswith(_PLAIN) and not (self.api_base or "").startswith(("http://", "https://")):
            raise InvalidInput(
                "LLM api_base",
                f"must be the address of a server for {self.model!r}, got {self.api_base!r}",
                "for example 'http://127.0.0.1:8000/v1'",
            )
        if not isinstance(self.extra, Mapping):
            raise InvalidInput("LLM extra", f"must be a dict of arguments, got {self.extra!r}")
        for name in _names(self.extra):
            if _CREDENTIAL.search(name):
                raise InvalidInput(f"LLM extra[{name!r}]", "looks like a key", "give it by name: api_key_env=...")
        if self.model.startswith(_PLAIN):
            try:
                msgspec.json.encode(dict(self.extra))
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidInput("LLM extra", f"cannot be sent as JSON ({error})", "give plain values") from error
        if taken := sorted(_TAKEN & self.extra.keys()):
            raise InvalidInput(f"LLM extra[{taken[0]!r}]", "is set by the lab", "leave it out")

    def __repr__(self) -> str:
        return f"LLM(model={self.model!r})"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.model

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse a model that cannot be called, or whose price a budget would need, before anything is spent.

        Without `api_key_env` and `api_base` this imports litellm, which knows the providers' own variables; that takes
        seconds the first time.

        Raises:
            InvalidInput: A key is missing from the environment, or litellm knows no such provider or no such price.
        """
        if budget is not None and budget.usd is not None and self._prices() is None:
            raise InvalidInput(
                "Budget usd", f"nobody knows the price of {self.model}", "limit calls= or tokens= instead"
            )
        if self.api_key_env is not None:
            if not os.environ.get(self.api_key_env):
                raise InvalidInput(
                    f"the key of {self.model}",
                    f"is missing: the environment variable {self.api_key_env} is not set",
                    f"set it before the kernel starts, or in a cell: os.environ[{self.api_key_env!r}] = ...",
                )
        elif self.api_base is None:
            if not litellm_door.knows(self.model):
                raise InvalidInput("LLM model", f"litellm knows no provider for {self.model!r}", _NAMING)
            if missing := [name for name in litellm_door.missing_keys(self.model) if looks_secret(name)]:
                raise InvalidInput(
                    f"the key of {self.model}",
                    f"is missing: the environment variable {' or '.join(missing)} is not set",
                    f"set it before the kernel starts, or in a cell: os.environ[{missing[0]!r}] = ...",
                )

    @property
    def longest_s(self) -> float:
        """Seconds a call may take at most, its retries included."""
        return (self.retries + 1) * (self.timeout_s + 2 * LONGEST_WAIT_S)

    async def complete(
        self,
        prompt: Prompt,
        *,
        leaf: Leaf,
        name: str,
        call: int = 0,
        candidate_id: str | None = None,
        tools: Sequence[ToolSpec] = (),
        reply_tokens: int | None = None,
        known: int = 0,
    ) -> Reply:
        """Ask, and return the reply once it is on disk; its row goes on record with the task's result, or failure.

        Args:
            prompt: The messages.
            leaf: The running task.
            name: Whose question it is; names the files `prompts/<name>-<call>.md` and `replies/<name>-<call>.md`.
            call: 0 for the name's first question.
            candidate_id: The candidate it is asked for, if any.
            tools: What the model may call.
            reply_tokens: Most tokens of the reply, below the model's own limit.
            known: How many of the messages the name's call before this one had, or answered, in the same words: its
                prompt's file leaves them out.

        Raises:
            LeafFailed: There was no reply; the message is one line that names the model and the remedy.
            ModelRefused: No question to this model has a reply, until the user changes something.
        """
        exchange = Exchange.of(prompt, name=name, call=call, candidate_id=candidate_id)
        found = exchange.find_receipt(leaf.run)
        if found is None:
            exchange.save_prompt(leaf, known=known)
            with leaf.run.room(REPLY_ROOM):
                receipt = await self._ask(exchange, leaf, tools, reply_tokens)
            reply = exchange.save_reply(leaf, receipt)
            leaf.emit(exchange.answered(leaf, reply.receipt))
            return reply
        reply = exchange.save_reply(leaf, found, cached=True)  # the lab may have died before the copy, or its row
        if await anyio.to_thread.run_sync(exchange.is_on_record, leaf):
            leaf.emit(exchange.answered(leaf, found.again(), outcome="cached", cached=True))
        else:  # the lab died between the reply and its row
            leaf.emit(exchange.answered(leaf, found, cached=True))
        return reply

    async def _ask(
        self, exchange: Exchange, leaf: Leaf, tools: Sequence[ToolSpec], reply_tokens: int | None
    ) -> Receipt:
        """Send requests until one is answered, or fails for good; each is on record before it goes out."""
        key = self._key()
        most = await self._most(exchange.prompt, tools, reply_tokens)
        for attempt in range(self.retries + 1):
            request = f"{leaf.fence}.{attempt}"
            in_flight = f"model {self.model}: in flight, or cut off by the end of its run or lab"
            leaf.emit(
                exchange.unanswered(leaf, request, model=self.model, outcome="unknown", error=in_flight, most=most)
            )
            limits = (await leaf.record(), reply_tokens)
            began = time.monotonic()
            try:
                answer = await self._send(
                    exchange.prompt, key, tools, limits, leaf.traceparent(*exchange.step(request))
                )
            except NoAnswer as no_answer:
                failure, why = self._explain(no_answer), no_answer
            else:
                latency_s = time.monotonic() - began
                receipt = self._receive(answer, exchange, request, most, latency_s=latency_s)
                return msgspec.structs.replace(receipt, span_id=leaf.span_id(*exchange.step(request)))
            leaf.emit(
                exchange.unanswered(
                    leaf,
                    request,
                    model=self.model,
                    outcome="timeout" if why.kind == "timeout" else "error",
                    error=str(failure),
                    latency_s=time.monotonic() - began,
                    is_free=why.is_free,
                )
            )
            if attempt == self.retries or isinstance(failure, ModelRefused) or not is_passing(why):
                break
            await anyio.sleep(wait_s(why, attempt, dice(attempt, "retry", exchange.sha256)))
        raise failure

    async def _send(
        self,
        prompt: Prompt,
        key: str | None,
        tools: Sequence[ToolSpec],
        reply_limits: tuple[int | None, ...],
        traceparent: str,
    ) -> Answer:
        """Send one request, for as long as a call may take.

        Args:
            prompt: The messages.
            key: The key.
            tools: What the model may call.
            reply_limits: Most tokens of the reply, where budgets say so.
            traceparent: The header that names the request in the run's trace.

        Raises:
            NoAnswer: There was none.
        """
        plain = self.model.startswith(_PLAIN)
        door: Door = _HTTP if plain else _LITELLM
        most = min((limit for limit in (*reply_limits, self.max_tokens) if limit is not None), default=None)
        limits = {"temperature": self.temperature, "max_tokens": most}
        arguments = {**self.extra, **{name: value for name, value in limits.items() if value is not None}}
        if not plain:
            arguments["timeout"] = self.timeout_s
        with anyio.move_on_after(self.timeout_s):
            return await door.send(
                prompt,
                model=self.model.removeprefix(_PLAIN) if plain else self.model,
                api_base=self.api_base,
                key=key,
                tools=tools,
                arguments=arguments,
                traceparent=traceparent,
            )
        raise NoAnswer("timeout")

    async def _most(self, prompt: Prompt, tools: Sequence[ToolSpec], reply_tokens: int | None) -> Ceiling:
        """The most a request can come to: no tokenizer makes more tokens than the text has bytes."""
        texts = [message.content for message in prompt]
        texts += [f"{call.id}{call.name}{call.arguments}" for message in prompt for call in message.tool_calls]
        texts += [msgspec.json.encode(tools).decode()] if tools else []
        texts += [repr(dict(self.extra))] if self.extra else []  # tools and formats are read by the model, too
        own = self.max_tokens if reply_tokens is None else min(reply_tokens, self.max_tokens or reply_tokens)
        limits = (own, self.extra.get("max_tokens"), self.extra.get("max_completion_tokens"))
        return Ceiling(
            prompt_tokens=sum(len(text.encode("utf-8", "surrogatepass")) + _MESSAGE_TOKENS for text in texts),
            reply_tokens=max((limit for limit in limits if isinstance(limit, int)), default=None),
            prices=self._prices() if litellm_door.is_open() else await anyio.to_thread.run_sync(self._prices),
        )

    def _prices(self) -> tuple[float, float] | None:
        return None if self.model.startswith(_PLAIN) else litellm_door.prices(self.model)

    def _key(self) -> str | None:
        """The key; None for the one litellm finds by itself.

        Raises:
            ModelRefused: It is not in the environment, or cannot be one.
        """
        if self.api_key_env is None:
            return None if self.api_base is None else "none"
        key = os.environ.get(self.api_key_env, "").strip()
        if key and key.isascii() and key.isprintable():
            return key
        state = "holds characters that no key has" if key else "is not set"
        raise self._refused(f"the environment variable {self.api_key_env} {state}; set it and start again")

    def _receive(self, answer: Answer, exchange: Exchange, request: str, most: Ceiling, *, latency_s: float) -> Receipt:
        """Make of an answer what is kept: text that can be written, without the key, and what it cost."""
        text = self._kept(answer.text)
        calls = tuple(ToolCall(*map(self._kept, call)) for call in answer.tool_calls)
        size = len(text.encode()) + sum(len(part.encode()) for call in calls for part in call)
        counted = answer.prompt_tokens is not None
        return Receipt(
            text=text,
            model=self.model,
            prompt_sha256=exchange.sha256,
            tool_calls=calls,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cost_usd=answer.cost_usd,
            latency_s=latency_s,
            request=request,
            most=None if counted else msgspec.structs.replace(most, reply_tokens=size),
        )

    def _kept(self, text: str) -> str:
        """Text that can be written, without the key."""
        text = text.encode("utf-8", "replace").decode()
        return conceal(text, self._own_secret())

    def _explain(self, why: NoAnswer) -> LeafFailed:
        """Say in one line what went wrong and what to do, without the key."""
        said = self.scrub(" ".join(why.said.split()))[:300] or "nothing"
        key = self.api_key_env or ("api_key_env" if self.api_base else "the provider's key variable")
        where = self.api_base or "the provider"
        asked = "" if why.wait_s is None else f"; it asks to wait {why.wait_s:.0f} s"
        match why.kind, why.status:
            case "timeout", _:
                return self._failed(f"no whole answer within {self.timeout_s:g} s; raise timeout_s")
            case "unreachable", _:
                return self._failed(f"no connection to {where} ({said}); is the server up, and api_base right?")
            case "broken", _:
                return self._failed(
                    f"{where} broke the connection before it answered ({said}); the request may have been billed"
                )
            case "elsewhere", _:
                return self._refused(
                    f"{where} sends requests on to {said}, where neither key nor prompt follows; "
                    "give the right address as api_base"
                )
            case "status", 401:
                return self._refused(f"the key was not accepted ({said}); check {key}")
            case "status", 402:
                return self._refused(f"the account has no credit left ({said}); check it, or {key}")
            case "status", 429 if "insufficient_quota" in said or "exceeded your current quota" in said:
                return self._refused(f"the account has no credit left ({said}); check it, or {key}")
            case "status", 403:
                return self._failed(f"access was denied ({said}); check {key} and what it is allowed to do")
            case "status", 404:
                return self._refused(f"there is no such model at {where} ({said}); check model and api_base")
            case "status", 429:
                return self._failed(f"too many requests ({said}){asked}; lower in_flight, or raise retries")
            case "status", 400 if not (
                self.api_base or self.model.startswith(_PLAIN) or litellm_door.knows(self.model)
            ):
                return self._refused(f"litellm knows no provider for it; {_NAMING}")
            case "status", int(status) if status < 500:
                return self._failed(f"the request was refused ({status}: {said}); check model, max_tokens and extra")
            case "status", status:
                return self._failed(
                    f"{where} failed ({status}: {said}){asked}; the request may have been billed; try again later"
                )
        return self._failed(f"{where} gave no usable answer ({said}); check api_base, or try again later")

    def _failed(self, problem: str) -> LeafFailed:
        return LeafFailed(f"model {self.model}: {problem}")

    def _refused(self, problem: str) -> ModelRefused:
        return ModelRefused(f"{ModelRefused.PREFIX}{self.model}: {problem}")

    def scrub(self, text: str) -> str:
        """Put names in the place of keys: the model's own, and whatever the environment has that looks like one."""
        return conceal(text, held_secrets() | self._own_secret())

    def _own_secret(self) -> dict[str, str]:
        name = self.api_key_env
        return {} if name is None or name not in os.environ else {name: os.environ[name]}


_NAMING = "name it as provider/model, or give api_base=... for a server of your own"
_MESSAGE_TOKENS = 16  # what a provider adds to a message: its role, and where it begins and ends


async def aclose() -> None:
    """End what the doors keep for the running loop.

    Call it on the loop the models were called on, before that loop ends.
    """
    await http_door.aclose()
    await litellm_door.aclose()


def _kind(value: object) -> str:
    """What a value is, without showing it: it may be a key."""
    return "an empty str" if value == "" else f"a {type(value).__name__}"


def _names(value: Any) -> Iterator[str]:
    """All names in nested arguments."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
