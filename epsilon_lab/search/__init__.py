"""Population search: what is searched, who proposes, who judges, what is kept.

problem.py    a task with a scorer: what a candidate gets, what the judge gets
context.py    what a proposer is shown
proposing.py  the propose task: any proposer, one path
variation.py  the offline proposer: grammar- and AST-based variation
program.py    a syntax tree that remembers its text: what variation works on
grammar.py    expressions out of nothing, over the names in scope
prompts.py    a context as messages to a model, and a reply as a program
edits.py      a change to a program as edit blocks
repair.py     one more try for a reply that cannot be read
replay.py     recorded proposals, played again
judging.py    the evaluate task: candidate in a fork of a warm spawner, verdict in a judge process
judge.py      the judge's process as its worker knows it; judge_main.py, that process
rejudging.py  a packed judge with another scorer in it; reordering.py, what that does to a ranking
reranking.py  what verdicts on candidates have changed in a ranking
verdict.py    what the framework makes of a scorer's answer
sources.py    a program's identity: the normalised syntax tree and its hash
archive.py    every candidate of a run, ranked
selection.py  who is kept, and from whom the next generation is made
brief.py      what worked, what hurt, what is untried
"""
