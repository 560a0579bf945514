"""Who runs what.

state.py     every rule of it, pure: a stimulus in, effects out
stimuli.py   the stimuli and the effects
members.py   what is known of runs, tasks and members
credit.py    how much a member may hold
lines.py     what became of tasks, as records
soundness.py what a peer sent, looked at before it is recorded
queue.py     what is ready, and whose turn it is
post.py      what agents say to each other, and who waits to hear it
topics.py    what is kept of it
files.py     which files a worker elsewhere may read and write
porter.py    those files, a part at a time
host.py      the shell, and the only place that waits: frames in, journals committed, then frames out
client.py    a peer's end of the conversation
subscription.py    where a reader stands on a topic, and the loops over it
correspondence.py  the lab's own end: what a cell says and hears
"""
