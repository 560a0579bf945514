"""Bytes between a broker and its peers: one protocol, and what carries it.

base.py      the protocol: a listener that many peers reach, a dialer that reaches one listener
zeromq.py    between processes of one machine and user
curve.py     between machines: TCP with keys; with zeromq.py and keys.py, the one door to pyzmq
keys.py      who may dial: key files
joined.py    a near and a far listener as one
memory.py    within a process, for tests and simulation
"""
