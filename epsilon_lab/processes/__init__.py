"""Child processes: started without forking Python, confined, and ended as whole trees.

tree.py         a process and everything it started: found, stopped, killed, reaped
repository.py   a run's git repository, a worktree a team; the one door to git
orphans.py      nobody outlives who it works for
environment.py  which environment variables whom reaches
data.py         outputs are data: encoded by strangers, decoded without trust
arrays.py       numpy values as bytes, the one door to numpy here
channel.py      messages between two processes of ours
companion.py    a warm process at the other end of a channel, replaced when lost
limits.py       what one program may take; bounds.py, as the kernel counts it
confinement.py  what keeps a program away from everything else, by tiers
namespaces.py   a world of its own for a sandbox
landlock.py     which files a program may read and write
seccomp.py      which system calls it may make
syscall_numbers.py their numbers
probe.py        a hostile program that a sandbox runs first, upon itself
isolation.py    what confinement holds on this machine, and what would give more
native.py       the C library's functions that Python does not name
scratch.py      a program's working directory, the same before every run
account.py      how an exception is told to someone who did not see it
watch.py        what a program writes while it runs, and its end at a limit
zygote.py       forks programs from a warm process
sandbox.py      that process: sets itself up, has itself attacked, serves
spawner.py      runs untrusted programs and says what became of them
container.py    containers instead: the commands of Docker and Podman; relay.py, a sandbox's channel out of one
program.py      runs an outside program, such as a shell command or a user's own agent
keeper.py       the process above it, which ends all of it
enclosure.py    what it sees and may touch
"""
