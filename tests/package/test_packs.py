"""Settings of a piece of work: who wins, how that is told, and what is refused with its place and the nearest name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab import Budget, Settings
from epsilon_lab.errors import InvalidInput
from epsilon_lab.packs import NOT_TAKEN, Pack

PACKS: dict[str, Any] = {
    "defaultSettingsPack": "slow",
    "settingsPacks": {
        "slow": {"description": "with time", "model": "openai/big", "max_iterations": 100, "max_tokens": 4096,
                 "max_runtime_seconds": 600, "budget": {"usd": 2.5, "calls": 40}},
        "fast": {"model": "openai/small", "max_iterations": 10, "api_key_env": "MY_KEY"},
    },
    "delegate_llm": {"enabled": True, "default_model": "b", "allowed_models": ["a", "b"]},
}  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Any:
    def write(document: object) -> Path:
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(document))
        return path

    return write


def test_what_is_nearest_wins_and_says_so(manifest, monkeypatch):
    monkeypatch.setenv("EPSILON_MAX_ITERATIONS", "20")
    monkeypatch.setenv("EPSILON_MAX_TOKENS", "1000")
    settings = Settings.load(manifest(PACKS), max_iterations=5)
    assert (settings.model, settings.max_tokens, settings.max_iterations) == ("openai/big", 1000, 5)
    assert settings.max_waves is None
    assert settings.origin == {
        "model": "manifest.json $.settingsPacks.slow",
        "max_runtime_seconds": "manifest.json $.settingsPacks.slow",
        "budget": "manifest.json $.settingsPacks.slow",
        "max_tokens": "EPSILON_MAX_TOKENS",
        "max_iterations": "argument",
        "delegates": "manifest.json $.delegate_llm",
    }
    assert settings.budget == Budget(usd=2.5, calls=40)
    assert settings.delegates == ("b", "a")
    assert "max_tokens=1000 (EPSILON_MAX_TOKENS)" in repr(settings)
    assert "<td>EPSILON_MAX_TOKENS</td>" in settings._repr_html_()


def test_a_pack_is_picked_by_name(manifest):
    settings = Settings.load(manifest(PACKS), pack="fast")
    assert (settings.model, settings.api_key_env, settings.budget) == ("openai/small", "MY_KEY", None)


def test_without_a_manifest_there_is_the_environment(monkeypatch):
    assert repr(Settings.load()) == "<Settings all by default>"
    monkeypatch.setenv("EPSILON_SUPERVISOR_MAX_STAGE_RETRIES", "0")
    monkeypatch.setenv("EPSILON_MAX_WAVES", "1")
    settings = Settings.load()
    assert settings.arguments("supervisor") == {"retries": 0, "fix_waves": 1}
    assert settings.arguments("tree") == {}
    assert settings.arguments("work_queue") == {"fix_waves": 1}


def test_a_switch_turns_delegates_off(manifest):
    off = PACKS | {"delegate_llm": {"enabled": False, "allowed_models": ["a"]}}
    assert Settings.load(manifest(off)).delegates == ()


def changed(path: str, value: object) -> dict[str, Any]:
    """The packs with a value put in at a place."""
    document: dict[str, Any] = json.loads(json.dumps(PACKS))
    place: Any = document
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("settingsPacks.slow.max_iteration", 5, r"\$.settingsPacks.slow.max_iteration: .* did you mean max_iterations"),
        ("settingsPacks.slow.max_iterations", "many", r"\$.settingsPacks.slow.max_iterations: must be a whole number"),
        ("settingsPacks.slow.budget", {"dollars": 1}, r"\$.settingsPacks.slow.budget.dollars"),
        ("settingsPacks.slow.budget", {}, "limits nothing"),
        ("settingsPacks", {}, "holds no pack"),
        ("defaultSettingsPack", "fastt", "did you mean fast"),
        ("delegate_llm.limits", {"max_tokens_max": 5}, r"\$.delegate_llm.limits: is not a field"),
        ("delegate_llm.default_model", "c", "is not one of allowed_models"),
        ("delegate_llm.allowed_models", [], "is not one of allowed_models"),
        ("settings_packs", {}, "did you mean settingsPacks"),
    ],
)
def test_what_is_no_pack_is_refused_with_its_place(manifest, path, value, said):
    with pytest.raises(InvalidInput, match=said):
        Settings.load(manifest(changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("api_key", "sk-verysecret"),
        ("settingsPacks.slow.openai_api_key", "sk-verysecret"),
        ("settingsPacks.slow.api_key_env", "sk-verysecret"),
        ("delegate_llm.auth_token", "sk-verysecret"),
        ("delegate_llm.extra", [{"password": "sk-verysecret"}]),
    ],
)
def test_a_key_in_a_manifest_is_refused_by_its_name_and_never_shown(manifest, path, value):
    with pytest.raises(InvalidInput, match=r"by name|the name|is not a field") as refused:
        Settings.load(manifest(changed(path, value)))
    assert (path.rpartition(".")[2] if isinstance(value, str) else "extra[0].password") in str(refused.value)
    assert "verysecret" not in str(refused.value)


def test_packs_without_a_default_must_be_named(manifest):
    document = {name: value for name, value in PACKS.items() if name != "defaultSettingsPack"}
    with pytest.raises(InvalidInput, match="slow, fast and no default"):
        Settings.load(manifest(document))
    with pytest.raises(InvalidInput, match=r"there is no pack 'fats'.*did you mean fast"):
        Settings.load(manifest(document), pack="fats")
    with pytest.raises(InvalidInput, match="no manifest to take 'fast' from"):
        Settings.load(pack="fast")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("EPSILON_MAX_ITERATION", "5", "did you mean EPSILON_MAX_ITERATIONS"),
        ("EPSILON_MAX_ITERATIONS", "five", "EPSILON_MAX_ITERATIONS: does not fit"),
        ("EPSILON_MAX_ITERATIONS", "0", "EPSILON_MAX_ITERATIONS"),
        *((f"EPSILON_{name}", "1", "has no meaning here") for name in NOT_TAKEN),
    ],
)
def test_a_variable_that_says_nothing_is_refused(monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=said):
        Settings.load()


def test_variables_of_others_are_left_alone(monkeypatch):
    monkeypatch.setenv("EPSILON_LEASE_S", "20")
    monkeypatch.setenv("EPSILON_SOMETHING_ELSE", "x")
    assert Settings.load().origin == {}


def test_an_argument_that_is_no_setting_is_refused():
    with pytest.raises(InvalidInput, match=r"max_itertions.*did you mean max_iterations"):
        Settings.load(max_itertions=3)
    with pytest.raises(InvalidInput, match="max_waves: does not fit"):
        Settings.load(max_waves=-1)
    with pytest.raises(InvalidInput, match="must be a Budget"):
        Settings.load(budget={"usd": 1})
    with pytest.raises(InvalidInput, match="there is no 'dagg'; did you mean dag"):
        Settings.load().arguments("dagg")
    with pytest.raises(AttributeError, match="did you mean max_tokens"):
        Settings.load().max_token  # noqa: B018
    assert {"model", "max_tokens", "agent"} <= set(dir(Settings.load()))


def test_settings_become_arguments_that_their_piece_has():
    import inspect

    from epsilon_lab import Lab
    from epsilon_lab.packs import _ARGUMENTS
    from epsilon_lab.topologies.catalogue import TOPOLOGIES, topology_of

    said = set().union(*(arguments.values() for arguments in _ARGUMENTS.values()))
    assert said <= set(Pack.__struct_fields__)
    assert _ARGUMENTS["lab"].keys() <= inspect.signature(Lab.__init__).parameters.keys()
    for name in TOPOLOGIES:
        kind = topology_of(name)
        assert kind is not None
        assert _ARGUMENTS.get(name, {}).keys() <= inspect.signature(kind.__init__).parameters.keys(), name


def test_an_agent_is_made_of_settings_and_its_own_arguments_win(manifest):
    settings = Settings.load(manifest(PACKS), qa_iterations=7)
    agent = settings.agent()
    assert (agent.model.model, agent.model.max_tokens, agent.steps, agent.seconds) == ("openai/big", 4096, 100, 600)
    assert [model.model for model in agent.delegates] == ["b", "a"]
    assert settings.agent(steps=3, model="openai/other").steps == 3
    assert settings.qa_agent().steps == 7
    assert Settings.load(model="m", max_iterations=9).qa_agent().steps == 9
    assert Settings.load(manifest(PACKS), pack="fast").agent().model.api_key_env == "MY_KEY"
    here = Settings.load(model="http/a", delegates=["http/b"], api_base="http://127.0.0.1:1/v1", api_key_env="MY_KEY")
    [delegate] = here.agent().delegates
    assert (delegate.api_base, delegate.api_key_env) == ("http://127.0.0.1:1/v1", "MY_KEY")
    with pytest.raises(InvalidInput, match="model: was not said"):
        Settings.load().agent()
