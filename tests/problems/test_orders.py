"""The orders: the same bytes everywhere, as their card says, and an exact reference for what they add up to."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from pathlib import Path

import pytest

from epsilon_lab import problems
from epsilon_lab.problems.orders import COLUMNS, aggregate, orders

DATASET = Path(__file__).parents[2] / "datasets" / "orders"


def test_the_card_states_the_hash_of_every_file():
    card = (DATASET / "README.md").read_text()
    stated = re.findall(r"\| `([\w.-]+)` \| (\d+) \| `([0-9a-f]{64})` \|", card)
    made = problems.csv_aggregation().files | {"sample.csv": orders(40, seed=17, hard=0.3)}
    assert [(name, str(len(content)), hashlib.sha256(content).hexdigest()) for name, content in made.items()] == stated


def test_the_sample_is_what_the_generator_writes():
    assert (DATASET / "sample.csv").read_bytes() == orders(40, seed=17, hard=0.3)


def test_another_seed_gives_other_orders():
    assert orders(50, seed=1) != orders(50, seed=2)
    assert orders(50, seed=1) == orders(50, seed=1)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_hard_rows_are_there(newline):
    content = orders(300, seed=3, hard=0.5, newline=newline).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    assert len(rows) == 300
    assert tuple(rows[0]) == COLUMNS
    assert newline * 2 in content
    assert any("," in row["product"] for row in rows)
    assert any('"' in row["product"] for row in rows)
    assert any("\n" in row["product"] for row in rows)
    assert any(row["discount_pct"] == "" for row in rows)
    assert any(int(row["quantity"]) < 0 for row in rows)


def test_even_the_large_timed_files_have_hard_rows():
    """A program that reads only tame rows cannot be fast and right."""
    for name in ("orders-2.csv", "orders-4.csv"):
        content = problems.csv_aggregation().files[name]
        assert b'"' in content
        assert b"\n\n" in content


def test_the_reference_by_hand():
    content = (
        ",".join(COLUMNS) + "\n"
        'B,east,"Desk, oak",2,10.00,,2025-01-01T00:00:00\n'
        "\n"
        "A,west,Lamp,1,20.00,0,2025-01-01T00:00:00\n"
        "C,east,Lamp,-1,8.00,12.5,2025-01-01T00:00:00\n"
    )
    assert aggregate(content.encode()) == {
        "row_count": 3,
        "total_revenue": 33.0,
        "region_totals": {"east": 13.0, "west": 20.0},
        "top_customers": [["A", 20.0], ["B", 20.0], ["C", -7.0]],
        "product_units": {"Desk, oak": 2, "Lamp": 0},
    }


def test_no_orders_add_up_to_nothing():
    assert aggregate(orders(0, seed=1)) == {
        "row_count": 0,
        "total_revenue": 0.0,
        "region_totals": {},
        "top_customers": [],
        "product_units": {},
    }


def test_ties_are_made_and_broken_by_customer():
    top = aggregate(orders(220, seed=17, hard=0.3, tie=True))["top_customers"]
    assert len({revenue for _, revenue in top}) == 1
    assert [customer for customer, _ in top] == sorted(customer for customer, _ in top)
