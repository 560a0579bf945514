"""Hosts: where a lab's work is done.

core.py      broker, supervisor, async lane and runners of one workspace, on two loop threads of whoever has it
clerk.py     who takes verdicts about runs that nobody is at
sidecar.py   the same as a kernel holds it when a process of its own has it: found, started, commanded
commands.py  what the two say to each other
service.py   the sidecar's own side: a core that answers commands
daemon.py    how that process leaves the kernel that starts it
"""
