"""A model is called over real HTTP, and whatever it does, the prompt, the reply and the row are on record.

What goes through litellm and what goes by plain HTTP keep the same rules: these tests are run for both.
"""

from __future__ import annotations

import gzip
import os
import pickle
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.agents.prompt import Message, prompt_sha256
from epsilon_lab.agents.reply import Reply
from epsilon_lab.errors import InvalidInput, LeafFailed, ModelRefused, ends_run
from epsilon_lab.messages.events import LlmCall
from epsilon_lab.messages.tasks import Event
from epsilon_lab.testing.model_server import (
    Answer,
    Hang,
    Huge,
    ModelServer,
    Raw,
    Reset,
    Status,
    Text,
    Trickle,
    Truncated,
)
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory

KEY = "sk-test-0123456789-secret"
PROMPT = (Message("system", "You are brief."), Message("user", "Say hello."))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LAB_TEST_KEY", KEY)
    return "LAB_TEST_KEY"


class Desk:
    """A run directory, leaves whose records go to its journal as the lab's would, and a model behind a door."""

    def __init__(self, path: Path, door: str) -> None:
        self.model = f"{door}/tiny"
        self.run = RunDirectory(path / "run-1")
        self.run.path.mkdir()
        self.journal = Journal.open(self.run.journal)
        self.recorded: list[Event] = []
        self.attempts = 0

    def llm(self, server: ModelServer, **given: Any) -> LLM:
        return LLM(self.model, **{"api_base": server.url, "api_key_env": "LAB_TEST_KEY", "retries": 0, **given})

    def leaf(self) -> Leaf:
        self.attempts += 1
        return Leaf(self.run, "propose-g000-c000", self.attempts, self.attempts, self._record)

    async def _record(self, events: tuple[Event, ...]) -> None:
        for event in events:
            body = event.body
            for ref in (body.get("prompt_ref"), body.get("reply_ref"), body.get("path")):
                assert ref is None or self.run.exists(str(ref)), f"{ref} is on record before it is on disk"
        self.recorded += events
        self.journal.append(1.0, *events)
        self.journal.commit()

    def ask(self, llm: LLM, leaf: Leaf | None = None) -> Reply:
        async def main() -> Reply:
            at_work = leaf or self.leaf()
            try:
                return await llm.complete(PROMPT, leaf=at_work, name="g000-c000", candidate_id="g000-c000")
            finally:
                await aclose()
                await at_work.record()  # as the task's result does, or its failure

        return anyio.run(main)

    @property
    def rows(self) -> list[LlmCall]:
        """The requests, each as its last line tells it."""
        lines = [event.body for event in self.recorded if event.type == "usage.llm_call"]
        calls = [msgspec.convert(body, LlmCall) for body in lines]
        return list({call.request or number: call for number, call in enumerate(calls)}.values())

    def everything(self) -> str:
        files = [path.read_text() for path in self.run.path.rglob("*") if path.is_file()]
        return "\n".join([*files, *map(str, self.recorded)])


@pytest.fixture(params=["openai", "http"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(tmp_path, request.param)
    yield desk
    desk.journal.close()


# -- a good answer ---------------------------------------------------------------------------------------------------


def test_prompt_reply_and_row_are_on_record(desk: Desk, key: str) -> None:
    with ModelServer(["hello"]) as server:
        reply = desk.ask(desk.llm(server, temperature=0.5, max_tokens=77, extra={"top_p": 0.9}))
    assert reply.text == "hello"
    assert desk.run.read_text("prompts/g000-c000-0.md") == (
        "<!-- system -->\n\nYou are brief.\n\n<!-- user -->\n\nSay hello.\n"
    )
    assert desk.run.read_text("replies/g000-c000-0.md") == "hello"
    [row] = desk.rows
    assert (row.outcome, row.prompt_tokens, row.completion_tokens, row.cached) == ("ok", 100, 50, False)
    assert (row.task_id, row.candidate_id, row.call) == ("propose-g000-c000", "g000-c000", 0)
    assert row.prompt_sha256 == prompt_sha256(PROMPT) == reply.receipt.prompt_sha256
    assert row.reply_ref == "replies/g000-c000-0.md"
    sent = server.requests[0].json
    assert sent["messages"] == [{"role": message.role, "content": message.content} for message in PROMPT]
    assert (sent["model"], sent["temperature"], sent["max_tokens"], sent["top_p"]) == ("tiny", 0.5, 77, 0.9)


def test_each_request_carries_its_place_in_the_runs_trace(desk: Desk, key: str) -> None:
    """By the W3C's header, so that a server's own log can be joined with the row."""
    faults = {0: Status(429, headers={"Retry-After": "0"})}
    with ModelServer(lambda request: Text("hello"), faults=faults) as server:
        desk.ask(desk.llm(server, retries=1))
        headers = [request.headers["traceparent"] for request in server.requests]
    assert [row.outcome for row in desk.rows] == ["error", "ok"]
    assert headers == [f"00-{row.trace_id}-{row.span_id}-01" for row in desk.rows]
    assert len(set(headers)) == 2
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", header) for header in headers)


def test_a_users_own_headers_stay_beside_the_traces(desk: Desk, key: str) -> None:
    if desk.model.startswith("http/"):
        pytest.skip("extra is the body there")
    with ModelServer(lambda request: Text("hello")) as server:
        desk.ask(desk.llm(server, extra={"extra_headers": {"x-team": "blue"}}))
        assert server.requests[0].headers["x-team"] == "blue"
        assert "traceparent" in server.requests[0].headers


def test_the_price_of_an_unknown_model_is_unknown_and_not_zero(desk: Desk, key: str) -> None:
    with ModelServer(["hello"]) as server:
        desk.ask(desk.llm(server))
    assert desk.rows[0].cost_usd is None


def test_the_price_of_a_known_model_is_counted(desk: Desk, key: str) -> None:
    """litellm knows prices; a server of one's own has none that we know of."""
    name = desk.model.replace("tiny", "gpt-4o-mini")
    with ModelServer(["hello"]) as server:
        desk.ask(LLM(name, api_base=server.url, api_key_env=key))
    known = pytest.approx(100 * 0.15e-6 + 50 * 0.6e-6)
    assert desk.rows[0].cost_usd == (known if name.startswith("openai/") else None)


def test_tokens_that_the_server_did_not_count_are_unknown(desk: Desk, key: str) -> None:
    with ModelServer([Text("hello", prompt_tokens=None)]) as server:
        desk.ask(desk.llm(server))
    assert (desk.rows[0].prompt_tokens, desk.rows[0].completion_tokens, desk.rows[0].cost_usd) == (None, None, None)


def test_a_request_says_the_most_it_can_come_to_before_it_goes_out(desk: Desk, key: str) -> None:
    """No tokenizer makes more tokens than a text has bytes; tools and formats are read by the model, too."""
    with ModelServer(["hello"]) as server:
        given = {"max_completion_tokens": 500, "stop": ["x" * 400]}
        desk.ask(LLM("openai/gpt-4o-mini", api_base=server.url, api_key_env=key, max_tokens=77, extra=given))
    lines = [msgspec.convert(event.body, LlmCall) for event in desk.recorded if event.type == "usage.llm_call"]
    assert [line.outcome for line in lines] == ["unknown", "ok"]
    most = lines[0].most
    assert most is not None
    assert len("You are brief." + "Say hello.") + 400 < most.prompt_tokens < 600
    assert most.reply_tokens == 500
    assert most.prices is not None
    assert most.prices[0] >= 0.15e-6
    assert lines[1].most is None


def test_latency_is_measured(desk: Desk, key: str) -> None:
    with ModelServer(["hello"], latency_s=0.05) as server:
        desk.ask(desk.llm(server))
    assert desk.rows[0].latency_s is not None
    assert 0.05 <= desk.rows[0].latency_s < 20


def test_calls_run_at_once(desk: Desk, key: str) -> None:
    async def main() -> None:
        model = desk.llm(server)
        async with anyio.create_task_group() as group:
            for number in range(8):

                async def ask(number: int = number) -> None:
                    await model.complete(PROMPT, leaf=desk.leaf(), name=f"c{number}")

                group.start_soon(ask)
            # Nobody is answered before all have asked.
            await anyio.to_thread.run_sync(server.wait_for, 8)
        await aclose()

    with ModelServer(lambda _: "x", latency_s=0.3) as server:
        anyio.run(main)
    assert len(desk.rows) == 8


def test_the_prompt_and_an_unknown_row_are_on_record_before_the_request(desk: Desk, key: str) -> None:
    """So a call that was in flight when the lab died is counted."""
    seen: list[tuple[list[str], list[str]]] = []

    def script(_: object) -> Answer:
        seen.append(([event.type for event in desk.recorded], [row.outcome for row in desk.rows]))
        return Text("hello") if len(seen) == 2 else Status(429, headers={"Retry-After": "0"})

    with ModelServer(script) as server:
        desk.ask(desk.llm(server, retries=1))
    first, second = seen
    assert first == (["artifact.saved", "usage.llm_call"], ["unknown"])
    assert second[1] == ["error", "unknown"]
    assert [row.outcome for row in desk.rows] == ["error", "ok"]


def test_a_text_that_is_no_unicode_is_stored_readable(desk: Desk, key: str) -> None:
    body = '{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "stop"}]}'
    with ModelServer([Raw(body)]) as server:
        reply = desk.ask(desk.llm(server))
        assert reply.text == "a?b"
        assert desk.ask(desk.llm(server)).cached


# -- paid work is never lost -----------------------------------------------------------------------------------------


def test_a_reply_is_not_paid_for_twice(desk: Desk, key: str) -> None:
    with ModelServer(["first", "second"]) as server:
        desk.ask(desk.llm(server))
        again = desk.ask(desk.llm(server))
    assert (again.text, again.cached, len(server.requests)) == ("first", True, 1)
    assert [row.outcome for row in desk.rows] == ["ok", "cached"]
    assert (desk.rows[1].cached, desk.rows[1].cost_usd, desk.rows[1].prompt_tokens) == (True, 0.0, 0)


def test_a_reply_whose_row_was_lost_is_counted_when_it_is_found(desk: Desk, key: str) -> None:
    """The lab dies between the reply's file and its row: the reply is used, and its cost is not forgotten."""

    async def dies(_: tuple[Event, ...]) -> None:
        if desk.run.exists("replies/g000-c000-0.md"):
            raise ConnectionError("the lab is gone")

    with ModelServer(["hello"]) as server:
        model = desk.llm(server)
        with pytest.raises(ConnectionError):
            desk.ask(model, Leaf(desk.run, "propose-g000-c000", 1, 1, dies))
        assert desk.rows == []  # this desk's: the other lab took its own along
        assert desk.ask(model).text == "hello"
    assert len(server.requests) == 1
    [row] = desk.rows
    assert (row.outcome, row.cached, row.prompt_tokens) == ("ok", True, 100)


def test_a_reply_whose_row_was_lost_takes_the_place_of_the_unknown_row(desk: Desk, key: str) -> None:
    """One request is one row, though two labs wrote its lines."""

    async def dies(events: tuple[Event, ...]) -> None:
        if desk.run.exists("replies/g000-c000-0.md"):
            raise ConnectionError("the lab is gone")
        await desk._record(events)

    with ModelServer(["hello"]) as server:
        with pytest.raises(ConnectionError):
            desk.ask(desk.llm(server), Leaf(desk.run, "propose-g000-c000", 1, 1, dies))
        assert [row.outcome for row in desk.rows] == ["unknown"]
        desk.ask(desk.llm(server), Leaf(desk.run, "propose-g000-c000", 2, 2, desk._record))
    assert [row.outcome for row in desk.rows] == ["ok"]


def test_the_reply_to_another_prompt_is_not_taken(desk: Desk, key: str) -> None:
    async def ask(text: str) -> str:
        reply = await desk.llm(server).complete([Message("user", text)], leaf=desk.leaf(), name="g000-c000")
        await aclose()
        return reply.text

    with ModelServer(["first", "second"]) as server:
        assert anyio.run(ask, "a") == "first"
        assert anyio.run(ask, "b") == "second"


def test_a_damaged_receipt_is_not_taken(desk: Desk, key: str) -> None:
    with ModelServer(["first", "second"]) as server:
        desk.ask(desk.llm(server))
        (desk.run.path / "replies/g000-c000-0.json").write_text("{")
        assert desk.ask(desk.llm(server)).text == "second"


@pytest.mark.parametrize("writes", range(5))
def test_a_reply_is_paid_for_once_wherever_between_its_files_the_lab_dies(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After its first file the reply is received; the copy for people is there in the end whatever happened."""
    made: list[Path] = []
    replace = os.replace

    def dies(source: Path, target: Path) -> None:
        if len(made) == writes:
            raise ConnectionError("the lab is gone")
        made.append(Path(target))
        replace(source, target)

    with ModelServer(["first", "second"]) as server:
        with monkeypatch.context() as patch, suppress(ConnectionError):
            patch.setattr(os, "replace", dies)
            desk.ask(desk.llm(server))
        received = any(path.parent.name == "replies" for path in made)
        paid = len(server.requests)
        text = desk.ask(desk.llm(server)).text
        assert text == ("first" if received or not paid else "second")
        assert len(server.requests) == (1 if received else paid + 1)
    assert desk.run.read_text("replies/g000-c000-0.md") == text


def test_a_call_cut_off_in_flight_leaves_a_row(desk: Desk, key: str) -> None:
    leaf = desk.leaf()

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                await desk.llm(server).complete(PROMPT, leaf=leaf, name="g000-c000")

            group.start_soon(ask)
            await anyio.to_thread.run_sync(server.wait_for, 1)
            group.cancel_scope.cancel()
        await aclose()

    with ModelServer([Hang()]) as server:
        anyio.run(main)
    [row] = desk.rows
    assert row.outcome == "unknown"
    assert row.error == f"model {desk.model}: in flight, or cut off by the end of its run or lab"


# -- failures --------------------------------------------------------------------------------------------------------

AT_ONCE = {"Retry-After": "0"}
BOMB = gzip.compress(b" " * 50_000_000)


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (Status(401), "refused", "the key was not accepted (scripted 401); check LAB_TEST_KEY"),
        (Status(402), "refused", "the account has no credit left (scripted 402)"),
        (Status(403), "error", "access was denied (scripted 403); check LAB_TEST_KEY"),
        (Status(404), "refused", "there is no such model at http://127.0.0.1"),
        (
            Status(307, headers={"Location": "http://127.0.0.2:1/v1"}),
            "refused",
            "sends requests on to http://127.0.0.2:1,",
        ),
        (Status(429), "error", "too many requests (scripted 429); lower in_flight"),
        (Status(429, headers={"Retry-After": "7"}), "error", "it asks to wait 7 s"),
        (Status(429, '{"error": {"message": "You exceeded your current quota"}}'), "refused", "no credit left"),
        (Status(400), "error", "request was refused (400: scripted 400)"),
        (Status(500), "error", "failed (500: scripted 500); the request may have been billed"),
        (Status(502, body="<html>bad gateway</html>"), "error", "<html>bad gateway</html>); the request may"),
        (Reset(), "error", "broke the connection before it answered"),
        (Raw("<html>hello</html>", "text/html"), "error", "no usable answer"),
        (Raw("{not json"), "error", "no usable answer"),
        (Raw('{"choices": []}'), "error", "no usable answer (it has no choices)"),
        (Raw("null"), "error", "no usable answer"),
        (Raw("[" * 100_000), "error", "no usable answer"),
        (Raw(BOMB, headers={"Content-Encoding": "gzip"}), "error", "it is compressed, though"),
        (Huge(100_000_000), "error", "it is larger than the 16,777,216 bytes of a reply"),
        (Huge(100_000_000, announced=True), "error", "it is larger than the 16,777,216 bytes of a reply"),
        (Truncated(), "error", "no usable answer"),
        (Hang(), "timeout", "no whole answer within 0.5 s; raise timeout_s"),
        (Trickle(every_s=0.01), "timeout", "no whole answer within 0.5 s; raise timeout_s"),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "status", "")) if not isinstance(value, str) else "",
)
def test_a_failure_is_one_line_with_a_remedy_and_a_row(
    desk: Desk, key: str, answer: Answer, outcome: str, words: str
) -> None:
    with ModelServer([answer]) as server, pytest.raises(LeafFailed) as caught:
        desk.ask(desk.llm(server, timeout_s=0.5 if outcome == "timeout" else 20))
    message = str(caught.value)
    assert words in message
    refused = outcome == "refused"
    assert isinstance(caught.value, ModelRefused) == ends_run(message) == refused
    assert message.startswith(f"model refused: {desk.model}: " if refused else f"model {desk.model}: ")
    assert "\n" not in message
    assert KEY not in message
    [row] = desk.rows
    assert (row.outcome, row.error, row.reply_ref) == ("error" if refused else outcome, message, None)
    assert not (desk.run.path / "replies").exists()
    assert len(server.requests) == 1


@pytest.mark.parametrize("content", ["null", '""'])
def test_a_reply_without_text_is_a_reply(desk: Desk, key: str, content: str) -> None:
    """It has been paid for; what to make of it is the caller's business."""
    body = f'{{"choices": [{{"message": {{"role": "assistant", "content": {content}}}, "finish_reason": null}}]}}'
    with ModelServer([Raw(body, "text/plain")]) as server:
        assert desk.ask(desk.llm(server)).text == ""
    assert desk.rows[0].outcome == "ok"


def test_a_reply_in_parts_is_put_together(tmp_path: Path, key: str) -> None:
    """As some servers of one's own send it; litellm drops such replies."""
    desk = Desk(tmp_path, "http")
    body = '{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}, {"text": "b"}]}}]}'
    with ModelServer([Raw(body)]) as server:
        assert desk.ask(desk.llm(server)).text == "ab"
    desk.journal.close()


def test_nothing_follows_a_redirect(desk: Desk, key: str) -> None:
    with ModelServer(["stolen"]) as thief:
        there = Status(308, headers={"Location": f"{thief.url}/chat/completions"})
        with (
            ModelServer([there]) as server,
            pytest.raises(ModelRefused, match="neither key nor prompt follows") as told,
        ):
            desk.ask(desk.llm(server, retries=3))
    assert thief.url.removesuffix("/v1") in str(told.value)
    assert (len(server.requests), len(thief.requests)) == (1, 0)


def test_a_server_that_is_not_there(desk: Desk, key: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it
        base = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(LeafFailed, match=r"no connection to http://127.*is the server up"):
            desk.ask(LLM(desk.model, api_base=base, api_key_env=key, retries=0))
    assert desk.rows[0].outcome == "error"


@pytest.mark.parametrize("passing", [Status(429, headers=AT_ONCE), Status(500, headers=AT_ONCE)])
def test_what_passes_is_tried_again_and_each_try_is_a_row(desk: Desk, key: str, passing: Answer) -> None:
    with ModelServer(["hello"], faults={0: passing, 1: Status(503, headers=AT_ONCE)}) as server:
        assert desk.ask(desk.llm(server, retries=2)).text == "hello"
    assert [row.outcome for row in desk.rows] == ["error", "error", "ok"]
    assert len({row.request for row in desk.rows}) == 3


def test_refusals_for_ever_end_with_the_retries(desk: Desk, key: str) -> None:
    with ModelServer([Status(429, headers=AT_ONCE)]) as server, pytest.raises(LeafFailed):
        desk.ask(desk.llm(server, retries=2))
    assert len(server.requests) == len(desk.rows) == 3


def test_an_empty_account_is_not_asked_again(desk: Desk, key: str) -> None:
    """Some providers say it with the status of a refusal that passes."""
    empty = Status(429, '{"error": {"code": "insufficient_quota", "message": "insufficient_quota"}}', AT_ONCE)
    with ModelServer([empty]) as server, pytest.raises(ModelRefused, match="no credit left"):
        desk.ask(desk.llm(server, retries=3))
    assert len(server.requests) == 1


def test_a_long_wait_is_not_waited_for(desk: Desk, key: str) -> None:
    with (
        ModelServer([Status(429, headers={"Retry-After": "3600"})]) as server,
        pytest.raises(LeafFailed, match="it asks to wait 3600 s"),
    ):
        desk.ask(desk.llm(server, retries=5))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [Hang(), Raw("{"), Truncated(), Status(401), Status(400)], ids=lambda answer: type(answer).__name__
)
def test_what_was_answered_or_ran_out_of_time_is_not_sent_again(desk: Desk, key: str, answer: Answer) -> None:
    with ModelServer([answer]) as server, pytest.raises(LeafFailed):
        desk.ask(desk.llm(server, retries=5, timeout_s=0.5 if isinstance(answer, Hang) else 20.0))
    assert len(server.requests) == 1


def test_no_connection_is_left_when_a_call_was_cut_short(desk: Desk, key: str) -> None:
    with ModelServer([Huge(10**9)]) as server, pytest.raises(LeafFailed):
        desk.ask(desk.llm(server))
    assert server.connections == 0


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_the_key_travels_as_a_header_and_nowhere_else(desk: Desk, key: str) -> None:
    with ModelServer(["hello"]) as server:
        model = desk.llm(server)
        desk.ask(model)
    [request] = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in request.body
    assert KEY not in desk.everything()
    assert KEY.encode() not in pickle.dumps(model)
    assert KEY not in repr(model)


@pytest.mark.parametrize("status", [200, 401, 429, 500])
def test_a_key_that_the_server_sends_back_is_scrubbed(
    desk: Desk, key: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "sk-other-987654321")
    answer = Text(f"you sent {KEY}") if status == 200 else Status(status, f"bad: {KEY} sk-other-987654321")
    shown = ""
    with ModelServer([answer]) as server:
        try:
            shown = desk.ask(desk.llm(server)).text
        except LeafFailed as error:
            shown = "".join(traceback.format_exception(error))
            assert "[LAB_TEST_KEY]" in shown
    assert KEY not in shown + desk.everything()
    assert "sk-other" not in shown + desk.everything()


def test_a_providers_key_does_not_go_to_another_address(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(["hello"]) as server:
        assert desk.ask(LLM(desk.model, api_base=server.url)).text == "hello"
    assert KEY not in str(server.requests)


# -- bad input, refused before anything is spent ---------------------------------------------------------------------


def test_a_missing_key_is_named_with_its_remedy() -> None:
    with pytest.raises(InvalidInput, match=r"LAB_NO_KEY is not set.*os\.environ\['LAB_NO_KEY'\]"):
        LLM("openai/tiny", api_key_env="LAB_NO_KEY").validate()


def test_a_key_that_went_missing_stops_the_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm would look for another key by itself, and send it to this address."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ModelServer(["hello"]) as server, pytest.raises(ModelRefused, match="LAB_TEST_KEY is not set"):
        desk.ask(desk.llm(server))
    assert server.requests == ()
    assert desk.rows == []


@pytest.mark.parametrize("ending", ["\n", " ", "\r\n"])
def test_a_key_copied_with_its_line_end_is_the_key(desk: Desk, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv("LAB_TEST_KEY", KEY + ending)
    with ModelServer([f"you sent {KEY}"]) as server:
        desk.ask(desk.llm(server))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in desk.everything()


@pytest.mark.parametrize("value", ["sk-\nsecret-text", "sk-s\u00e9cret-text"])
def test_what_cannot_be_a_key_is_said_to_be_none(desk: Desk, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LAB_TEST_KEY", value)
    with ModelServer(["hello"]) as server, pytest.raises(ModelRefused, match="characters that no key has") as caught:
        desk.ask(desk.llm(server))
    assert server.requests == ()
    assert "secret" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used(desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands for the proxy: it is sent the whole address."""
    with ModelServer(["hello"]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "")
        assert desk.ask(desk.llm(proxy, api_base="http://model.invalid/v1")).text == "hello"
    assert proxy.requests[0].path == "http://model.invalid/v1/chat/completions"


def test_a_model_of_no_provider_is_refused_at_the_first_call(tmp_path: Path, key: str) -> None:
    """Where the key is named nothing was looked up before: that would take seconds."""
    desk = Desk(tmp_path, "nonsense")
    with pytest.raises(ModelRefused, match="litellm knows no provider for it; name it as provider/model"):
        desk.ask(LLM("nonsense", api_key_env=key))
    desk.journal.close()


def test_a_missing_key_of_a_provider_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InvalidInput, match="OPENAI_API_KEY is not set"):
        LLM("openai/gpt-4o-mini").validate()


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(InvalidInput, match="knows no provider for 'nonsense'"):
        LLM("nonsense").validate()


def test_a_model_that_can_be_called_is_valid(key: str) -> None:
    LLM("openai/tiny", api_key_env=key).validate()
    LLM("openai/tiny", api_base="http://127.0.0.1:1/v1").validate()
    LLM("ollama/qwen3").validate()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"model": ""}, "LLM model"),
        ({"model": 3}, "LLM model"),
        ({"api_key_env": "sk-real-key!"}, "LLM api_key_env"),
        ({"api_key_env": ""}, "LLM api_key_env"),
        ({"api_base": "http://me:pw@host/v1"}, "LLM api_base"),
        ({"temperature": -1}, "LLM temperature"),
        ({"max_tokens": 0}, "LLM max_tokens"),
        ({"max_tokens": 1.5}, "LLM max_tokens"),
        ({"timeout_s": 0}, "LLM timeout_s"),
        ({"timeout_s": float("nan")}, "LLM timeout_s"),
        ({"timeout_s": None}, "LLM timeout_s"),
        ({"retries": -1}, "LLM retries"),
        ({"model": "http/tiny"}, "LLM api_base: must be the address of a server"),
        ({"model": "http/tiny", "api_base": "127.0.0.1:8000"}, "LLM api_base: must be the address of a server"),
        ({"extra": {"api_key": "x"}}, r"LLM extra\['api_key'\]"),
        ({"extra": {"extra_headers": {"X-Api-Key": "x"}}}, r"LLM extra\['X-Api-Key'\]"),
        ({"extra": {"stream": True}}, r"LLM extra\['stream'\]"),
        ({"extra": 3}, "LLM extra"),
        ({"model": "http/tiny", "api_base": "http://x", "extra": {"a": object()}}, "LLM extra: cannot be sent as JSON"),
        ({"api_base": ""}, "LLM api_base: must be a non-empty str or None, got an empty str"),
    ],
)
def test_bad_arguments_are_refused(given: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as caught:
        LLM(**{"model": "openai/tiny", **given})
    assert "sk-real" not in str(caught.value)


def test_harmless_extras_are_not_mistaken_for_keys() -> None:
    LLM("openai/tiny", extra={"max_completion_tokens": 5, "prompt_cache_key": "a", "logit_bias": {}})


def test_nothing_heavy_is_imported_before_a_call() -> None:
    code = (
        "import sys, epsilon_lab.agents.llm as m; m.LLM('openai/x');"
        "sys.exit(bool({'litellm', 'httpx', 'aiohttp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def test_closing_without_a_call_does_nothing() -> None:
    anyio.run(aclose)
