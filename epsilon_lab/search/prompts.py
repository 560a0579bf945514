"""A context as messages to a model, and a model's reply as a program.

Both directions are pure: the same context gives the same bytes, which is what lets a recorded reply be matched to its
prompt. The candidate's id is part of the prompt, so that two fresh candidates of a generation are two questions even to
a model that always answers the same. A model is asked for a whole program, which either parses or does not; where the
program it starts from is long, it may give edit blocks instead, which cost a tenth of the tokens (see edits.py).

Of several code blocks the last one that parses and defines the entry counts: models think aloud first and answer last.
"""

from __future__ import annotations

import ast
import re
import textwrap

from epsilon_lab.agents.prompt import Message, Prompt
from epsilon_lab.errors import ProposalFailed
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.search.context import Context, Shown
from epsilon_lab.search.edits import apply_edits, find_edits
from epsilon_lab.search.sources import parse

SHOWN_LIMIT = 30_000
"""Characters of a program, and FEEDBACK_LIMIT of a feedback, that a prompt shows; what is cut is said."""

FEEDBACK_LIMIT = 500

EDITS_FROM = 2_000
"""Characters of a program from which on its change may be given as edit blocks."""

_SYSTEM = """\
You improve programs. You are given a problem and programs that were tried on it, each with the score that a judge \
measured. The judge runs your program in isolation, without network, and scores what it returns; it checks the result, \
so a program that games the measurement is worth nothing.

Answer with one or two sentences on your idea, then the program. """

_WHOLE = "Give the whole program in one ```python block: complete, ready to run, nothing left out."

_EDITS = """\
Give the whole program in one ```python block, complete and ready to run, or, if most of {base} stays as it is, the \
changes to {base} as edit blocks of this form:

<<<<<<< SEARCH
lines of {base}, copied exactly, as many as it takes to be found in it only once
=======
the lines that take their place
>>>>>>> REPLACE"""

_TASKS = {
    "fresh": "Write a program of your own for this problem. Look for an idea that the seed program does not have.",
    "diverse": "Improve the parent program below by an idea that is not in it yet: another algorithm or data "
    "structure rather than another constant.",
    "offspring": "Write a program that combines what is best in the parent programs below and scores better than "
    "either.",
}

_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,})[ \t]*(?P<language>[^\s`]*)[^\n`]*\n(?P<body>.*?)^[ \t]*(?P=fence)`*[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_OPENING = re.compile(r"^[ \t]*`{3,}", re.MULTILINE)
_PYTHON = ("python", "python3", "py")


def render(context: Context, *, entry: str = "") -> Prompt:
    """Write the messages that ask for a candidate.

    Args:
        context: What the proposer is shown.
        entry: The function that the judge's side calls, named in the instructions; empty where it is not known.
    """
    problem = context.problem
    better = "higher" if problem.direction == "maximize" else "lower"
    parts = [
        f"# Problem: {problem.name}\n\n{problem.statement.strip()}\n\nOf two scores the {better} is better.",
        f"## The seed program\n\n{_fenced(problem.source)}",
    ]
    if context.strategy != "fresh":
        parents = {parent.candidate_id for parent in context.parents}
        parts += [_program("Parent", parent) for parent in context.parents]
        parts += [_program("Among the best so far", one) for one in context.top if one.candidate_id not in parents]
        if context.best.candidate_id not in parents | {one.candidate_id for one in context.top}:
            parts.append(_program("Best so far", context.best))
    if context.brief.strip():
        parts.append(f"## What the last generation taught\n\n{context.brief.strip()}")
    keep = (
        f"It must define `{entry}`, called as in the seed program." if entry else "Keep the seed program's interface."
    )
    parts.append(f"## Your task\n\nThis is candidate {context.candidate_id}. {_TASKS[context.strategy]} {keep}")
    return (Message("system", _SYSTEM + reply_form(context)), Message("user", "\n\n".join(parts) + "\n"))


def base_of(context: Context) -> Shown:
    """The program that edit blocks change: the first parent, or the seed program where there is none."""
    if context.strategy != "fresh" and context.parents:
        return context.parents[0]
    return Shown(candidate_id=SEED_CANDIDATE, source=context.problem.source, score=None)


def reply_form(context: Context) -> str:
    """Say what form a reply must have, as a sentence for the model."""
    base = base_of(context)
    if context.strategy == "fresh" or len(base.source) < EDITS_FROM:
        return _WHOLE
    return _EDITS.format(base=base.candidate_id)


def parse_reply(text: str, *, entry: str = "", finish_reason: str = "stop", base: Shown | None = None) -> str:
    """Take the program out of a reply: what its edit blocks make of the base, or the whole program it holds.

    Args:
        text: The reply.
        entry: A function the program must define; empty for none.
        finish_reason: Why the model stopped, as its provider says.
        base: The program that edit blocks change; None where there is none.

    Raises:
        ProposalFailed: There is no usable program in it; the message says what is wrong with the reply.
    """
    if finish_reason == "length":
        raise ProposalFailed("the reply was cut off at the model's token limit; raise max_tokens")
    if not text.strip():
        raise ProposalFailed(f"the reply is empty (the model stopped for {finish_reason!r})")
    text = text.replace("\r\n", "\n")
    if edits := find_edits(text):
        if base is None:
            raise ProposalFailed("the reply has edit blocks, but there is no program to edit; give the whole program")
        source = apply_edits(base.source, edits, base=base.candidate_id)
        if problem := _problem(source, entry):
            raise ProposalFailed(f"{base.candidate_id} with the reply's edits {problem}")
        return source
    blocks = [(match["language"].lower(), match["body"]) for match in _BLOCK.finditer(text)]
    programs = [body for language, body in blocks if language in _PYTHON] or [
        body for language, body in blocks if not language
    ]
    if _OPENING.search(_BLOCK.sub("", text)):
        raise ProposalFailed("the reply's last code block is not closed, so its end may be missing")
    if not programs:
        raise ProposalFailed("the reply has no ```python block")
    problems = []
    for body in reversed(programs):
        source = textwrap.dedent(body).strip("\n") + "\n"
        problem = _problem(source, entry)
        if problem is None:
            return source
        problems.append(problem)
    raise ProposalFailed(f"the reply's program {problems[0]}")


def defines(tree: ast.Module, name: str) -> bool:
    """Tell whether a program binds a name at its top level."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=found) | ast.AsyncFunctionDef(name=found) | ast.ClassDef(name=found):
                if found == name:
                    return True
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                return True
            case ast.alias(name=full, asname=short) if (short or full.partition(".")[0]) == name:
                return True
            case ast.Lambda():
                pass
            case _:
                waiting.extend(ast.iter_child_nodes(node))
    return False


def _problem(source: str, entry: str) -> str | None:
    """Tell in a few words why a text is not the program asked for."""
    if not source.strip():
        return "is empty"
    try:
        tree = parse(source)
    except SyntaxError as error:
        return f"does not parse: {error}"
    if entry and not defines(tree, entry):
        return f"does not define {entry}()"
    return None


def _program(title: str, shown: Shown) -> str:
    score = "none" if shown.score is None else f"{shown.score:.10g}"
    lines = [f"## {title}: {shown.candidate_id}, score {score}", ""]
    for name, value in sorted(shown.feedback.items()):
        lines += [f"- {name}: {_cut(' '.join(value.split()), FEEDBACK_LIMIT)}"]
    if shown.feedback:
        lines.append("")
    return "\n".join([*lines, _fenced(shown.source)])


def _fenced(source: str) -> str:
    ticks = max((len(run) for run in re.findall(r"`{3,}", source)), default=2) + 1
    return f"{'`' * ticks}python\n{_cut(source.rstrip(), SHOWN_LIMIT)}\n{'`' * ticks}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … (cut off here: {limit} of {len(text)} characters)"
