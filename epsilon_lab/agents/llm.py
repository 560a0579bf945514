"""Language models, the one door to litellm.

A model call is the only thing here that costs money and cannot be repeated, so the order never varies: the prompt is on
record before the request goes out, the reply is on disk before anyone looks at it, the row is on record before it is
used. A request has a row before it goes out too, `unknown` until there is more to say: whatever cuts it off, that one
stays. A reply on disk is used and not paid for again. Nothing else is retried here, except a refusal (too many
requests, overloaded, no connection): it cost nothing and passes by itself. Whatever else fails is the task's failure,
and its retries are the broker's.

litellm takes seconds to import, looks for prices and tokenizers on the internet, prints, logs and keeps its clients in
global state. It is therefore imported on first use, in a thread, offline and quiet, and `aclose` ends what it left.
"""

from __future__ import annotations

import html
import logging
import math
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.prompt import Prompt
from epsilon_lab.agents.reply import Exchange, Receipt, Reply, text_sha256
from epsilon_lab.errors import InvalidInput, LeafFailed
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Ceiling
from epsilon_lab.processes.environment import looks_secret

_REFUSALS = (429, 503, 529)
_LONGEST_WAIT_S = 60.0
_CREDENTIAL = re.compile(
    r"(^|[_-])(api[_-]?key|authorization|secret|password|(access|auth|bearer)[_-]?token)$", re.IGNORECASE
)
_TAKEN = frozenset({"model", "messages", "stream", "n", "timeout", "max_retries", "num_retries", "mock_response"})


@dataclass(frozen=True, repr=False)
class LLM:
    """A language model to ask, by name: a value that holds no key and can travel.

    Args:
        model: litellm's name for it: `openai/gpt-4o-mini`, `anthropic/claude-sonnet-4-5`, `ollama/qwen3`.
        api_key_env: The environment variable that holds the key, read when a call is made. None for the provider's own
            variable; with `api_base`, for a server that needs no key: a provider's key never goes to another address.
        api_base: The server's address, for a model that is not at its provider's.
        temperature: Sampling temperature; None for the provider's default.
        max_tokens: Most tokens of a reply; None for the provider's default.
        timeout_s: Seconds from request to the last byte of the reply.
        retries: How often a refusal (HTTP 429, 503, 529, or no connection) is tried again, after 1, 2, 4, ... seconds,
            or as long as the server says.
        extra: Further arguments for litellm, such as `{"reasoning_effort": "high"}`.

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
                raise InvalidInput(f"LLM {what}", f"must be a non-empty str or None, got a {type(value).__name__}")
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
        if not isinstance(self.extra, Mapping):
            raise InvalidInput("LLM extra", f"must be a dict of arguments, got {self.extra!r}")
        for name in _names(self.extra):
            if _CREDENTIAL.search(name):
                raise InvalidInput(f"LLM extra[{name!r}]", "looks like a key", "give it by name: api_key_env=...")
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
        if budget is not None and budget.usd is not None and _prices(_open(), self.model) is None:
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
            litellm = _open()
            try:
                litellm.get_llm_provider(self.model)
            except Exception:  # noqa: BLE001 - whatever litellm raises, it does not know the name
                raise InvalidInput(
                    "LLM model",
                    f"litellm knows no provider for {self.model!r}",
                    "name it as provider/model, or give api_base=... for a server of your own",
                ) from None
            missing = litellm.validate_environment(self.model).get("missing_keys", [])
            if missing := [name for name in missing if looks_secret(name)]:
                raise InvalidInput(
                    f"the key of {self.model}",
                    f"is missing: the environment variable {' or '.join(missing)} is not set",
                    f"set it before the kernel starts, or in a cell: os.environ[{missing[0]!r}] = ...",
                )

    async def complete(
        self, prompt: Prompt, *, leaf: Leaf, name: str, call: int = 0, candidate_id: str | None = None
    ) -> Reply:
        """Ask, and return the reply once prompt, reply and row are on record.

        Args:
            prompt: The messages.
            leaf: The running task.
            name: Whose question it is; names the files `prompts/<name>-<call>.md` and `replies/<name>-<call>.md`.
            call: 0 for the name's first question.
            candidate_id: The candidate it is asked for, if any.

        Raises:
            LeafFailed: There was no reply; the message is one line that names the model and the remedy.
        """
        exchange = Exchange.of(prompt, name=name, call=call, candidate_id=candidate_id)
        reply = exchange.find_reply(leaf.run)
        if reply is None:
            exchange.save_prompt(leaf)
            reply = await self._ask(exchange, leaf)
            leaf.emit(exchange.answered(leaf, reply.receipt))
        elif await anyio.to_thread.run_sync(exchange.is_on_record, leaf.run):
            leaf.emit(exchange.answered(leaf, reply.receipt.again(), outcome="cached", cached=True))
        else:  # the lab died between the reply and its row
            leaf.emit(exchange.answered(leaf, reply.receipt, cached=True))
        await leaf.record()
        return reply

    async def _ask(self, exchange: Exchange, leaf: Leaf) -> Reply:
        """Send requests until one is answered, or fails for good; each is on record before it goes out."""
        litellm = await anyio.to_thread.run_sync(_open)
        arguments = self._arguments(exchange.prompt)
        most = self._most(litellm, arguments)
        for attempt in range(self.retries + 1):
            request = f"{leaf.fence}.{attempt}"
            in_flight = f"model {self.model}: in flight, or cut off by the end of its run or lab"
            leaf.emit(
                exchange.unanswered(leaf, request, model=self.model, outcome="unknown", error=in_flight, most=most)
            )
            if (reply_tokens := await leaf.record()) is not None:
                arguments["max_tokens"] = reply_tokens
            began, answer = time.monotonic(), None
            try:
                with anyio.move_on_after(self.timeout_s):
                    response = await litellm.acompletion(**arguments)
                    answer = self._read(response, exchange, request, latency_s=time.monotonic() - began)
                failure = _Failure("timeout", f"no whole answer within {self.timeout_s:g} s; raise timeout_s")
            except Exception as error:  # noqa: BLE001 - litellm raises anything, and any of it is the call's failure
                failure = self._explain(error)
            if answer is not None:
                return exchange.save_reply(leaf, *answer)
            message = f"model {self.model}: {failure.message}"
            latency_s = time.monotonic() - began
            leaf.emit(
                exchange.unanswered(
                    leaf, request, model=self.model, outcome=failure.outcome, error=message, latency_s=latency_s
                )
            )
            if failure.wait_s is None or attempt == self.retries:
                break
            await anyio.sleep(failure.wait_s if failure.wait_s >= 0 else 2.0**attempt)
        await leaf.record()
        raise LeafFailed(message)

    def _arguments(self, prompt: Prompt) -> dict[str, Any]:
        given = {
            "api_base": self.api_base,
            "api_key": self._key(),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        return {
            **self.extra,
            **{name: value for name, value in given.items() if value is not None},
            "model": self.model,
            "messages": [message._asdict() for message in prompt],
            "timeout": self.timeout_s,
            "max_retries": 0,
        }

    def _most(self, litellm: Any, arguments: Mapping[str, Any]) -> Ceiling:
        """The most a request can come to: no tokenizer makes more tokens than the text has bytes."""
        contents = (message["content"].encode() for message in arguments["messages"])
        return Ceiling(
            prompt_tokens=sum(len(content) + _MESSAGE_TOKENS for content in contents),
            reply_tokens=arguments.get("max_completion_tokens", arguments.get("max_tokens")),
            prices=_prices(litellm, self.model),
        )

    def _key(self) -> str | None:
        """The key; None for the one litellm finds by itself.

        Raises:
            LeafFailed: It is not in the environment.
        """
        if self.api_key_env is None:
            return None if self.api_base is None else "none"
        if key := os.environ.get(self.api_key_env):
            return key
        raise LeafFailed(
            f"model {self.model}: the environment variable {self.api_key_env} is not set; set it and resume the run"
        )

    def _read(self, response: Any, exchange: Exchange, request: str, *, latency_s: float) -> tuple[str, Receipt]:
        """Take what counts out of litellm's response."""
        choice = response.choices[0]
        text = (choice.message.content or "").encode("utf-8", "replace").decode()
        if self.api_key_env and len(key := self._key() or "") >= _SECRET_LENGTH:
            text = text.replace(key, f"[{self.api_key_env}]")
        usage = getattr(response, "usage", None)
        tokens = (getattr(usage, "prompt_tokens", 0), getattr(usage, "completion_tokens", 0))
        known = any(tokens)  # litellm puts zeros where the server said nothing
        return text, Receipt(
            model=self.model,
            prompt_sha256=exchange.sha256,
            reply_sha256=text_sha256(text),
            finish_reason=str(choice.finish_reason or "stop"),
            prompt_tokens=tokens[0] if known else None,
            completion_tokens=tokens[1] if known else None,
            cost_usd=getattr(response, "_hidden_params", {}).get("response_cost") if known else None,
            latency_s=latency_s,
            request=request,
        )

    def _explain(self, error: Exception) -> _Failure:
        """Say in one line what went wrong and what to do, without the key."""
        status = getattr(error, "status_code", None)
        causes = list(_causes(error))
        below = next((cause for cause in causes if type(cause).__module__.startswith("httpx")), error)
        said = str(below if "Connection error" in str(error) else error)
        said = re.sub(r"^(litellm\.)?(\w+Error: )*(\w+Exception - )?|\bssl:<[^>]*> ", "", " ".join(said.split()))
        text = self._scrub(said)[:300] or type(error).__name__
        key = self.api_key_env or ("api_key_env" if self.api_base else "the provider's key variable")
        where = self.api_base or "the provider"
        if status == 408 or isinstance(error, TimeoutError) or type(error).__name__ == "Timeout":
            return _Failure("timeout", f"no whole answer within {self.timeout_s:g} s; raise timeout_s")
        if any(type(cause).__name__ == "ConnectError" for cause in causes):
            return _Failure("error", f"no connection to {where} ({text}); is the server up, and api_base right?", -1.0)
        match status:
            case 401 | 403:
                return _Failure("error", f"the key was not accepted ({text}); check {key}")
            case 404:
                return _Failure("error", f"there is no such model at {where} ({text}); check model and api_base")
            case _ if status in _REFUSALS:
                wait_s = _retry_after(error)
                return _Failure("error", f"too many requests, or overloaded ({text}); wait, or lower in_flight", wait_s)
            case 400 | 422:
                return _Failure("error", f"the request was refused ({text}); check model, max_tokens and extra")
            case _:
                return _Failure("error", f"{where} gave no usable answer ({text}); check api_base, or try again later")

    def _scrub(self, text: str) -> str:
        names = {name for name in os.environ if looks_secret(name) or name == self.api_key_env}
        for name in sorted(names, key=lambda name: -len(os.environ[name])):
            value = os.environ[name]
            if len(value) >= _SECRET_LENGTH:
                text = text.replace(value, f"[{name}]")
        return text


_MESSAGE_TOKENS = 16  # what a provider adds to a message: its role, and where it begins and ends
_SECRET_LENGTH = 8  # a shorter one is a placeholder of a local server, and might be a word of the text


@dataclass(frozen=True)
class _Failure:
    """Why a request gave no reply."""

    outcome: str
    message: str
    wait_s: float | None = None
    """Seconds after which it may be tried again; -1 where the server did not say; None: not to be tried again."""


async def aclose() -> None:
    """End what litellm keeps for the running loop: its clients' connections and its logging task.

    Call it on the loop the models were called on, before that loop ends.
    """
    litellm = sys.modules.get("litellm")
    if litellm is None:
        return
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
    with suppress(ImportError, AttributeError):  # not part of litellm's public API
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - heavy

        await GLOBAL_LOGGING_WORKER.stop()


_opening = threading.Lock()


def _open() -> Any:
    """Import litellm, offline and quiet, with all that a first call would import on the loop; takes seconds once."""
    with _opening:
        if _ready:
            return _ready[0]
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litellm  # noqa: PLC0415 - heavy; this is its door

            litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": ""}}])
            with suppress(ImportError):
                import openai.resources.chat  # noqa: PLC0415, F401 - heavy
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
            logging.getLogger(name).disabled = True
        _ready.append(litellm)
        return litellm


_ready: list[Any] = []


def _prices(litellm: Any, model: str) -> tuple[float, float] | None:
    """US dollars for a token of the prompt and of the reply, the dearest on litellm's list; None if it is not on it."""
    known = litellm.model_cost.get(model)
    if known is None:
        with suppress(Exception):  # whatever litellm raises, it does not know the name
            known = litellm.model_cost.get(litellm.get_llm_provider(model)[0])
    prices = [
        [price for name, price in (known or {}).items() if name.startswith(kind) and isinstance(price, int | float)]
        for kind in ("input_cost_per_token", "output_cost_per_token")
    ]
    return (max(prices[0]), max(prices[1])) if all(prices) else None


def _names(value: Any) -> Iterator[str]:
    """All names in nested arguments."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(error: Exception) -> float:
    """Seconds the server asked to wait, at most a minute; -1 where it did not say."""
    for cause in _causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", None) or {}
        with suppress(TypeError, ValueError):
            return min(max(float(headers.get("retry-after", "")), 0.0), _LONGEST_WAIT_S)
    return -1.0
