"""The brief task: read the generation's programs, write what they taught, by rule or by a model.

A brief by a model costs a call and may fail; the search does not wait for it in vain. It then goes on with the
deterministic brief, and the brief's author says that this is what happened, and why.
"""

from __future__ import annotations

import msgspec

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.prompt import Prompt
from epsilon_lab.agents.reply import Reply
from epsilon_lab.errors import InvalidInput, LeafFailed, ReplayMismatch
from epsilon_lab.search.brief import BRIEF_FORM, Brief, BriefRow, Generation, brief_prompt, cited, write_brief
from epsilon_lab.search.context import Direction, PublicProblem
from epsilon_lab.search.proposing import load_proposer
from epsilon_lab.search.repair import ask_repairing
from epsilon_lab.search.replay import Replay
from epsilon_lab.workspace.layout import RunDirectory

DETERMINISTIC = "deterministic"
"""The author of a brief that no model wrote."""


class BriefRowRef(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate's row without its program, which lies in the run directory."""

    candidate_id: str
    strategy: str
    parents: tuple[str, ...] = ()
    outcome: str = "scored"
    score: float | None = None
    error: str = ""
    source_ref: str | None = None


class BriefRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a `brief` task (as JSON)."""

    generation: int
    direction: Direction
    rows: tuple[BriefRowRef, ...]
    parents: tuple[BriefRowRef, ...]
    best_id: str | None
    problem_ref: str
    model_ref: str | None = None
    """`code/<sha256>.pkl` of the model, or recording, that writes it."""

    alternatives: dict[str, tuple[str, ...]] = {}
    task: str = ""
    """What a model is asked for besides."""


def compose(payload: object, leaf: Leaf) -> dict[str, object]:
    """Write the deterministic brief: the entry of `brief` tasks in a child process."""
    request = msgspec.convert(payload, BriefRequest)
    generation, _ = _read(request, leaf.run)
    return _result(write_brief(generation), DETERMINISTIC)


async def ask(payload: object, leaf: Leaf) -> dict[str, object]:
    """Let a model, or a recording of one, write the brief: the entry of `brief` tasks on `lab-leaves`.

    Raises:
        ReplayMismatch: The recording has no answer to this prompt.
    """
    request = msgspec.convert(payload, BriefRequest)
    generation, problem = _read(request, leaf.run)
    model = load_proposer(leaf.run, request.model_ref or "")
    if not isinstance(model, LLM | Replay):
        raise InvalidInput("brief", f"must be None, an LLM or a Replay, got {model!r}")

    async def put(prompt: Prompt, call: int) -> Reply:
        return await model.complete(prompt, leaf=leaf, name=leaf.task_id, call=call)

    prompt = brief_prompt(generation, problem.statement, request.task)
    try:
        text, reply = await ask_repairing(put, prompt, _text, form=BRIEF_FORM)
    except ReplayMismatch:
        raise
    except LeafFailed as error:
        return _result(write_brief(generation), f"{DETERMINISTIC} ({error})")
    if isinstance(model, Replay):
        model.check_end(leaf.task_id, reply.call)
    return _result(Brief(text=text + "\n", cited=cited(text, generation.known)), reply.receipt.model)


def _text(reply: Reply) -> str:
    """Take a brief as it is, as long as it is whole: it is read by whoever proposes next, not by us."""
    if reply.receipt.finish_reason == "length":
        raise LeafFailed(f"the reply of {reply.receipt.model} was cut off at its token limit")
    if not (text := reply.text.strip()):
        raise LeafFailed(f"the reply of {reply.receipt.model} was empty")
    return text


def _read(request: BriefRequest, run: RunDirectory) -> tuple[Generation, PublicProblem]:
    def row(ref: BriefRowRef) -> BriefRow:
        source = run.read_text(ref.source_ref) if ref.source_ref and run.exists(ref.source_ref) else None
        fields = {name: getattr(ref, name) for name in BriefRow.__struct_fields__ if name != "source"}
        return BriefRow(source=source, **fields)

    problem = msgspec.json.decode(run.read_bytes(request.problem_ref), type=PublicProblem)
    generation = Generation(
        number=request.generation,
        direction=request.direction,
        rows=tuple(map(row, request.rows)),
        parents=tuple(map(row, request.parents)),
        best_id=request.best_id,
        seed_source=problem.source,
        alternatives=request.alternatives,
    )
    return generation, problem


def _result(brief: Brief, author: str) -> dict[str, object]:
    """The output of a `brief` task. The author is `deterministic`, with the reason in brackets where a model failed."""
    return {"text": brief.text, "author": author, "cited": list(brief.cited)}
