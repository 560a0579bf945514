"""Every attack on every tier this machine can give: what the tier promises is held, and what it does not is not.

That a weaker tier fails where it should is the proof that the attack is real, and that the guard is what holds it.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from epsilon_lab.processes.confinement import available
from epsilon_lab.testing.attacks import ATTACKS
from epsilon_lab.testing.ground import Ground

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watching programs takes /proc")

TIERS = [available()]


def test_the_table_has_thirty_nine_attacks_each_with_a_name_of_its_own() -> None:
    assert [attack.number for attack in ATTACKS] == list(range(1, 40))
    assert len({attack.name for attack in ATTACKS}) == 39


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_holds_what_it_promises_and_nothing_more(tier: str, table: Any) -> None:
    wrong = {}
    with Ground() as ground:
        assert ground.isolation == tier
        for attack in ATTACKS:
            if not attack.is_dared_on(tier):
                table.enter(attack, tier, None)
                continue
            seen = ground.run(attack)
            held, expected = attack.was_held(seen), attack.is_held_by(tier)
            table.enter(attack, tier, held, seen.how)
            if held != expected or (expected and not seen.next_is_right) or seen.overdue:
                wrong[f"{attack.number} {attack.name}"] = (f"held: {held}, expected: {expected}", seen)
        assert not ground.survivors()
    assert not wrong, wrong
