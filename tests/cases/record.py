"""A run's cases out of lines, as whoever keeps its case book makes them out of its journal."""

from collections.abc import Iterable

from epsilon_lab.cases.docket import Docket
from epsilon_lab.messages.events import Body


def docket_of(lines: Iterable[Body]) -> Docket:
    """The cases of run `r`, as its record tells of them."""
    docket = Docket("r")
    for line in lines:
        docket.take(line)
    return docket
