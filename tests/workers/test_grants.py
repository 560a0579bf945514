"""What a run's tasks were granted is there for them, and gone for those of the next run."""

import os

from epsilon_lab.workers.grants import Grants


def test_grants_come_and_go_with_their_run(monkeypatch):
    monkeypatch.setenv("SOME_DIRECTORY", "mine")
    monkeypatch.delenv("SOME_KEY", raising=False)
    grants = Grants()
    grants.give(None)
    grants.give({"SOME_KEY": "first", "SOME_DIRECTORY": "theirs"})
    os.environ["SOME_KEY"] = "changed by the task"
    grants.give({"SOME_KEY": "first", "SOME_DIRECTORY": "theirs"})
    assert (os.environ["SOME_KEY"], os.environ["SOME_DIRECTORY"]) == ("changed by the task", "theirs")
    grants.give({"OTHER_KEY": "second"})
    assert (os.environ.get("SOME_KEY"), os.environ["SOME_DIRECTORY"]) == (None, "mine")
    grants.give(None)
    assert "OTHER_KEY" not in os.environ
