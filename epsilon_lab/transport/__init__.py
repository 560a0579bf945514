"""Bytes between a broker and its peers: one protocol, and what carries it.

base.py      the protocol: a listener that many peers reach, a dialer that reaches one listener
zeromq.py    between processes, the one door to pyzmq
memory.py    within a process, for tests and simulation
"""
