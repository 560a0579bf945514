"""Ready-made problems: statement, seed program, scorer, strict check, best known value and its source.

csv_orders.py    csv_aggregation: CPU time of adding up order files
csv_programs.py  its seed program, and other bodies for its functions
orders.py        its data: seeded orders, and what they add up to
cap_sets.py      cap_set: large sets without three points on a line, by a priority function
"""

from epsilon_lab.problems.cap_sets import cap_set
from epsilon_lab.problems.csv_orders import csv_aggregation

__all__ = ["cap_set", "csv_aggregation"]
