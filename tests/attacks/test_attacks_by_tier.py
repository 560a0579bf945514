"""Every attack on every tier this machine can give: what the tier promises is held, and what it does not is not.

That a weaker tier fails where it should is the proof that the attack is real, and that the guard is what holds it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from epsilon_lab.testing.attacks import ATTACKS, MORE_ATTACKS
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.ground import Ground
from epsilon_lab.testing.hostile_programs import BODIES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watching programs takes /proc")

WAY_DOWN = [
    "namespaces+landlock+seccomp+uid",
    "landlock+seccomp+uid",
    "namespaces+uid",
    "limits+uid",
    "limits",
]
"""What is left as a machine gives less."""

ALONE = ["namespaces+landlock+seccomp", "landlock+seccomp", "namespaces", "landlock", "seccomp"]
"""Without a user id that would hide what a mechanism lets through."""


def test_the_table_has_thirty_nine_attacks_each_with_a_name_of_its_own() -> None:
    assert [attack.number for attack in ATTACKS] == list(range(1, 40))
    assert [attack.name for attack in ATTACKS + MORE_ATTACKS] == list(BODIES)


EVERY_DAY = (None, "limits")
"""All that this machine gives, and next to nothing; the rest lie between these."""


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, id=name or "the machine's best") for name in EVERY_DAY),
        *(pytest.param(name, marks=pytest.mark.long) for name in WAY_DOWN + ALONE if name not in EVERY_DAY),
    ],
)
def test_a_tier_holds_what_it_promises_and_nothing_more(name: str | None, table: Any) -> None:
    wrong = {}
    with Ground(name) as ground:
        tier = ground.isolation
        if name not in (None, tier):
            pytest.skip(f"this machine gives {tier} at most")
        whole = tier in WAY_DOWN or os.geteuid() != 0
        for attack in ATTACKS + MORE_ATTACKS:
            if "limits" in attack.held_by and not whole:
                continue  # the kernel's limits are the same as in the tiers above
            if not attack.is_dared_on(tier):
                table.enter(attack, tier, None)
                continue
            seen = ground.run(attack)
            held, promised = attack.was_held(seen), attack.is_held_by(tier)
            table.enter(attack, tier, held, seen.how)
            if held != promised or (promised and not seen.next_is_right) or seen.overdue:
                wrong[f"{attack.number} {attack.name}"] = (f"held: {held}, promised: {promised}", seen)
        assert wait_until(lambda: not ground.survivors(), within_s=60), ground.survivors()
    assert not wrong, wrong


def test_the_ground_has_a_deadline_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that waits for its sandbox alone would hang where an attack hangs the sandbox."""
    monkeypatch.setattr("epsilon_lab.testing.ground._DEADLINE_S", -0.3)
    (endless,) = (attack for attack in ATTACKS if attack.name == "sleep")
    with Ground() as ground:
        seen = ground.run(endless)
        assert seen.overdue
        assert not seen.sandbox_lives
        assert seen.next_is_right
