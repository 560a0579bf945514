"""Hosts: where a lab's work is done.

core.py      broker, supervisor, async lane and runners of one workspace, on two loop threads of whoever has it
"""
