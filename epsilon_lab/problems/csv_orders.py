"""The CSV task: make an aggregation of order files cheaper without making it wrong.

The score is a ratio of CPU times measured from outside, the seed program's runs interleaved with the candidate's. It is
worth something only if speed cannot be had by being wrong: every file that is timed is also compared, the hard rows are
in the timed files too, each run is a fresh process that sees the files once, and no expected value is ever where a
candidate is. The search compares with a tolerance; before a best is announced, `check` reads the files again, adds
up in decimals, and wants revenues that are rounded and right to the sixth decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from epsilon_lab.errors import InvalidInput
from epsilon_lab.problems.csv_programs import ALTERNATIVES, SEED
from epsilon_lab.problems.orders import aggregate, orders
from epsilon_lab.search.problem import Problem, Trial

STATEMENT = """\
# Aggregate order files, in as little CPU time as possible

Write a Python program with a function `aggregate_orders(csv_path)` that reads one CSV file and returns a dict:

* `"row_count"`: int, the number of orders;
* `"total_revenue"`: float, the revenue of all orders;
* `"region_totals"`: dict, region -> revenue (float);
* `"top_customers"`: list of `[customer_id, revenue]`, the five customers of highest revenue (all, where there are
  fewer), highest first, equal ones by ascending `customer_id`;
* `"product_units"`: dict, product -> sum of `quantity` (int).

The revenue of an order is `quantity * unit_price * (1 - discount_pct / 100)`. Revenues are rounded to 6 decimals, after
adding up. Dicts may be in any order, but must be plain `dict`s.

## The files

UTF-8, a header line, then one order per record, always with these columns in this order:

`customer_id,region,product,quantity,unit_price,discount_pct,timestamp`

* A field may be quoted, as in RFC 4180: `"Desk, oak"`, `"Monitor 24\"\"\"`; a quoted field may contain commas, doubled
  quotes and line breaks, which belong to its value as they stand. Unquoted fields contain none of these.
* Lines end in `\\n` or in `\\r\\n`. A blank line is no order and is skipped, wherever it is.
* `quantity` is an integer, negative for a return. `unit_price` is a decimal number with two decimals.
* `discount_pct` is a decimal number or empty, which means 0.
* A file may hold no order at all: 0, 0.0, and empty dicts and list.

## The score

The program is run in a fresh process on several files of up to some thousand orders, one call each, all of them timed
and all of them compared with the right answer. The score is the CPU time of the seed program, run in turn with yours,
divided by the CPU time of yours, the cheapest of several runs each: 1.0 is as fast as the seed program, higher is
better. A wrong answer for any file has no score. The standard library and numpy can be imported; there is no network,
no other process, and nothing is kept from one run to the next.
"""


def csv_aggregation(rows: int = 8_000, *, seed: int = 17) -> Problem:
    """The CSV task on seeded order files.

    Args:
        rows: Orders in the two large files together. At the default the seed program takes some 35 ms of CPU,
            twenty times the cost of starting a candidate; with far fewer, the start drowns the difference.
        seed: Decides the files' content.

    Raises:
        InvalidInput: `rows` is below 100, or an argument is not an int.
    """
    for what, value, least in (("rows", rows, 100), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInput(f"csv_aggregation {what}", f"must be an int of at least {least}, got {value!r}")
    files = {
        "orders-1.csv": orders(80, seed=seed, hard=0.5),
        "orders-2.csv": orders(rows // 2, seed=seed),
        "orders-3.csv": orders(220, seed=seed, hard=0.3, newline="\r\n", tie=True),
        "orders-4.csv": orders(rows - rows // 2, seed=seed + 1),
        "orders-5.csv": orders(0, seed=seed),
    }
    names = tuple(files)
    return Problem(
        name="csv_aggregation",
        statement=STATEMENT,
        source=SEED,
        entry="aggregate_orders",
        run=partial(_run, names),
        setup=partial(_expect, names),
        score=partial(_score, names),
        check=partial(_check, names),
        files=files,
        timeout_s=10,
        memory_mb=512,
        output_mb=4,
        repeats=5,
        scorers=1,
        alternatives=ALTERNATIVES,
        best_known=None,
        best_known_source="a CPU-time ratio depends on the machine; no record exists",
    )


def _run(names: Sequence[str], program: Any) -> list[Any]:
    return [program.aggregate_orders(name) for name in names]


def _expect(names: Sequence[str]) -> list[dict[str, Any]]:
    return [aggregate(Path(name).read_bytes()) for name in names]


def _score(names: Sequence[str], output: Any, trial: Trial) -> dict[str, float]:
    _compare(names, output, trial.state, _is_close)
    if trial.baseline_seconds is None or trial.cpu_s <= 0:
        raise ValueError("no CPU time was measured; the machine's clock is too coarse for this problem")
    return {
        "score": trial.baseline_seconds / trial.cpu_s,
        "cpu_ms": trial.cpu_s * 1000,
        "seed_cpu_ms": trial.baseline_seconds * 1000,
    }


def _check(names: Sequence[str], output: Any) -> str | None:
    try:
        _compare(names, output, _expect(names), _is_exact)
    except ValueError as error:
        return str(error)
    return None


def _is_close(value: float, expected: float) -> bool:
    return abs(value - expected) <= 1e-6 + 1e-9 * abs(expected)


def _is_exact(value: float, expected: float) -> bool:
    return round(value, 6) == value and abs(value - expected) <= 1e-6


def _compare(
    names: Sequence[str], output: Any, expected: Sequence[dict[str, Any]], same: Callable[[float, float], bool]
) -> None:
    """Raise ValueError naming the first file and field that are not as expected."""
    if not isinstance(output, list) or len(output) != len(names):
        raise ValueError(f"expected one answer for each of {len(names)} files")
    for name, answer, right in zip(names, output, expected, strict=True):
        if not isinstance(answer, dict) or set(answer) != set(right):
            raise ValueError(f"{name}: expected a dict with exactly the keys {', '.join(right)}")
        for key, wanted in right.items():
            if (problem := _difference(answer[key], wanted, same)) is not None:
                raise ValueError(f"{name}: {key}{problem}")


def _difference(value: Any, wanted: Any, same: Callable[[float, float], bool]) -> str | None:
    """Where and how a value differs from the wanted one; None if it does not."""
    match wanted:
        case dict():
            if not isinstance(value, dict) or set(value) != set(wanted):
                return " has not the right keys"
            pairs = [(f"[{key!r}]", value[key], wanted[key]) for key in wanted]
        case list():
            if not isinstance(value, list | tuple) or len(value) != len(wanted):
                return f" is not a list of {len(wanted)}"
            pairs = [(f"[{index}]", *both) for index, both in enumerate(zip(value, wanted, strict=True))]
        case float() if isinstance(value, int | float) and not isinstance(value, bool):
            return None if same(value, wanted) else f" is {value!r}, not {wanted!r}"
        case _:
            fine = type(value) is type(wanted) and value == wanted
            return None if fine else f" is {_brief(value)}, not {wanted!r}"
    return next((where + problem for where, a, b in pairs if (problem := _difference(a, b, same))), None)


def _brief(value: Any) -> str:
    return repr(value) if isinstance(value, int | float | str) and len(str(value)) < 60 else type(value).__name__
