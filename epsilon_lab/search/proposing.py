"""The propose task: any proposer, one path.

A model, a recording, an agent, an outside program, a plain function and an async one differ in how they are asked and
in nothing else: the context is built from the run directory, the proposer gives a text, the text is checked, written as
the candidate's program and known by its hash. A plain function runs in a child process and may hang or crash there, and
a program is run by one; what awaits runs on `lab-leaves`, many at once, and so does a recording, which takes the very
path of the model it stands for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import msgspec

from epsilon_lab.agents.function import is_async, load_function, pack_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.prompt import Prompt
from epsilon_lab.agents.reply import Reply
from epsilon_lab.agents.request import Request
from epsilon_lab.agents.work import Performer
from epsilon_lab.errors import InvalidInput, ProposalFailed
from epsilon_lab.ids import name_of as function_name
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.messages.values import as_json, is_text, stored
from epsilon_lab.search.context import Context, PublicProblem, Shown, Strategy
from epsilon_lab.search.prompts import base_of, defines, parse_reply, render, reply_form
from epsilon_lab.search.repair import ask_repairing
from epsilon_lab.search.replay import Proposal, Replay
from epsilon_lab.search.sources import SOURCE_LIMIT, code_hash, parse
from epsilon_lab.workspace.layout import RunDirectory

PROPOSAL_LIMIT_S = 600.0
"""Seconds a proposer that is no model may take for one program; a model has limits of its own."""


class ShownRef(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate that a proposer is shown, without its source, which lies in the run directory."""

    candidate_id: str
    score: float | None = None
    feedback: dict[str, str] = {}
    strategy: str = ""
    generation: int = 0


class ProposeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of a `propose` task (as JSON)."""

    candidate_id: str
    generation: int
    strategy: Strategy
    parents: tuple[ShownRef, ...]
    best: ShownRef
    top: tuple[ShownRef, ...] = ()
    brief_ref: str | None = None
    proposer_ref: str
    """`code/<sha256>.pkl`, see `pack_proposer`."""

    problem_ref: str
    """The public problem, `problem/public.json`."""

    seed: int
    entry: str = ""
    """The function of the program that is called. A model's program must define it if the seed program does."""


class ProposeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a `propose` task (as JSON)."""

    candidate_id: str
    source_ref: str
    code_hash: str
    proposer: str
    prompt_ref: str | None = None
    reply_ref: str | None = None
    prompt_sha256: str | None = None
    """Of the prompt; of the context where there was no prompt. A recording is matched by it."""


class Proposer(Protocol):
    """A proposer of your own that needs more than the context: an object with this method, plain or async."""

    def propose(self, context: Context, leaf: Leaf) -> Proposal | Awaitable[Proposal]:
        """Give a program.

        Raises:
            ProposalFailed: There is none; the message goes into the candidate's row.
        """
        ...


AnyProposer = LLM | Replay | Performer | Proposer | Callable[[Context], Any]


# -- at the start of a run -------------------------------------------------------------------------------------------


def lane_of(proposer: AnyProposer) -> Lane:
    """Tell where a proposer runs.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(proposer, LLM | Replay):
        return "async"
    if isinstance(proposer, Performer) and not isinstance(proposer, type):
        return proposer.lane
    ask = getattr(proposer, "propose", proposer)
    if isinstance(proposer, type) or not callable(ask):
        raise InvalidInput(
            "proposer",
            f"must be None, an LLM, an Agent, a Command, a Replay or a function (context) -> source, got {proposer!r}",
            "give an instance, not a class" if isinstance(proposer, type) else "",
        )
    arguments = ("context",) if ask is proposer else ("context", "leaf")
    try:
        inspect.signature(ask).bind(*arguments)
    except TypeError:
        raise InvalidInput(
            "proposer", f"{name_of(proposer)} cannot be called with ({', '.join(arguments)})", "change its parameters"
        ) from None
    except ValueError:
        pass  # a builtin that tells nothing of its parameters
    return "async" if is_async(ask) else "process"


def limit_s(proposer: AnyProposer | None) -> float:
    """Seconds after which a proposal, or a brief, is given up: for a model, time for every try of both its calls."""
    if isinstance(proposer, LLM):
        return 2 * proposer.longest_s
    return getattr(proposer, "time_limit_s", None) or PROPOSAL_LIMIT_S


def name_of(proposer: AnyProposer) -> str:
    """Name a proposer for rows: a model's name, a recording's, a function's."""
    name = getattr(proposer, "name", None)
    return name if isinstance(name, str) and name else function_name(cast("Callable[..., Any]", proposer))


def pack_proposer(proposer: AnyProposer, run: RunDirectory) -> tuple[str, list[ArtifactSaved]]:
    """Write a proposer, or a model that writes briefs, into the run directory; return its reference.

    Raises:
        InvalidInput: It cannot travel.
    """
    packed = pack_function(cast("Callable[..., Any]", proposer))
    ref = f"code/{packed.sha256}.pkl"
    return ref, [run.save(ref, packed.blob, kind="code")]


def load_proposer(run: RunDirectory, ref: str) -> AnyProposer:
    """Load what `pack_proposer` wrote; unpickles once a process."""
    return load_function(run, ref.removeprefix("code/").removesuffix(".pkl"))


# -- the task --------------------------------------------------------------------------------------------------------


def propose(payload: object, leaf: Leaf) -> dict[str, object]:
    """Ask a plain proposer for a candidate: the entry of `propose` tasks in a child process.

    Raises:
        ProposalFailed: The proposer gave no program.
    """
    task = _Task(payload, leaf)
    return task.settle(task.ask())


async def propose_async(payload: object, leaf: Leaf) -> dict[str, object]:
    """The same for a model, a recording, or a proposer of one's own that awaits, on `lab-leaves`.

    Raises:
        ProposalFailed: The proposer gave no program.
        ModelRefused: The model cannot be used at all.
        ReplayMismatch: A recording has no reply to this question.
    """
    task = _Task(payload, leaf)
    answer = task.ask()
    return task.settle(await answer if inspect.isawaitable(answer) else answer)


class _Task:
    """One candidate on its way from request to program."""

    def __init__(self, payload: object, leaf: Leaf) -> None:
        self.request = msgspec.convert(payload, ProposeRequest)
        self.leaf = leaf
        self.proposer = load_proposer(leaf.run, self.request.proposer_ref)
        self.context = _context(self.request, leaf.run)
        self.digest = self.context.digest  # before user code could change what it is shown

    def ask(self) -> Any:
        """Put the question in the way the proposer understands; the answer may have to be awaited."""
        match self.proposer:
            case LLM() | Replay():
                return _ask_model(self.proposer, self.context, self.leaf, self._entry())
            case Performer(lane="process"):
                return self._read(self.proposer.perform(self._request(self.proposer), self.leaf))
            case Performer():
                return self._performed(self.proposer)
            case _ if hasattr(self.proposer, "propose"):
                return self.proposer.propose(self.context, self.leaf)
            case _:
                return self.proposer(self.context)

    def settle(self, answer: object) -> dict[str, object]:
        """Check the program, write it, and say what it is."""
        proposal = answer if isinstance(answer, Proposal) else Proposal(source=answer, prompt_sha256=self.digest)
        source = _checked(proposal.source)
        source_ref = f"candidates/{self.request.candidate_id}.py"
        self.leaf.save(source_ref, source, kind="source")
        result = ProposeResult(
            candidate_id=self.request.candidate_id,
            source_ref=source_ref,
            code_hash=code_hash(source),
            proposer=name_of(self.proposer),
            prompt_ref=proposal.prompt_ref,
            reply_ref=proposal.reply_ref,
            prompt_sha256=proposal.prompt_sha256 or self.digest,
        )
        return cast("dict[str, object]", msgspec.to_builtins(result))

    async def _performed(self, agent: Performer) -> str:
        await self.leaf.open_workspace()
        return self._read(await agent.perform(self._request(agent), self.leaf))

    def _request(self, performer: Performer) -> Request:
        """What an agent or a program is asked: what a model is; who asks none is given the context as data as well."""
        words = "\n\n".join(message.content for message in render(self.context, entry=self._entry()))
        data = None if getattr(performer, "asks_model", False) else stored(as_json(self.context))
        code = self.request.proposer_ref.removeprefix("code/").removesuffix(".pkl")
        call = Call(code=code, form="request", argument=data, instructions=words)
        self.leaf.request = Request(call, self.leaf)
        return self.leaf.request

    def _read(self, answer: object) -> str:
        """Take the program out of an answer, as out of a model's reply."""
        if not isinstance(answer, str):
            raise ProposalFailed(f"the proposer returned a {type(answer).__name__}; {reply_form(self.context)}")
        return parse_reply(answer, entry=self._entry(), base=base_of(self.context))

    def _entry(self) -> str:
        return _kept_entry(self.context.problem.source, self.request.entry)


@functools.lru_cache(maxsize=16)
def _kept_entry(seed_program: str, entry: str) -> str:
    """The function a program must define; a seed program without it is run in some other way."""
    try:
        return entry if defines(parse(seed_program), entry) else ""
    except SyntaxError:
        return ""


async def _ask_model(model: LLM | Replay, context: Context, leaf: Leaf, entry: str) -> Proposal:
    name = context.candidate_id
    if isinstance(model, Replay) and (proposal := model.recall(context)) is not None:
        return proposal

    async def ask(prompt: Prompt, call: int) -> Reply:
        return await model.complete(prompt, leaf=leaf, name=name, call=call, candidate_id=name)

    def read(reply: Reply) -> str:
        return parse_reply(reply.text, entry=entry, finish_reason=reply.receipt.finish_reason, base=base_of(context))

    source, reply = await ask_repairing(ask, render(context, entry=entry), read, form=reply_form(context))
    if isinstance(model, Replay):
        model.check_end(name, reply.call)
    return Proposal(
        source=source,
        prompt_ref=reply.prompt_ref,
        reply_ref=reply.reply_ref,
        prompt_sha256=reply.receipt.prompt_sha256,
    )


@functools.lru_cache(maxsize=64)
def _program(run: RunDirectory, candidate_id: str) -> str:
    """The program of a candidate that was settled, which stays as it is; many proposals are shown the same few."""
    return run.read_text(f"candidates/{candidate_id}.py")


def _context(request: ProposeRequest, run: RunDirectory) -> Context:
    def shown(ref: ShownRef) -> Shown:
        return Shown(source=_program(run, ref.candidate_id), **msgspec.structs.asdict(ref))

    return Context(
        candidate_id=request.candidate_id,
        generation=request.generation,
        strategy=request.strategy,
        parents=tuple(map(shown, request.parents)),
        best=shown(request.best),
        top=tuple(map(shown, request.top)),
        brief=run.read_text(request.brief_ref) if request.brief_ref else "",
        problem=msgspec.json.decode(run.read_bytes(request.problem_ref), type=PublicProblem),
        seed=request.seed,
    )


def _checked(source: object) -> str:
    match source:
        case str() if not source.strip():
            problem = "an empty str"
        case str() if len(source) > SOURCE_LIMIT:
            problem = f"{len(source)} characters, more than the {SOURCE_LIMIT} of a program"
        case str() if not is_text(source):
            problem = "a str that is not text (it cannot be encoded as UTF-8)"
        case str():
            return source.removeprefix("\ufeff")  # a byte order mark is no part of a program
        case None:
            problem = "None"
        case _:
            problem = f"a {type(source).__name__}"
    if inspect.iscoroutine(source):
        source.close()  # it would complain that nobody awaited it
        problem = "a coroutine of a plain function; define it with `async def`"
    raise ProposalFailed(f"the proposer returned {problem}; return the program's source as a str")
