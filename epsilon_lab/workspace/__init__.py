"""What is on disk, which is the truth: a workspace of run directories, each complete in itself.

layout.py     where things lie, and the only way to a path: names that escape the directory are refused
journal.py    append-only lines, committed a turn at a time: the writing end, and what durability promises
scan.py       the reading end, one for all: files in order, the torn tail and the other kind of damage
register.py   what a lab has to know of its own past, read from a snapshot and what follows it
lock.py       one writer a workspace; lease.py where locks cannot be relied on, which mounts.py knows
space.py      how much room the disk has, looked at before it is gone
layers.py     what becomes of files that several tasks made (pure); leaf_files.py, their directories; trees.py lists and
              removes what strangers have filled
items.py      very many items, a line each, read a page at a time
outputs.py    what tasks gave, read back from the journal
tables.py     journals as DuckDB tables and pandas frames: schema.py says which, fold.py turns events into their rows,
              feed.py follows one journal, store.py takes the rows in, catalogue.py keeps those of closed runs from one
              lab to the next, database.py answers queries and lets them do nothing else, sheets.py makes tables of CSV,
              NDJSON and Parquet files of runs, parcel.py writes a run's tables as Parquet
"""
