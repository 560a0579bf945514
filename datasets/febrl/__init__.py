"""The FEBRL sets, and a record linkage in two passes over them: what notebook 05 and `benchmarks/linkage.py` use.

fetch      the sets with their truth, fetched once, and checked
invented   people of the same form, for where they cannot be fetched
blocking   which pairs are compared at all
comparing  how alike two records are: a quick comparison, and a costly one
rule       where the lines are drawn, chosen on sets whose truth is known
measuring  what comes out of it: precision, recall, F1, at what cost, and how sure that is

With this directory's parent on `sys.path`: `from febrl import fetch`.
"""
