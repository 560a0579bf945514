"""The kit that ships: what a test of a lab, ours or a user's, needs and cannot get from the network.

census.py              who is still alive, among all processes that belong to a directory
kernels.py             a real Jupyter kernel, to block, interrupt, restart and kill
jupyterlab.py          a real JupyterLab in headless Chromium
transport_contract.py  what every transport must keep
topology_contract.py   what every topology must keep
topology_examples.py   a small piece of work in each topology's shape
steps.py               what its tasks do, as a function, an agent, a program
attacks.py             thirty-nine attacks on a sandbox, and more, as a table
hostile_programs.py    the programs that try them
ground.py              where attacks are run and watched from outside
history.py             what processes did, in files that outlive them, and whether a promise was broken
fault_proxy.py         a bad network: delays, swallows, cuts, heals
model_server.py        an OpenAI-compatible server on 127.0.0.1 that answers, stalls and breaks as scripted
"""
