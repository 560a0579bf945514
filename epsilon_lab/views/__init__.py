"""What a reader sees: views show a snapshot of a run, or of a lab, and never own state.

snapshot.py      a run at a glance, one frozen value, read from the tables
curve.py         how a search's scores developed, as plain numbers
card.py          a snapshot as text and as HTML that needs nothing else
lab_snapshot.py  a lab at a glance
lab_card.py      the same for a lab
figures.py       score curves, the one door to matplotlib
panels.py        live panels of widgets, the one door to ipywidgets
review.py        a decider's panel without its widgets: what is on show, and what a click brings about
review_card.py   the same as HTML and as text
review_panel.py  its widgets
faces.py         which text, card and widgets belong to a run, to a lab, to a review of cases
live.py          a panel on show: kept up to date, then frozen into its card
ticker.py        what keeps it up to date
previews.py      what is in a file
cells.py         the end of a cell, as a moment
"""
