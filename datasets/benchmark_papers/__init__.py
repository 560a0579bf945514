"""Sixty invented papers that report results on invented benchmarks, and what it takes to compare them: notebook 06.

generate   writes the papers and their truth
corpus     the papers, and the truth, as they are read
reading    a quick reading of a paper's table, a closer one of what is said around it
comparing  which rows measure the same, by what is said and by verdicts
measuring  how well that was found out, and the leaderboards that come of it

With this directory's parent on `sys.path`: `from benchmark_papers import corpus`.
"""
