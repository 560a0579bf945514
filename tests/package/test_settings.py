"""Settings come from the environment, whole and checked."""

import pytest

from epsilon_lab import Lab
from epsilon_lab.errors import InvalidInput
from epsilon_lab.settings import BrokerSettings, broker_settings


def test_an_environment_that_says_nothing_gives_the_defaults():
    assert broker_settings({"LEASE_S": "3", "EPSILON_WORKSPACE": "runs"}) == BrokerSettings()


def test_each_field_is_a_variable():
    given = {"EPSILON_LEASE_S": "1.5", "EPSILON_BEAT_S": "0.3", "EPSILON_POISON_LIMIT": "2"}
    assert broker_settings(given) == BrokerSettings(lease_s=1.5, beat_s=0.3, poison_limit=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("EPSILON_LEASE_S", value) for value in ("", "soon", "0", "-1", "nan", "inf")),
        ("EPSILON_POISON_LIMIT", "0"),
        ("EPSILON_CREDIT_MAX", "1.5"),
        pytest.param("EPSILON_LEASE_S", "3", id="shorter than two beats"),
    ],
)
def test_what_is_no_setting_is_refused_by_name_before_a_lab_opens(tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name):
        Lab(tmp_path / "runs", workers=1)
    assert not (tmp_path / "runs").exists()
