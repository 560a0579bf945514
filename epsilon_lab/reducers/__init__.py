"""Deterministic folds: what combines the outputs of many tasks into one where judgement is not wanted.

Each is a plain, pure function `reduce(outputs) -> output`, and can be the `reduce=` of a topology as it is, or with
other options through `functools.partial`. It takes its own output as one of the outputs, so that it can be applied in
a tree:

    reduce([reduce(a), reduce(b)]) == reduce([*a, *b])      for any a and b, a before b; reduce([]) is its identity

The tests hold every one of them to that, and to what it says of itself beyond it: whether the order counts, and whether
the same output twice changes anything.

tallies.py  count, vote     sums.py     sum             ranks.py    rank
records.py  merge, unique   tables.py   concatenate

What they find that is better left to a decider is flagged; this is how near two texts are:

nearness.py  jaro_winkler, osa, token_sort, compare (columns of them), soundex
"""

from __future__ import annotations

from epsilon_lab.reducers.nearness import compare, jaro_winkler, osa, soundex, token_sort
from epsilon_lab.reducers.ranks import rank
from epsilon_lab.reducers.records import merge, unique
from epsilon_lab.reducers.sums import sum  # noqa: A004 - the word for it
from epsilon_lab.reducers.tables import concatenate
from epsilon_lab.reducers.tallies import count, vote

__all__ = [
    "compare",
    "concatenate",
    "count",
    "jaro_winkler",
    "merge",
    "osa",
    "rank",
    "soundex",
    "sum",
    "token_sort",
    "unique",
    "vote",
]
