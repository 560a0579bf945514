"""The model server answers, stalls and breaks as scripted, over real HTTP, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import socket
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from epsilon_lab.errors import LabError
from epsilon_lab.testing.model_server import (
    Answer,
    Call,
    Cast,
    Hang,
    ModelServer,
    Play,
    Raw,
    Request,
    Status,
    Text,
    Trickle,
    Truncated,
    _serving,
    vary_number,
)

PROMPT = "Improve this:\n\n```python\ndef f(x):\n    return x + 3\n```\n"


def post(server: ModelServer, prompt: str = PROMPT, timeout: float = 60.0) -> tuple[int, str]:
    url = urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout)
    try:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]})
        connection.request("POST", f"{url.path}/chat/completions", body, {"Authorization": "Bearer sk-1"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def content(body: str) -> str:
    return json.loads(body)["choices"][0]["message"]["content"]


def test_answers_are_a_function_of_the_request() -> None:
    with ModelServer(lambda request: f"{request.json['model']}: {len(request.prompt)}") as server:
        status, body = post(server)
    assert (status, content(body)) == (200, f"m: {len(PROMPT)}")
    assert json.loads(body)["usage"] == {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}


def test_every_request_is_kept_with_its_headers() -> None:
    with ModelServer(["one", "two"]) as server:
        assert [content(post(server, prompt)[1]) for prompt in ("a", "b", "c")] == ["one", "two", "two"]
    assert [request.prompt for request in server.requests] == ["a", "b", "c"]
    assert [request.index for request in server.requests] == [0, 1, 2]
    assert server.requests[0].headers["authorization"] == "Bearer sk-1"


@pytest.mark.parametrize(
    ("answer", "status", "part"),
    [
        (Status(429), 429, "scripted 429"),
        (Status(500, body="boom"), 500, "boom"),
        (Raw("<html>hello", "text/html"), 200, "<html>hello"),
        (Raw("{not json"), 200, "{not json"),
        (Text("cut", finish_reason="length"), 200, '"finish_reason":"length"'),
    ],
)
def test_faults_come_by_schedule(answer: Answer, status: int, part: str) -> None:
    with ModelServer(["fine"], faults={1: answer}) as server:
        assert content(post(server)[1]) == "fine"
        found, body = post(server)
        assert found == status
        assert part in body
        assert content(post(server)[1]) == "fine"


def test_a_truncated_body_ends_the_connection_early() -> None:
    with ModelServer([Truncated()]) as server, pytest.raises(http.client.IncompleteRead):
        post(server)


@pytest.mark.parametrize("answer", [Hang(), Trickle(every_s=0.001)])
def test_closing_ends_an_answer_that_never_comes(answer: Answer) -> None:
    with ModelServer([answer]) as server:
        url = urlsplit(server.url)
        client = socket.create_connection((url.hostname, url.port), timeout=60)
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        server.wait_for(1)
        assert server.connections == 1
    with client:
        while client.recv(65536):  # whatever was sent, then the end
            pass
    assert server.connections == 0


def test_a_connection_serves_several_requests() -> None:
    with ModelServer(["one", "two"]) as server:
        url = urlsplit(server.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        for expected in ("one", "two"):
            connection.request("POST", "/v1/chat/completions", "{}")
            assert content(connection.getresponse().read().decode()) == expected
        assert server.connections == 1
        connection.close()


def test_many_clients_are_answered_at_once() -> None:
    everyone = threading.Barrier(9)

    def client() -> None:
        everyone.wait(60)
        post(server)

    with ModelServer(lambda _: "x", latency_s=0.02) as server:
        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        everyone.wait(60)
        server.wait_for(8)
        for thread in threads:
            thread.join()
    assert len(server.requests) == 8


@pytest.mark.parametrize("turns", range(6))
def test_connections_that_come_in_while_it_closes_are_closed(turns: int) -> None:
    """Whatever turn of the loop the server closes at: taken in, with a task that has not begun, or neither."""

    async def answer(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        await incoming.read()
        outgoing.close()

    async def main() -> None:
        async with _serving(answer) as port:
            for _ in range(5):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(turns):
                await asyncio.sleep(0)

    with ExitStack() as clients:
        asyncio.run(main())
        gc.collect()  # what nobody closed complains now, which is an error


def test_other_paths_are_not_found() -> None:
    with ModelServer() as server:
        url = urlsplit(server.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 404
        connection.close()


def test_waiting_for_requests_that_do_not_come_says_so() -> None:
    with ModelServer() as server, pytest.raises(TimeoutError, match="0 of 1 requests"):
        server.wait_for(1, timeout=0.01)


def test_it_cannot_be_entered_twice() -> None:
    with ModelServer() as server, pytest.raises(LabError, match="already serving"):
        server.__enter__()


def test_vary_number_changes_one_number_and_depends_on_the_prompt_alone() -> None:
    def ask(prompt: str) -> str:
        body = json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()
        return vary_number(Request(index=0, method="POST", path="/", headers={}, body=body))

    assert ask(PROMPT) == ask(PROMPT)
    program = ask(PROMPT).split("```python\n")[1].split("```")[0]
    assert program.startswith("def f(x):\n    return x + ")
    assert program.strip() != "def f(x):\n    return x + 3"
    assert "no program" in ask("hello")


def conversation(*, answered: int, task: str = "Build it.", result: str = "ok") -> Request:
    """A request of an agent that has been answered so often."""
    messages: list[dict[str, object]] = [{"role": "system", "content": "s"}, {"role": "user", "content": task}]
    for number in range(answered):
        messages += [{"role": "assistant", "content": None}, {"role": "tool", "content": f"{result} {number}"}]
    body = json.dumps({"messages": messages, "tools": [{"function": {"name": "write"}}]}).encode()
    return Request(index=0, method="POST", path="/", headers={}, body=body)


def test_a_call_is_answered_as_the_protocol_has_it() -> None:
    with ModelServer([Text("I write.", calls=(Call("write", {"path": "a"}), Call("done", "{no json")))]) as server:
        choice = json.loads(post(server)[1])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I write."
    calls = choice["message"]["tool_calls"]
    assert [(call["type"], call["function"]) for call in calls] == [
        ("function", {"name": "write", "arguments": '{"path": "a"}'}),
        ("function", {"name": "done", "arguments": "{no json"}),
    ]
    assert len({call["id"] for call in calls}) == 2


def test_an_agent_plays_its_moves_by_the_conversation_it_is_shown() -> None:
    play = Play((Call("write"), lambda request: Call("done", {"output": request.results[-1]})))
    assert play(conversation(answered=0)) == Call("write")
    assert play(conversation(answered=1)) == Call("done", {"output": "ok 0"})
    assert play(conversation(answered=5)) == Call("done", {"output": "ok 4"})
    assert conversation(answered=1).tools == ["write"]


def test_a_cast_plays_the_part_that_the_task_names() -> None:
    cast = Cast({"QA": Play((Call("read"),)), "Build": Play((Call("write"),))})
    assert cast(conversation(answered=0, task="Build it.")) == Call("write")
    assert cast(conversation(answered=0, task="You are QA. Build nothing.")) == Call("read")
    assert cast(conversation(answered=3, task="Sing.", result="QA")).status == 500
