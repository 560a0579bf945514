"""An outside program is an agent: what it is told, what it may say, and every way in which it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab import Command, Lab, Run, WorkQueue, agent_sdk
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.processes import tree
from epsilon_lab.testing.census import wait_until

SCENE = """
import json, os, sys, time
context = json.loads(sys.stdin.readline())
def say(**fields): print(json.dumps(fields), flush=True)
def hear(): return json.loads(sys.stdin.readline())
exec(context["item"])
"""
"""A program that does what its item says."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "runs", workers=2) as made:
        yield made


def actor(**options: Any) -> Command:
    return Command([sys.executable, "-c", SCENE], **options)


def outputs(lab: Lab, *scenes: str, **options: Any) -> list[Any]:
    run = lab.start(WorkQueue(scenes, actor(**options))).wait(60)
    return run.results()


def error(run: Run, index: int) -> str:
    return str(run.failures.set_index("task_id").error[f"item-{index:06d}"])


# -- what it is told --------------------------------------------------------------------------------------------------


def test_what_it_is_told_and_where_it_is(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene = "open('made', 'w').write('x'); say(type='done', result=[context, os.getcwd(), dict(os.environ)])"
    [[context, cwd, environment], [_, other, _]] = outputs(lab, scene, scene, topics=["a"])
    expected = {"task", "inputs", "failed", "feedback", "workspace", "topics", "pattern", "task_type", "role", "meta"}
    assert expected <= context.keys()
    told = {name: context[name] for name in ("type", "protocol", "agent_id", "item", "attempt", "topics")}
    assert told == {
        "type": "run_context", "protocol": 1, "agent_id": "item-000000", "item": scene, "attempt": 1, "topics": ["a"],
    }  # fmt: skip
    assert cwd == os.path.realpath(context["workspace"]) != other
    assert not {name for name in environment if name.endswith("KEY") or name.startswith("EPSILON")}
    monkeypatch.setenv("TOWN_TOKEN", "open sesame")
    scene = "print(os.environ['TOWN_TOKEN']); say(type='done', result=len(os.environ['TOWN_TOKEN']))"
    run = lab.start(WorkQueue([scene], actor(env=["TOWN_TOKEN"])), env=["TOWN_TOKEN"]).wait(60)
    assert run.results() == [11]
    [log] = (lab.path / run.run_id / "logs").rglob("*.txt")
    assert log.read_text() == "[TOWN_TOKEN]\n"
    run = lab.start(WorkQueue([scene], actor(env=["TOWN_TOKEN"])))
    with pytest.raises(RunFailed, match=r"TOWN_TOKEN looks like a key.* lab.start\(..., env=\['TOWN_TOKEN'\]\)"):
        run.wait(60)
    run = lab.start(WorkQueue([b"bytes"], actor()))
    with pytest.raises(RunFailed, match="cannot be written as JSON"):
        run.wait(60)
    with pytest.raises(InvalidInput, match="no program 'no-such-program'"):
        lab.start(WorkQueue([1], Command(["no-such-program"])))
    with pytest.raises(InvalidInput, match="does not exist"):
        lab.start(WorkQueue([1], Command(["true"], reads=[tmp_path / "missing"])))
    with pytest.raises(InvalidInput, match="'NO_SUCH_VARIABLE' is not set"):
        lab.start(WorkQueue([1], Command(["true"], env=["NO_SUCH_VARIABLE"])))


def test_bad_arguments_are_refused():
    for bad in ([], "echo hello", [1], ["a\0b"], None):
        with pytest.raises(InvalidInput, match="Command argv"):
            Command(bad)  # type: ignore[arg-type]
    refused = {"timeout_s": 0, "memory_mb": -1, "env": "HOME", "topics": [""], "executor": "moon", "reads": "x"}
    refused |= {"confine": "no", "network": 1}
    for name, value in refused.items():
        with pytest.raises(InvalidInput, match=f"Command {name}"):
            Command(["true"], **{name: value})


# -- how it ends ------------------------------------------------------------------------------------------------------

FAILS = {
    "say(type='fail', error='there is no such town')": "there is no such town",
    "say(type='fail', error='so'); sys.exit(9)": "so",
    "pass": "ended without saying done (exit code 0)",
    "print('out'); say(type='log', message='as action'); sys.exit('a last word')": "(exit code 1): a last word",
    "os.kill(os.getpid(), 11)": "ended without saying done (killed by SIGSEGV)",
    "say(type='done', result=1); sys.exit(3)": "said done, and then ended with exit code 3",
    "print('{\"type\": \"done\",', flush=True); assert hear()['type'] == 'error'": "ended without saying done",
    "print('x' * (3 << 20), flush=True); assert hear()['type'] == 'error'": "ended without saying done",
    "sys.stdin.close(); [say(type='check_messages') for _ in range(3)]": "ended without saying done",
    "os.write(1, os.urandom(1 << 20))": "ended without saying done",
    "say(type='dance', id='d'); assert hear()['id'] == 'd'; say(type='fail', error='answered')": "answered",
    "while True: say(type='dance', id='d' * 100_000)": "it does not read its answers",
}

ENDS = {
    "say(type='done', result={'a': [1, 2.5, None, 'é']})": {"a": [1, 2.5, None, "é"]},
    "say(type='done', summary='in words')": "in words",
    "say(type='done')": None,
    "sys.stdin.close(); say(type='done', result=1)": 1,
    "print(*['flood'] * 10**5, sep='\\n'); say(type='done', result=3)": 3,
    "say(type='done', result='x' * 200_000)": "x" * 200_000,
    "say(type='log', message='\\ud83d'); say(type='done', result='\\ud83d, not \\U0001f600')": "?, not 😀",
}


def test_every_way_to_end_is_told_apart(lab: Lab):
    run = lab.start(WorkQueue([*FAILS, *ENDS], actor())).wait(120)
    for index, expected in enumerate(FAILS.values()):
        assert expected in error(run, index)
    assert run.results(failed="none")[len(FAILS) :] == list(ENDS.values())
    row = run.failures.set_index("task_id").loc["item-000003"]
    assert (row.stdout_tail, row.stderr_tail) == ("out\nas action\n", "a last word\n")
    assert "logs/item-000003/" in " ".join(run.frame("artifacts").query("kind == 'log'").path)


def test_who_takes_too_long_is_ended_and_who_only_forgets_to_end_counts(lab: Lab):
    late = lab.start(WorkQueue(["time.sleep(1000)"], actor(timeout_s=1)))
    done = lab.start(WorkQueue(["say(type='done', result=1); time.sleep(1000)"], actor(timeout_s=5)))  # to say so
    with pytest.raises(RunFailed, match="took more than 1 s and was ended"):
        late.wait(60)
    assert done.wait(60).results() == [1]


# -- what it may say --------------------------------------------------------------------------------------------------


def test_programs_talk(lab: Lab):
    asks = (
        "say(type='send_message', target='item-000001', content={'n': 20}, metadata={'why': 'sum'}, id=1)\n"
        "assert hear() == {'type': 'sent', 'id': 1}\n"
        "found = []\n"
        "while not found:\n"
        "    say(type='check_messages'); found = hear()['messages']\n"
        "say(type='done', result=found)"
    )
    gives = (
        "found = []\n"
        "while not found:\n"
        "    say(type='check_messages', id=7); answer = hear(); assert answer['id'] == 7; found = answer['messages']\n"
        "say(type='send_message', target=found[0]['agent_id'], content=found[0]['content']['n'] + 1)\n"
        "say(type='done', result=found)"
    )
    first, second = outputs(lab, asks, gives)
    assert (first[0]["agent_id"], first[0]["content"]) == ("item-000001", 21)
    [got] = second
    assert (got["content"], got["metadata"], got["target"]) == ({"n": 20}, {"why": "sum"}, "item-000001")

    lab.publish("weather", "sun")
    refused = (
        "say(type='send_message', target='nobody', content=1, id=1); first = hear()\n"
        "say(type='request_task', id=2); second = hear()\n"
        "say(type='check_messages'); say(type='done', result=[first, second, hear()['messages']])"
    )
    [[*answers, [message]]] = outputs(lab, refused, topics=["weather"])
    assert [(answer["type"], answer["id"]) for answer in answers] == [("error", 1), ("error", 2)]
    assert (message["content"], message["topic"], message["agent_id"]) == ("sun", "weather", "lab")

    more = (
        "say(type='submit_task', payload='say(type=\\'done\\', result=7)'); say(type='done', result=hear()['task_id'])"
    )
    assert outputs(lab, more) == ["item-000000.1", 7]


# -- nobody is left ---------------------------------------------------------------------------------------------------


def test_its_worker_is_killed_and_nothing_is_left(lab: Lab):
    scene = (
        "import subprocess\n"
        "subprocess.Popen(['sleep', '4321'], start_new_session=True)\n"
        "say(type='send_message', target='lab', content='ready')\n"
        "time.sleep(1000) if context['attempt'] == 1 else say(type='done', result='again')"
    )
    inbox = lab.inbox(timeout_s=60)
    run = lab.start(WorkQueue([scene], actor()))
    assert next(iter(inbox)).value == "ready"
    keeper = next(pid for pid in tree.descendants(os.getpid()) if b"keeper" in _command_line(pid))
    old = [keeper, *tree.descendants(keeper)]
    with open(f"/proc/{keeper}/stat") as file:
        worker = int(file.read().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    assert run.wait(60).results() == ["again"]
    assert wait_until(lambda: not any(map(tree.is_alive, old)), within_s=60)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- the module for agents --------------------------------------------------------------------------------------------

AGENT = """
import subprocess
from {module} import AgentSession

with AgentSession.from_stdio() as session:
    print("kept, and no action")
    session.log("at work on " + session.item)
    session.send(session.item, topic="items")
    if session.item == "bad":
        raise ValueError("that is bad")
    if session.item == "asks":
        session.done(subprocess.run(["cat"], stdout=subprocess.PIPE).stdout.decode() + input())
    if session.item == "odd":
        session.done(set())
    session.done([session.item.upper(), session.messages(), session.feedback, session.inputs])
"""

SHELL_AGENT = r"""#!/bin/sh
read -r context
echo begun
echo '{"type": "check_messages"}'
read -r answer
echo "{\"type\": \"done\", \"result\": $answer}"
"""


def test_the_module_for_agents_also_copied_into_another_project_and_an_agent_in_the_shell(lab: Lab, tmp_path: Path):
    (tmp_path / "copied.py").write_text(Path(agent_sdk.__file__).read_text())
    for module in ("epsilon_lab.agent_sdk", "copied"):
        agent = tmp_path / f"agent_with_{module}.py"
        agent.write_text(AGENT.format(module=module))
        items = ["good", "bad", "asks", "odd"]
        run = lab.start(WorkQueue(items, Command(["python", str(agent)], reads=[tmp_path], timeout_s=30))).wait(60)
        assert run.results(failed="none") == [["GOOD", [], [], {}], None, None, None]
        assert error(run, 1) == "ValueError: that is bad"
        assert error(run, 2) == "EOFError: EOF when reading a line"  # and its child did not wait for the lab's words
        assert error(run, 3) == "TypeError: Object of type set is not JSON serializable"
    shell_agent = tmp_path / "agent.sh"
    shell_agent.write_text(SHELL_AGENT)
    shell_agent.chmod(0o755)
    run = lab.start(WorkQueue([1], Command([str(shell_agent)]))).wait(60)
    assert run.results() == [{"type": "messages", "messages": []}]


def test_the_module_for_agents_is_light_and_says_where_it_belongs():
    code = "import sys; before = set(sys.modules); import epsilon_lab.agent_sdk; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if name.startswith("epsilon_lab")} == {"epsilon_lab", "epsilon_lab.agent_sdk"}
    assert not {"msgspec", "numpy", "anyio"} & set(loaded)
    alone = subprocess.run(
        [sys.executable, "-c", "from epsilon_lab.agent_sdk import *; AgentSession.from_stdio()"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "is this run by a lab" in alone.stderr
