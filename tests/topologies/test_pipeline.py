"""What a pipeline refuses, and how it reads its stages, before anything is spent."""

import json

import msgspec
import pytest

from epsilon_lab import LLM, Agent, Person, Pipeline
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import call_of
from epsilon_lab.messages.events import TasksSubmitted, task_spec
from epsilon_lab.workspace.layout import RunDirectory
from tests.topologies.test_judged_plan import Play

AGENT = Agent(LLM("http/tiny", api_base="http://127.0.0.1:9", api_key_env="LAB_TEST_KEY"))


def clean(text):
    return text


def good(text):
    return None


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], r"Pipeline stages: are none"),
        ("  ", r"Pipeline stages: are blank"),
        ("Write about owls.", r"Pipeline stages: are a sentence, and there is no agent"),
        ({"a": clean}, r"Pipeline: \$\.a: is not a field"),
        ({"stages": []}, r"Pipeline: \$\.stages: must be a list of one or more stages, got \[\]"),
        ({"stages": [{"id": "a"}]}, r"Pipeline: \$\.stages\[0\]\.task: is missing"),
        (3, r"Pipeline stages: must be a list, a dict or a sentence, got int"),
        ([3], r"Pipeline: \$\.stages\[0\]\.task: must be a function"),
        ([clean, "Say it better."], r"Pipeline: \$\.stages\[1\]\.task: is a text, and there is no agent to do it"),
        ([clean, {"id": "x"}], r"Pipeline: \$\.stages\[1\]\.task: is missing"),
        ([{"task": clean, "gait": good}], r"Pipeline: \$\.stages\[0\]\.gait: .*did you mean gate\?"),
        ([{"task": clean, "id": "a b"}], r"Pipeline: \$\.stages\[0\]\.id: must be an id"),
        ([{"task": clean, "id": "qa"}], r"Pipeline: \$\.stages\[0\]\.id: 'qa' names a task of the run itself"),
        ([{"task": clean, "id": "a"}, {"task": clean, "id": "a"}], r"\$\.stages\[1\]\.id: 'a' is the id of another"),
        ([{"task": clean, "id": "a"}, {"task": clean, "id": "a.gate"}], r"\$\.stages\[1\]\.id: 'a.gate' is the id of"),
        ([{"task": clean, "gate": 7}], r"Pipeline: \$\.stages\[0\]\.gate: must be a function"),
        ([{"task": clean, "gate": "must be short"}], r"\$\.stages\[0\]\.gate: is a text, and there is no agent"),
        ([{"task": clean, "gate": {"options": ["yes"]}}], r"\$\.stages\[0\]\.gate.*two or more"),
        (
            [{"task": clean, "gate": {"option": ["yes"]}}],
            r"\$\.stages\[0\]\.gate\.option: .*its fields are question, options,",
        ),
        ([{"task": "nowhere:nothing"}], r"\$\.stages\[0\]\.task: nowhere cannot be imported"),
        ([{"task": clean, "retries": -1}], r"\$\.stages\[0\]\.retries: must be a whole number"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_its_place(stages, words):
    with pytest.raises(InvalidInput, match=words):
        Pipeline(stages)


@pytest.mark.parametrize("more", [{"retries": -1}, {"time_limit_s": 0}, {"assign": clean}, {"fix_waves": "x"}])
def test_an_argument_that_will_not_do_is_refused_by_name(more):
    with pytest.raises(InvalidInput, match=f"Pipeline {next(iter(more))}"):
        Pipeline([clean], **more)


def test_a_named_agent_that_is_not_there_is_refused():
    with pytest.raises(InvalidInput, match=r"\$\.stages\[0\]\.agent: there is no agent 'bo'; name one of 'ann'"):
        Pipeline([{"task": "Write.", "agent": "bo"}], agent={"ann": AGENT})


def test_stages_are_named_after_their_functions_each_once():
    made = Pipeline([clean, clean, lambda text: text])
    assert made.title == "clean → clean-2 → stage-3"
    assert repr(made) == "<Pipeline clean → clean-2 → stage-3>"


def test_one_gate_stands_behind_every_stage_that_names_none(tmp_path):
    person = Person(question="Fit?")
    made = Pipeline([clean, {"task": clean, "id": "b", "gate": person}], gate=good)
    assert made.config()["gates"] == {"clean": "good", "b": "person"}


def test_a_text_is_judged_by_the_agent_which_answers_by_a_schema(tmp_path):
    made = Pipeline([{"task": clean, "gate": "It is short."}], agent=AGENT)
    made.prepare(RunDirectory(tmp_path))
    [gate] = json.loads((tmp_path / "plan.json").read_text())["gates"].values()
    assert gate["judge"]["call"]["about"] == {"stage": "clean", "what_must_hold": "It is short."}


def test_a_manifest_names_functions_in_files_beside_it_and_its_mistakes_by_their_place(tmp_path):
    (tmp_path / "work.py").write_text("def run(request):\n    return 1\n\ndef good(request):\n    return True\n")
    stages = [
        {"id": "a", "role": "writer", "task": "work.py:run", "gate": "work.py:good", "acceptance": ["short"]},
        {"id": "b", "task": "work.py:run", "gate": {"question": "Fit?", "options": ["yes", "no"]}, "retries": 2},
    ]
    path = tmp_path / "line.json"
    path.write_text(json.dumps({"stages": stages, "input": [1, 2]}))
    made = Pipeline.from_manifest(path)
    assert (made.title, made.config()["gates"]) == ("line", {"a": "good", "b": "person"})
    made.prepare(RunDirectory(tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["input"] == {"json": [1, 2]}
    path.write_text(json.dumps({"stages": [{"id": "a", "task": "../work.py:run"}]}))
    with pytest.raises(InvalidInput, match=r"\$\.stages\[0\]\.task"):
        Pipeline.from_manifest(path)
    path.write_text(json.dumps({"stages": []}))
    with pytest.raises(InvalidInput, match=r"\$\.stages"):
        Pipeline.from_manifest(path)


@pytest.mark.parametrize("number", [2, 11])
def test_a_sentence_comes_to_three_to_ten_stages_and_its_agent_is_told_so(tmp_path, number):
    def parts(many):
        return {"nodes": [{"id": f"s{place}", "task": "write"} for place in range(many)]}

    answers = {"decompose": parts(number), "decompose~2": parts(3)}
    topology = Pipeline("Write about owls.", agent=clean)
    asked = {}

    def answer(task):
        asked[task.task_id] = call_of(task.payload)
        return answers.get(task.task_id, "done")

    play = Play(topology, tmp_path / "r", answer).play()
    assert "3 to 10 nodes" in asked["decompose"].instructions
    [why] = asked["decompose~2"].feedback
    assert f"must be 3 to 10 of them, got {number}" in why.text
    assert play.state.status == "completed"
    assert play.ran == ["decompose", "decompose~2", "s0", "s1", "s2"]


def test_stages_may_be_a_dict_with_their_input(tmp_path):
    document = {"stages": [clean, {"id": "b", "task": clean}], "input": "owls"}
    for place, (more, given) in enumerate([({}, "owls"), ({"input": "moths"}, "moths")]):
        pipeline = Pipeline(document, **more)
        assert pipeline.title == "clean → b"
        play = Play(pipeline, tmp_path / f"r{place}", lambda task: call_of(task.payload).argument is None).play()
        [first, _] = [task for each in play.told(TasksSubmitted) for task in each.tasks]
        asked = call_of(task_spec(first).payload)
        assert msgspec.json.decode(asked.argument.json) == given


def test_whoever_does_words_is_given_the_request_that_has_them(tmp_path):
    asked = {}

    def answer(task):
        asked[task.task_id] = call_of(task.payload)
        return True

    pipeline = Pipeline([clean, {"id": "b", "task": "write", "gate": "nothing is missing"}], agent=good)
    assert Play(pipeline, tmp_path / "r", answer).play().state.status == "completed"
    assert (asked["clean"].form, asked["b"].form, asked["b.gate"].form) == ("last", "request", "request")
    assert asked["b"].instructions == "write"
    assert asked["b.gate"].about["what_must_hold"] == "nothing is missing"


def test_an_agent_beside_a_function_is_refused():
    with pytest.raises(InvalidInput, match=r"\$\.stages\[0\]\.agent: does what is said in words"):
        Pipeline([{"task": clean, "agent": AGENT}])
