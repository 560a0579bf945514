"""What is on disk, which is the truth: a workspace of run directories, each complete in itself.

layout.py     where things lie, and the only way to a path: names that escape the directory are refused
journal.py    append-only lines, committed a turn at a time; the torn tail and the other kind of damage
lock.py       one writer a workspace
tables.py     journals as DuckDB tables and pandas frames, the one door to both
"""
