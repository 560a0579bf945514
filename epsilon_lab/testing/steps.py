"""What the tasks of the topologies' examples do: the same work for a function, a model behind an agent, and a program.

A step gives the words that have reached it, and one of its own, so its output tells what it was given and from whom: a
wrong edge of a graph is a wrong word. What goes wrong with a step that is a function, and when, a test says by files in
a directory that outlives every process: `hold` has each wait until the file is gone (it puts down `held-<task>`), but
for the first so many where a number stands in it; and for one task `once-<task>` has it fail the next time,
`fail-<task>` each time, `die-<task>` take its process along; `talk` has each say its name on the topic `steps`, and put
down in `heard-<task>` what was sent to it. Each execution is a line of the file `ran`.

As a program, `python -m epsilon_lab.testing.steps`, it is what a `Command` runs.
"""

from __future__ import annotations

import json
import os
import re
import select
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from epsilon_lab.agent_sdk import AgentSession
from epsilon_lab.ids import origin

if TYPE_CHECKING:
    from epsilon_lab.search.context import Context
    from epsilon_lab.testing.model_server import Call, Request
    from epsilon_lab.workers.current import CurrentTask

TOPIC = "steps"
_NAMED = re.compile(r"Make (\w+)\.")


def words_in(given: Any) -> set[str]:
    """Collect the words of plain data: texts, of which `Make x.` is the word x, in lists and dicts."""
    match given:
        case str():
            return set(_NAMED.findall(given)) or {given}
        case list() | tuple():
            return set().union(*map(words_in, given))
        case dict():
            return set().union(*map(words_in, given.values()))
    return set()


def written(candidate_id: str) -> str:
    """Write the program of a candidate, as a reply: each is another's better."""
    generation, place = (int(part[1:]) for part in candidate_id.split("-"))
    return f"```python\ndef solve():\n    return {10 * generation + place + 2}\n```"


# -- a function --------------------------------------------------------------------------------------------------------


def step(orders: Path, given: Any) -> list[str]:
    """Do what the files say, and give the words so far; what has a name in the plan adds it, and publishes a file."""
    task, name = _obey(orders)
    if name.startswith(("item-", "reduce-")):
        return sorted(words_in(given))
    own = name.rpartition(".")[2]
    (task.workspace / f"{own}.txt").write_text(own)
    return sorted(words_in(given) | {own})


def propose(orders: Path, context: Context) -> str:
    """The same as a proposer."""
    _obey(orders)
    return written(context.candidate_id).removeprefix("```python\n").removesuffix("```")


def _obey(orders: Path) -> tuple[CurrentTask, str]:
    from epsilon_lab.workers.current import current_task  # noqa: PLC0415 - programs have no use for it

    task = cast("CurrentTask", current_task())
    name = origin(task.task_id)
    with (orders / "ran").open("a") as ran:
        ran.write(f"{task.task_id}\n")
    place = (orders / "ran").read_bytes().count(b"\n")
    once = orders / f"once-{name}"
    if once.exists():
        once.unlink()
        raise ValueError(f"{name} fails once")
    if (orders / f"fail-{name}").exists():
        raise ValueError(f"{name} fails")
    if (orders / f"die-{name}").exists():
        os._exit(3)
    is_talking = (orders / "talk").exists()
    if is_talking:
        task.publish(TOPIC, name)
    while _is_held(orders / "hold", place):
        (orders / f"held-{name}").touch()
        select.select([], [], [], 0.02)
    if is_talking:
        (orders / f"heard-{name}").write_text(json.dumps([message.value for message in task.messages()]))
    return task, name


def _is_held(hold: Path, place: int) -> bool:
    try:
        return place > int(hold.read_text() or 0)
    except FileNotFoundError:
        return False


# -- a model -----------------------------------------------------------------------------------------------------------


def play(request: Request) -> Call:
    """Answer as an agent that does a step: a script for `ModelServer`."""
    from epsilon_lab.testing.model_server import Call  # noqa: PLC0415 - as above

    text = request.task
    if candidate := re.search(r"This is candidate (\S+)\.", text):
        return Call("done", {"output": written(candidate[1])})
    inputs = re.findall(r'"(\w+)"', text[text.find("# Output of") :] if "# Output of" in text else "")
    return Call("done", {"output": sorted({*_NAMED.findall(text), *inputs})})


# -- a program ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Do a step for a lab that has started this as a program."""
    with AgentSession.from_stdio() as session:
        if isinstance(session.item, dict):
            session.done(written(session.item["candidate_id"]))
        else:
            named = set(_NAMED.findall(session.task))
            session.done(sorted(words_in(session.item) | words_in(session.inputs) | named))


if __name__ == "__main__":
    main()
