"""Who runs what.

state.py     every rule of it, pure: a stimulus in, effects out
stimuli.py   the stimuli and the effects
members.py   what is known of runs, tasks and members
queue.py     what is ready, and whose turn it is
host.py      the shell, and the only place that waits: frames in, journals committed, then frames out
client.py    a peer's end of the conversation
"""
