"""The real broker in a world that a seed makes up: its time, network, disk and deaths.

What runs for real: the broker's host and rules, the runs' engine and plans, journals, recovery, and every peer's end of
the conversation. What is made up: the time, the wires, the processes and what tasks do.

    python -m epsilon_lab.simulation --seeds 10000

world.py     time, chance and processes that are stopped and killed
loop.py      an event loop in that time, for the broker's own `async` code
network.py   wires that keep what a transport promises, and no more
disk.py      what a killed process leaves of its last write, and a power cut of what was not synced
work.py      what tasks do
workers.py   machines, supervisors, children and async lanes, around the real `Peer`
home.py      the broker's process, life after life
scenario.py  one seed, one story: its faults, and what must be true in the end
history.py   what may have happened, judged from outside (pure; testing/history.py records it in real processes)
"""
