"""Deterministic folds: what combines the outputs of many tasks into one where judgement is not wanted.

Each is a plain, pure function `reduce(outputs) -> output`, and can be the `reduce=` of a topology as it is, or with
other options through `functools.partial`. It takes its own output as one of the outputs, so that it can be applied in
a tree:

    reduce([reduce(a), reduce(b)]) == reduce([*a, *b])      for any a and b, a before b; reduce([]) is its identity

The tests hold every one of them to that, and to what it says of itself beyond it: whether the order counts, and whether
the same output twice changes anything.

tallies.py  count, vote     sums.py     sum             ranks.py    rank
records.py  merge, unique   tables.py   concatenate

What is better left to a decider is flagged: a detector is given the `flag` of its reducer, asks, and says what counts
so far, in named tuples (`_asdict()` makes plain data of one, which a journal shows). It needs all that is to be
compared, so a reducer hands on what it was given, too:

    def reduce(outputs, *, flag=None):
        mentions = reducers.concatenate([output["mentions"] for output in outputs])
        found = reducers.flag_alike([mention["name"] for mention in mentions], flag=flag)
        return {"mentions": mentions, "entities": [entity.names for entity in found.entities]}

In a reduction of several levels each group asks about what it sees, and a case that a higher group asks too stands as
that one puts it, with the evidence of all below. Of names that are alike the groups ask what the whole asks. Of answers
and confidences they do not, since there a part may be in doubt where the whole is not: take all in one group
(`arity=`), or ask when all are there (`flag if len(all) == n else None`).

answers.py     flag_disagreement, flag_conflicts: who were asked the same disagree, or state two things of one name
confidence.py  flag_low_confidence     repairs.py  flag_repairs, repair: replies that fit their schema only so
entities.py    flag_alike: names that may be one, out of a hundred thousand, and the entities they are by verdict
pairs.py       alike, without asking   names.py, likeness.py, blocking.py  what a name is, the rules, the index
clustering.py  clusters: what is one thing, from verdicts on pairs, where a `different` parts every chain
suspicions.py  SuspiciousScore, UnstableScore, DeadLetter: what `run.detect` looks for in a run's tables
flag.py        what a detector asks with
nearness.py    jaro_winkler, osa, token_sort, compare (columns of them), soundex
"""

from __future__ import annotations

from epsilon_lab.reducers.answers import Answer, flag_conflicts, flag_disagreement
from epsilon_lab.reducers.clustering import Clusters, Link, clusters
from epsilon_lab.reducers.confidence import Doubt, flag_low_confidence
from epsilon_lab.reducers.entities import Entities, Entity, flag_alike
from epsilon_lab.reducers.flag import Flag
from epsilon_lab.reducers.names import fold
from epsilon_lab.reducers.nearness import compare, jaro_winkler, osa, soundex, token_sort
from epsilon_lab.reducers.pairs import Alike, Pair, alike
from epsilon_lab.reducers.ranks import rank
from epsilon_lab.reducers.records import merge, unique
from epsilon_lab.reducers.repairs import Fitted, Repaired, flag_repairs, repair
from epsilon_lab.reducers.sums import sum  # noqa: A004 - the word for it
from epsilon_lab.reducers.suspicions import DeadLetter, Detector, SuspiciousScore, UnstableScore
from epsilon_lab.reducers.tables import concatenate
from epsilon_lab.reducers.tallies import count, vote

__all__ = [
    "Alike",
    "Answer",
    "Clusters",
    "DeadLetter",
    "Detector",
    "Doubt",
    "Entities",
    "Entity",
    "Fitted",
    "Flag",
    "Link",
    "Pair",
    "Repaired",
    "SuspiciousScore",
    "UnstableScore",
    "alike",
    "clusters",
    "compare",
    "concatenate",
    "count",
    "flag_alike",
    "flag_conflicts",
    "flag_disagreement",
    "flag_low_confidence",
    "flag_repairs",
    "fold",
    "jaro_winkler",
    "merge",
    "osa",
    "rank",
    "repair",
    "soundex",
    "sum",
    "token_sort",
    "unique",
    "vote",
]
