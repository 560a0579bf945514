"""Secrets reach nobody who was not named."""

from __future__ import annotations

import pytest

from epsilon_lab.processes.environment import candidate_environment, looks_secret, worker_environment

SECRETS = [
    "OPENAI_API_KEY",
    "apikey",
    "GITHUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "PGPASSWORD",
    "MYSQL_PWD",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SSH_AUTH_SOCK",
    "SENTRY_DSN",
    "SESSION_COOKIE",
    "GITHUB_PAT",
]
HARMLESS = [
    "PATH",
    "HOME",
    "PWD",
    "LANG",
    "OMP_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_reaches_no_worker_and_no_candidate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3cr3t")
    assert looks_secret(name)
    assert name not in worker_environment()
    assert "s3cr3t" not in candidate_environment().values()


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_reaches_workers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert worker_environment()[name] == "1"


def test_a_named_secret_reaches_workers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t")
    assert worker_environment(["MY_TOKEN", "NOT_SET_KEY"])["MY_TOKEN"] == "s3cr3t"
    assert "NOT_SET_KEY" not in worker_environment(["NOT_SET_KEY"])
    assert "MY_TOKEN" not in candidate_environment()


def test_a_candidate_gets_an_allowlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", "/somewhere")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    environment = candidate_environment()
    assert "MY_DATA" not in environment
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["OMP_NUM_THREADS"] == "1"
