"""What a reader sees: views show a snapshot of a run and never own state.

snapshot.py  a run at a glance, one frozen value, read from the tables
curve.py     how a search's scores developed, as plain numbers
card.py      a snapshot as text and as HTML that needs nothing else
figures.py   score curves, the one door to matplotlib
panels.py    a live panel of widgets, the one door to ipywidgets
live.py      a panel on show: kept up to date, then frozen into its card
ticker.py    what keeps it up to date
formats.py   numbers, times, tables, diffs and programs, escaped
"""
