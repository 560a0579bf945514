"""Values that cross a boundary: frozen, tagged, validated at the edge.

values.py   how a Python object travels: JSON where it can, a pickle where it must, a file where it is large
call.py     what a leaf is asked, whoever performs it
tasks.py    a unit of work, its assignment, its result, its failure, its outcome
secrets.py  what must not be shown
frames.py   what a broker and its peers say to each other, and its bytes
flagged.py  a question that is left to a decider, as a line
events/     the lines of a journal, one struct a type
"""
