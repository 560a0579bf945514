"""Commands in the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from epsilon_lab.agents.tools import Shell, ToolError, read, shell
from epsilon_lab.errors import InvalidInput

from .conftest import Hand


def test_a_command_runs_in_the_workspace_and_nowhere_else(hand: Hand, tmp_path: Path) -> None:
    """Its exit code and what it wrote are told; a link that it makes leads no other tool out."""
    (tmp_path / "secret.txt").write_text("secret")
    said = hand.call(
        shell,
        command=f"echo hello; echo oops >&2; touch made; ln -s {tmp_path}/secret.txt link; >{tmp_path}/out; exit 3",
    )
    assert said.startswith("exit code 3\nhello\n[stderr]\noops\n")
    assert (hand.workspace / "made").exists()
    assert not (tmp_path / "out").exists()
    with pytest.raises(ToolError, match="leads outside"):
        hand.call(read, path="link")


def test_limits_end_a_command(hand: Hand) -> None:
    said = hand.call(Shell(timeout_s=0.5), command="sleep 60 & sleep 60")
    assert said.startswith("its time was over after")


def test_a_variable_is_given_by_name(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "token-0123456789")
    command = "echo ${SOME_TOKEN:-none}"
    assert hand.call(shell, command=command) == "exit code 0\nnone"
    assert hand.call(Shell(env=["SOME_TOKEN"]), command=command) == "exit code 0\ntoken-0123456789"


@pytest.mark.parametrize(
    "given",
    [
        {"timeout_s": 0}, {"memory_mb": "1"}, {"processes": 0}, {"env": "A"}, {"env": [1]}, {"env": ["NO_SUCH_TOKEN"]},
        {"network": "no"}, {"confine": None},
    ],
)  # fmt: skip
def test_settings_are_checked(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=f"Shell {next(iter(given))}"):
        Shell(**given)  # type: ignore[arg-type]
