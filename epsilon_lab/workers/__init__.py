"""Who executes: a supervisor and its child processes, and the async lane.

supervisor.py   a session: starts children, watches them, replaces the dead, says who was lost
member.py       one child as its supervisor holds it: process, lifeline, what it printed, which task it had started
guardian.py     the process above each child: ends the child's whole tree, whoever died first
child.py        the loop that takes tasks and answers
remote.py       a worker on another machine: a supervisor and an async lane in a process of their own
afar.py         near the lab or far from it: how its broker is dialed, and where the files of its runs are found
mirror.py       a run directory as seen from afar: read by asking, written by handing over
orders.py       what a child is told before it works
place.py        where a run's code belongs: working directory and sys.path
progress.py     which task a child has started, readable after its death
answers.py      results and failures on their way to the broker
batch.py        answers of short tasks, held a moment so that they travel together
execution.py    an assignment becomes a result or a failure
current.py      what running code may ask of the task it runs in
capture.py      what a task prints, at the level of descriptors, its tail kept
leaves.py       the async lane: many leaves at once on one loop
"""
