"""The manifest of a population search: Epsilon's document as a `Problem` and the arguments of a search.

What has no counterpart here is an agent with tools that reads files and writes others: a proposer is shown everything
in its prompt and answers with a program. So the files that the templates name are put into the statement. And a handler
never loads a candidate: it is given what the candidate's program returned, see handler.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.handler import scorer
from epsilon_lab.search.problem import Problem
from epsilon_lab.topologies.manifest import Count, Manifest, Natural, Table, Text

_SCALARS = (str, int, float, bool, type(None))
_FENCES = {".json": "json", ".md": "markdown", ".py": "python", ".csv": "csv"}
_LIMITS = ("timeout_s", "memory_mb", "output_mb", "judge_timeout_s", "repeats", "scorers")

_SAID_ANYWAY = dict.fromkeys(
    ("candidate_id", "generation_index", "strategy"), "every prompt says this by itself: take it out"
)

Positive = Annotated[float, Meta(gt=0, description="a number above 0")]


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document; everything but the payloads is required, as there."""

    task_ref: Text
    output_root: Text
    candidate_task_template: Text
    review_task_template: Text
    evaluation_handler: Text
    population_size: Annotated[int, Meta(ge=2, le=100_000, description="a whole number from 2 to 100000")]
    elite_count: Count
    diversity_count: Natural
    fresh_count: Natural
    review_top_k: Count
    score_field: Text
    score_direction: Annotated[Literal["maximize", "minimize"], Meta(description="'maximize' or 'minimize'")]
    max_generations: Count
    max_wall_time_seconds: Positive
    min_improvement_delta: Annotated[float, Meta(ge=0, description="a number of at least 0")]
    patience_generations: Count
    evaluation_payload: Table = {}
    candidate_payload: Table = {}
    review_payload: Table = {}


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as a problem and what a search takes besides."""

    problem: Problem
    arguments: dict[str, Any]
    output_root: str
    brief_task: str


def read_search(path: str | Path) -> Search:
    """Read a manifest; see `PopulationSearch.from_manifest`.

    Raises:
        InvalidInput: Naming the place in the document.
    """
    manifest = Manifest(path, Fields)
    fields = manifest.values
    counts = (fields.elite_count, fields.diversity_count, fields.fresh_count)
    if sum(counts) > fields.population_size:
        raise manifest.refused(
            "$.elite_count + $.diversity_count + $.fresh_count",
            f"{' + '.join(map(str, counts))} is more than population_size, {fields.population_size}",
            "raise that or lower one of them",
        )
    root = manifest.locate("$.output_root", fields.output_root)
    review = _fill(manifest, "review", input_ref="the results above", output_ref="your answer")
    return Search(
        problem=_problem(manifest),
        arguments={
            "population": fields.population_size,
            "generations": fields.max_generations,
            "elites": fields.elite_count,
            "diverse": fields.diversity_count,
            "fresh": fields.fresh_count,
            "top_k": fields.review_top_k,
            "patience": fields.patience_generations,
            "min_delta": fields.min_improvement_delta,
            "wall_time_s": fields.max_wall_time_seconds,
        },
        output_root=str(root),
        brief_task=review,
    )


def _problem(manifest: Manifest[Fields]) -> Problem:
    fields = manifest.values
    task = manifest.read_text("$.task_ref", fields.task_ref)
    about = _about(manifest, task)
    entry, seed_ref = (about[name] for name in ("function_name", "baseline_solution_ref"))
    handler = manifest.handler("$.evaluation_handler", fields.evaluation_handler, "output", "payload")
    statement = _fill(manifest, "candidate", input_ref=fields.task_ref, output_ref="solution.py")
    inputs = fields.candidate_payload.get("inputs", [])
    if not isinstance(inputs, list):
        raise manifest.refused("$.candidate_payload.inputs", "must be a list, the arguments of the call")
    limits = {name: fields.evaluation_payload[name] for name in _LIMITS if name in fields.evaluation_payload}
    try:
        return Problem(
            name=about["title"] or manifest.path.stem,
            statement=f"{statement.strip()}\n\n## {fields.task_ref}\n\n{_fenced(fields.task_ref, task)}\n",
            source=manifest.read_text(about["place"], seed_ref),
            entry=entry,
            inputs=inputs,
            score=scorer(handler, fields.evaluation_payload, fields.score_field),
            direction=fields.score_direction,
            files=_files(manifest, "candidate", fields.candidate_payload),
            judge_files=_files(manifest, "evaluation", fields.evaluation_payload),
            **limits,
        )
    except InvalidInput as error:
        if str(error).startswith(f"{manifest.path.name}: "):
            raise
        places = {"source": about["place"], "inputs": "$.candidate_payload.inputs"}
        places |= {name: f"$.evaluation_payload.{name}" for name in limits}
        if (argument := error.what.removeprefix("Problem ")) in places:
            raise manifest.refused(places[argument], str(error).removeprefix(f"{error.what}: ")) from error
        raise InvalidInput(manifest.path.name, f"as a problem: {error}") from error


def _about(manifest: Manifest[Fields], task: str) -> dict[str, str]:
    """Name, entry and seed program: the candidates' payload says so, or else the task file, where it is JSON."""
    fields = manifest.values
    sources: list[tuple[str, object]] = [("$.candidate_payload", fields.candidate_payload)]
    if fields.task_ref.endswith(".json"):
        try:
            sources.append((f"$.task_ref: {fields.task_ref}: $", msgspec.json.decode(task)))
        except (msgspec.DecodeError, RecursionError) as error:
            raise manifest.refused("$.task_ref", f"{fields.task_ref} is not JSON: {error}") from error
    found: dict[str, str] = {}
    for place, document in sources:
        if not isinstance(document, dict):
            raise manifest.refused(place, "must be an object")
        for name in ("title", "function_name", "baseline_solution_ref"):
            value = document.get(name)
            if value is None or name in found:
                continue
            if not isinstance(value, str) or not value.strip():
                raise manifest.refused(f"{place}.{name}", f"must be a text that is not blank, got {value!r}")
            found[name] = value
            found[f"{name} at"] = f"{place}.{name}"
    for name, what in (("function_name", "the function that is called"), ("baseline_solution_ref", "a first program")):
        if name not in found:
            raise manifest.refused(
                f"$.candidate_payload.{name}", "is missing", f"name {what} there, or in a task_ref that is JSON"
            )
    return {"title": "", **found, "place": found["baseline_solution_ref at"]}


def _files(manifest: Manifest[Fields], whose: str, payload: dict[str, Any]) -> dict[str, bytes]:
    """The files that a payload lists, by their own names."""
    place = f"$.{whose}_payload.files"
    refs = payload.get("files", [])
    if not isinstance(refs, list) or not all(isinstance(ref, str) for ref in refs):
        raise manifest.refused(place, "must be a list of files")
    found: dict[str, bytes] = {}
    for index, ref in enumerate(refs):
        name = Path(ref).name
        if name in found:
            raise manifest.refused(f"{place}[{index}]", f"is the second file of the name {name!r}")
        found[name] = manifest.read(f"{place}[{index}]", ref)
    return found


def _fill(manifest: Manifest[Fields], whose: str, **values: object) -> str:
    fields = manifest.values
    payload: dict[str, Any] = getattr(fields, f"{whose}_payload")
    values |= {
        "task_ref": fields.task_ref,
        "score_field": fields.score_field,
        "score_direction": fields.score_direction,
        "payload_json": msgspec.json.encode(payload, order="sorted").decode(),
        **{f"payload_{name}": value for name, value in payload.items() if isinstance(value, _SCALARS)},
    }
    return manifest.fill(
        f"$.{whose}_task_template", getattr(fields, f"{whose}_task_template"), values, remedies=_SAID_ANYWAY
    )


def _fenced(ref: str, text: str) -> str:
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return f"{ticks}{_FENCES.get(Path(ref).suffix, '')}\n{text.strip()}\n{ticks}"
