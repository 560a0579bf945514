"""Seeded orders as CSV text, and what they add up to: the data of the CSV task and its exact reference.

Synthetic on purpose: the same seed gives the same bytes on every machine and Python, so that the data need not travel
and a score can be traced to them; datasets/orders holds the card, the hashes and a sample. Amounts are whole cents,
discounts whole halves of a percent, so that a revenue has at most five decimals and rounding to six loses nothing.
"""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from epsilon_lab.dice import dice

COLUMNS = ("customer_id", "region", "product", "quantity", "unit_price", "discount_pct", "timestamp")

_REGIONS = ("central", "east", "north", "south", "west")
_PLAIN = tuple(f"{what} {size}" for what in ("Chair", "Desk", "Lamp", "Shelf", "Stool", "Table") for size in "SML")
_HARD = ("Desk, oak", 'Monitor 24"', 'Rack "Nord", 19 units', "Gift set\n2 cups", "Café au lait, large", "Cable;3m")
_DISCOUNTS = ("0", "5", "10", "12.5", "20")
_START = datetime(2025, 1, 1)  # noqa: DTZ001 - the column has no zone


def orders(rows: int, *, seed: int, hard: float = 0.02, newline: str = "\n", tie: bool = False) -> bytes:
    """Write a CSV file of orders, UTF-8, with a header.

    Args:
        rows: Number of orders.
        seed: Decides every value.
        hard: Share of rows that a careless reader gets wrong: quoted fields with commas, quotes and line breaks, an
            empty discount, a negative quantity, a blank line before the row.
        newline: Line end.
        tie: Let the last six orders be by six customers of equal and highest revenue.
    """
    random = dice(seed, "orders", rows)
    customers = max(6, rows // 5)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(COLUMNS)
    at = _START
    for row in range(rows):
        at += timedelta(seconds=random.randrange(1, 900))
        customer = f"C{random.randrange(customers):05d}"
        quantity, cents = random.randrange(1, 13), random.randrange(99, 40_000)
        product, discount = random.choice(_PLAIN), random.choice(_DISCOUNTS)
        if random.random() < hard:
            match random.randrange(4):
                case 0 | 1:
                    product = random.choice(_HARD)
                case 2:
                    discount, quantity = "", -quantity
                case 3:
                    text.write(newline)
        if tie and row >= rows - 6:
            customer, quantity, cents, discount = f"T{random.randrange(10**5):05d}", 99, 5_000_000, "2.5"
        price = f"{cents // 100}.{cents % 100:02d}"
        writer.writerow([customer, random.choice(_REGIONS), product, quantity, price, discount, at.isoformat()])
    return text.getvalue().encode()


def aggregate(content: bytes) -> dict[str, Any]:
    """What `aggregate_orders` must return for a file of this content, by decimal arithmetic."""
    count, units = 0, dict[str, int]()
    regions, customers = dict[str, Decimal](), dict[str, Decimal]()
    for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
        quantity = int(row["quantity"])
        revenue = quantity * Decimal(row["unit_price"]) * (100 - Decimal(row["discount_pct"] or 0)) / 100
        count += 1
        units[row["product"]] = units.get(row["product"], 0) + quantity
        regions[row["region"]] = regions.get(row["region"], Decimal(0)) + revenue
        customers[row["customer_id"]] = customers.get(row["customer_id"], Decimal(0)) + revenue
    top = sorted(customers.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
    return {
        "row_count": count,
        "total_revenue": float(round(sum(regions.values(), Decimal(0)), 6)),
        "region_totals": {region: float(round(revenue, 6)) for region, revenue in regions.items()},
        "top_customers": [[customer, float(round(revenue, 6))] for customer, revenue in top],
        "product_units": units,
    }
