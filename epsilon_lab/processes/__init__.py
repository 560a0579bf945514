"""Child processes: started without forking Python, confined, and ended as whole trees.

tree.py         a process and everything it started: found, stopped, killed, reaped
orphans.py      nobody outlives who it works for
environment.py  which environment variables whom reaches
"""
