"""Ready-made problems: statement, seed program, scorer, strict check, best known value and its source.

csv_orders.py    csv_aggregation: CPU time of adding up order files
csv_programs.py  its seed program, and other bodies for its functions
orders.py        its data: seeded orders, and what they add up to
cap_sets.py      cap_set: large sets without three points on a line, by a priority function
circles.py       circle_packing: circles in a square, judged in exact arithmetic
circle_programs.py  its seed program, and other bodies for its functions
bins.py          bin_packing: items into bins, online, fed one at a time when it counts
weibull_items.py its data, the packer, and the bound
"""

from epsilon_lab.problems.bins import bin_packing
from epsilon_lab.problems.cap_sets import cap_set
from epsilon_lab.problems.circles import circle_packing
from epsilon_lab.problems.csv_orders import csv_aggregation

__all__ = ["bin_packing", "cap_set", "circle_packing", "csv_aggregation"]
