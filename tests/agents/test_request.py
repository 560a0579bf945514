"""A request as those who perform it see it: a function by its form, a model as text, a program as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.request import Request
from epsilon_lab.messages.call import Call, Feedback, call_of
from epsilon_lab.messages.values import Value, as_json, pack, stored
from epsilon_lab.workspace.layout import RunDirectory

INPUTS = (("api", stored(pack({"port": 80}))), ("web", stored(pack("a page"))))


@pytest.fixture
def leaf(tmp_path: Path) -> Leaf:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    return Leaf(run, "merge", 1, 7)


def asked(leaf: Leaf, **call: Any) -> Request:
    leaf.request = Request(call_of(as_json(Call(code="00", **call))), leaf)
    return leaf.request


def test_a_function_is_called_by_its_form(leaf: Leaf) -> None:
    assert asked(leaf, argument=stored(pack({1, 2}))).arguments() == ({1, 2},)
    assert asked(leaf, form="inputs", inputs=INPUTS).arguments() == ({"api": {"port": 80}, "web": "a page"},)
    assert asked(leaf, form="outputs", inputs=INPUTS).arguments() == ([{"port": 80}, "a page"],)
    [request] = asked(leaf, form="request", instructions="Merge them.", inputs=INPUTS).arguments()
    assert request == {
        "task": "Merge them.",
        "item": None,
        "inputs": {"api": {"port": 80}, "web": "a page"},
        "failed": {},
        "feedback": [],
        "workspace": str(leaf.run.path / "leaves" / "merge" / "7"),
        "agent_id": "merge",
        "topics": [],
        "meta": {},
    }


def test_a_model_is_sent_no_half_character(leaf: Leaf) -> None:
    assert asked(leaf, argument=stored(pack("caf\udce9"))).text() == "caf?"


def test_an_input_in_a_file_is_read_when_it_is_looked_at(leaf: Leaf) -> None:
    request = asked(leaf, inputs=(("big", stored(Value("file", b"outputs/big.json"))),), instructions="Look.")
    assert request.task == "Look."
    with pytest.raises(FileNotFoundError):
        _ = request.inputs
    leaf.run.save("outputs/big.json", "[1]", kind="output")
    assert request.inputs == {"big": [1]}


def test_a_directory_is_made_for_those_who_ask(leaf: Leaf) -> None:
    request = asked(leaf, form="inputs", inputs=INPUTS)
    assert request.arguments()
    assert request.text()
    assert not (leaf.run.path / "leaves").exists()
    assert request.workspace() == request.workspace()
    assert request.workspace().is_dir()


def test_a_prompt_that_comes_alone_is_the_text_itself_and_all_else_is_told_apart(leaf: Leaf) -> None:
    assert asked(leaf, argument=stored(pack("What?"))).text() == "What?"
    text = asked(
        leaf,
        argument=stored(pack({"a": 1})),
        instructions="Merge them.",
        about={"role": "editor"},
        inputs=INPUTS,
        failed={"docs": "out of paper"},
        feedback=(Feedback("qa", "too long", "e1"), Feedback("person", "and dull")),
        needs_files=("out.md",),
    ).text()
    assert text.split("\n\n") == [
        "Merge them.",
        '# Item\n{\n  "a": 1\n}',
        "# Role\neditor",
        '# Output of api\n{\n  "port": 80\n}',
        "# Output of web\na page",
        "# docs failed\nout of paper",
        "# Feedback on what was done before\n- qa e1: too long\n- person: and dull",
        "# Files to write\n- out.md",
    ]
