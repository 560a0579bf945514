"""Whatever a program writes becomes steps: actions, answers to what cannot be done, or its log; never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.agents.line_protocol import LINE_LIMIT, Answer, Check, Dialogue, Over, Said, Step, Submit, Tell


def heard(*parts: bytes) -> list[Step]:
    dialogue = Dialogue()
    return [step for part in parts for step in dialogue.heard(part)] + list(dialogue.ended())


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@pytest.mark.parametrize(
    ("said", "step"),
    [
        (b"plain text\n", Said("plain text")),
        (b"[1, 2]\n", Said("[1, 2]")),
        (b'{"kind": "log"}\n', Said('{"kind": "log"}')),
        (b'{"type": 3}\n', Said('{"type": 3}')),
        (b"\xff\xfe\r\n", Said("��")),
        (line(type="log", message="hello"), Said("hello")),
        (line(type="log", message={"a": 1}), Said('{"a": 1}')),
        (line(type="send_message", content="hi"), Tell(None, "general", "hi", None)),
        (line(type="send_message", content=[1], topic="best", id=7), Tell(None, "best", [1], 7)),
        (
            line(type="send_message", content=1, target="lab", metadata={"a": 2}),
            Tell("lab", "general", {"content": 1, "metadata": {"a": 2}}, None),
        ),
        (line(type="check_messages"), Check(50, None)),
        (line(type="check_messages", limit=3, id="x"), Check(3, "x")),
        (line(type="submit_task", payload={"a": 1}, id=1), Submit({"a": 1}, 1)),
        (line(type="done"), Over(None)),
        (line(type="done", summary="all"), Over("all")),
        (line(type="done", summary="all", result=None), Over(None)),
        (line(type="done", result={"n": 1}), Over({"n": 1})),
        (line(type="fail", error="no input"), Over(error="no input")),
        (line(type="fail"), Over(error="it gave no reason")),
    ],
)
def test_a_line_becomes_a_step(said: bytes, step: Step):
    assert heard(said) == [step]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": "dance", "id": 4}, "there is no action 'dance'"),
        ({"type": "send_message", "id": 4}, "there is no content"),
        ({"type": "send_message", "content": 1, "topic": 2, "id": 4}, "must be texts"),
        ({"type": "check_messages", "limit": 0, "id": 4}, "at least 1"),
        ({"type": "check_messages", "limit": True, "id": 4}, "at least 1"),
        ({"type": "submit_task", "id": 4}, "there is no payload"),
        *(({"type": name, "id": 4}, "to its workers") for name in ("request_task", "renew_task", "complete_task")),
        ({"type": "fail_task", "id": 4}, "to its workers"),
    ],
)
def test_what_cannot_be_done_is_answered_once_with_its_id(fields: dict[str, Any], reason: str):
    [answer] = heard(line(**fields))
    assert isinstance(answer, Answer)
    told = json.loads(answer.line)
    assert (told["type"], told["id"], told["action"]) == ("error", 4, fields["type"])
    assert reason in told["reason"]


def test_a_line_that_was_meant_as_an_action_is_said_to_be_broken():
    answer, said = heard(b'{"type": "done", "result": \n')
    assert isinstance(answer, Answer)
    assert "not valid JSON" in answer.fields["reason"]
    assert isinstance(said, Said)


def test_lines_come_in_any_pieces():
    whole = line(type="log", message="é") * 2 + b"tail"
    for cut in range(len(whole)):
        assert heard(whole[:cut], whole[cut:]) == [Said("é"), Said("é"), Said("tail")]


def test_a_line_without_end_is_dropped_and_said_and_the_next_one_read():
    steps = heard(b"x" * LINE_LIMIT, b"x" * LINE_LIMIT, b"x\n" + line(type="done", result=1))
    said, answer, over = steps
    assert isinstance(said, Said)
    assert len(said.text) < 300
    assert isinstance(answer, Answer)
    assert "more than 1048576 bytes" in answer.fields["reason"]
    assert over == Over(1)


def test_after_the_end_everything_is_log():
    assert heard(line(type="done", result=1), line(type="fail", error="x")) == [
        Over(1),
        Said('{"type": "fail", "error": "x"}'),
    ]


def test_nesting_without_end_is_no_crash():
    steps = heard(b'{"type": ' + b"[" * 200_000 + b"\n")
    assert isinstance(steps[0], Answer)


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b'{"type":"log"}\n', b'{"type":', b"\n", b"{}\n"]))))
def test_whatever_is_written_is_heard_the_same_in_any_pieces(parts: list[bytes]):
    steps = heard(*parts)
    assert heard(b"".join(parts)) == steps
    for step in steps:
        if isinstance(step, Answer):
            json.loads(step.line)
