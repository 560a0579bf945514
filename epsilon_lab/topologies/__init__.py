"""Topologies: plans over one engine.

plan.py               what a plan is: pure rules that grow a task graph
graph.py              the graph: what may run now, what is blocked, how many of a kind at once
binding.py            what a node takes from outputs: its conditions, its inputs
revision.py           a second go at a task, told why
engine.py             a run's state: plan and graph together, paused, stopped, ended
recovery.py           the same state again, from a journal
runner.py             the shell: carries the engine's effects out on the broker and the disk
catalogue.py          topologies by their names
nodes.py              named nodes that depend on each other: begun, tried again, mended, by every plan that has them
decomposition.py      a plan of nodes, as a user or a model states it
quality.py            QA and fixes, around any plan whose tasks can be done again
dag.py                nodes in the order of what depends on what
crew.py               who does what in a plan that a user states
judged_plan.py        nodes whose ends are judged before anything follows; gates.py, supervision.py, the rules of it
pipeline.py           stages with gates between them
supervisor.py         nodes that are reviewed: done again, in parts, or by another
tree.py               teams on git branches of their own; teams.py, how they are stated and become nodes
auto.py               which of all these fits what is given
work_queue.py         one task an item
map_reduce.py, sharded_queue.py   very many items, whose outputs are brought together; itemised.py, what they share
reduction.py          their rules: items handed out in order, groups of groups reduced; levels.py, the shape of it
manifest.py           a run stated as a JSON document; template.py, document.py, what is in one
item_manifest.py      what manifests of items share; queue_manifest.py, reduction_manifest.py, output_layout.py
population_search.py  a search, as a user states it
search_plan.py        its rules: candidates, a judge, a brief, the next generation
rulings.py            what verdicts on cases say about its candidates
rescoring.py          its programs judged once more, by another scorer
adjudication.py       the second wave: cases of a run go to workers, verdicts come back; adjudicator.py, its leaf
"""
