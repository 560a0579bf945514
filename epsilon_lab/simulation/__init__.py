"""The real broker in a world that a seed makes up: its time, network, disk and deaths.

history.py   what may have happened, judged from outside (pure; testing/history.py records it in real processes)
"""
