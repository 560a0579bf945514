"""The one door to litellm, which knows a hundred providers and their prices.

litellm takes seconds to import, looks for prices and tokenizers on the internet, prints, logs and keeps its clients in
global state. It is therefore imported on first use, in a thread, offline and quiet; where it lets us, it is given an
HTTP client of ours (see guard.py); and `aclose` ends what it left.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio.to_thread

from epsilon_lab.agents.answer import Answer, NoAnswer, asked_wait_s
from epsilon_lab.agents.prompt import Prompt, ToolCall, ToolSpec


class LitellmDoor:
    """Asks any model that litellm knows."""

    async def send(
        self,
        prompt: Prompt,
        *,
        model: str,
        api_base: str | None,
        key: str | None,
        tools: Sequence[ToolSpec],
        arguments: Mapping[str, Any],
        traceparent: str,
    ) -> Answer:
        """Send one request.

        Raises:
            NoAnswer: There was none.
        """
        litellm = _ready[0] if _ready else await anyio.to_thread.run_sync(open_litellm)
        if litellm.aclient_session is None:
            litellm.aclient_session = _client()
        headers = {**(arguments.get("extra_headers") or {}), "traceparent": traceparent}
        given: dict[str, Any] = {
            name: value for name, value in {"api_base": api_base, "api_key": key}.items() if value is not None
        }
        if not (litellm.callbacks or litellm.success_callback or litellm.failure_callback):
            given["no-log"] = True  # nobody is told of the call, so a tenth of its cost can be saved
        if tools:
            given |= {"tools": list(tools), **_plain_tools()}
        try:
            response = await litellm.acompletion(
                **{**arguments, "extra_headers": headers},
                **given,
                model=model,
                messages=[message.wire() for message in prompt],
                max_retries=0,
            )
            return _read(response)
        except Exception as error:
            raise _no_answer(error) from error


@functools.cache
def _plain_tools() -> dict[str, Any]:
    """What keeps litellm from looking for a server of tools, for which it wants the package mcp; if it knows of any."""
    return {"_skip_mcp_handler": True} if importlib.util.find_spec("litellm.responses.mcp") else {}


def knows(model: str) -> bool:
    """Tell whether litellm knows whose model this is."""
    try:
        open_litellm().get_llm_provider(model)
    except Exception:  # noqa: BLE001 - whatever litellm raises, it does not know the name
        return False
    return True


def missing_keys(model: str) -> list[str]:
    """Environment variables that a model needs and that are not set."""
    return list(open_litellm().validate_environment(model).get("missing_keys", []))


@functools.lru_cache(maxsize=64)
def prices(model: str) -> tuple[float, float] | None:
    """US dollars for a token of the prompt and of the reply, the dearest on litellm's list; None if it is not on it."""
    litellm = open_litellm()
    known = litellm.model_cost.get(model)
    if known is None:
        with suppress(Exception):  # whatever litellm raises, it does not know the name
            known = litellm.model_cost.get(litellm.get_llm_provider(model)[0])
    listed = [
        [price for name, price in (known or {}).items() if name.startswith(kind) and isinstance(price, int | float)]
        for kind in ("input_cost_per_token", "output_cost_per_token")
    ]
    return (max(listed[0]), max(listed[1])) if all(listed) else None


async def aclose() -> None:
    """End what litellm keeps for the running loop: its clients' connections and its logging task.

    Call it on the loop the models were called on, before that loop ends. What is kept for another lab's loop is left.
    """
    if not _ready:
        return
    litellm = _ready[0]
    logging_worker = None
    with suppress(ImportError, AttributeError):  # not part of litellm's public API
        from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER  # noqa: PLC0415 - heavy

        logging_worker = GLOBAL_LOGGING_WORKER
        bound = logging_worker._bound_loop  # noqa: SLF001 - nothing else says it
        if bound is not None and bound is not asyncio.get_running_loop() and bound.is_running():
            return
    if (client := litellm.aclient_session) is not None:
        litellm.aclient_session = None
        await client.aclose()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
    if logging_worker is not None:
        await logging_worker.stop()


_opening = threading.Lock()


def is_open() -> bool:
    """Tell whether litellm is imported, so that asking it takes no time."""
    return bool(_ready)


def open_litellm() -> Any:
    """Import litellm, offline and quiet, with all that a first call would import on the loop; takes seconds once."""
    if _ready:
        return _ready[0]
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


def _client() -> Any:
    """The HTTP client that litellm is given: its own transport, behind a guard."""
    import httpx  # noqa: PLC0415 - heavy, and litellm's
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler  # noqa: PLC0415 - heavy

    from epsilon_lab.agents.guard import Guard  # noqa: PLC0415 - imports httpx

    transport = AsyncHTTPHandler.create_async_transport() or httpx.AsyncHTTPTransport()
    return httpx.AsyncClient(transport=Guard(transport), follow_redirects=False)


def _read(response: Any) -> Answer:
    """Take what counts out of litellm's response."""
    if not response.choices:
        raise NoAnswer("unusable", "it has no choices")
    choice = response.choices[0]
    usage = getattr(response, "usage", None)
    tokens = (getattr(usage, "prompt_tokens", 0), getattr(usage, "completion_tokens", 0))
    known = any(tokens)  # litellm puts zeros where the server said nothing
    return Answer(
        text=choice.message.content or "",
        tool_calls=tuple(
            ToolCall(str(call.id or ""), str(call.function.name or ""), str(call.function.arguments or "{}"))
            for call in getattr(choice.message, "tool_calls", None) or ()
        ),
        finish_reason=str(choice.finish_reason or "stop"),
        prompt_tokens=tokens[0] if known else None,
        completion_tokens=tokens[1] if known else None,
        cost_usd=getattr(response, "_hidden_params", {}).get("response_cost") if known else None,
    )


def _no_answer(error: Exception) -> NoAnswer:
    """Say in our terms what litellm says in its own."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, NoAnswer):
            return cause
    said = re.sub(r"^(litellm\.)?(\w+Error: )*(\w+Exception - )?", "", " ".join(str(error).split()))
    status = getattr(error, "status_code", None)
    if status == 408 or isinstance(error, TimeoutError) or type(error).__name__ == "Timeout":
        return NoAnswer("timeout", said)
    for cause in causes:
        if type(cause).__name__ == "HTTPStatusError":
            response = getattr(cause, "response")  # noqa: B009 - httpx's, which is not imported here
            return NoAnswer("status", said, status=response.status_code, wait_s=asked_wait_s(response.headers))
        if type(cause).__name__ == "ConnectError":
            return NoAnswer("unreachable", said)
    if status is None or status >= 500:  # litellm says 500 of a body that it cannot read, too
        return NoAnswer("unusable", said)
    return NoAnswer("status", said, status=status)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
