"""A broker at work, for a test to play on: its home, runs that remember what they were told, members on one loop."""

import contextlib
import errno
import os

import anyio
import msgspec
import pytest

from epsilon_lab.broker.client import Peer
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.clock import SystemClock
from epsilon_lab.messages.events import LlmCall, TasksCompleted, event
from epsilon_lab.messages.frames import Hello, Welcome
from epsilon_lab.messages.tasks import Result
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.workspace import journal as journal_module
from epsilon_lab.workspace.journal import Journal, read_journal

PATIENCE_S = 60.0
CALL = LlmCall(task_id="t0", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="0")
PAID = event(CALL)


class Submitter:
    """A run that remembers what it was told, and can be waited for."""

    def __init__(self, home, run_id, ledger=None):
        self.run_id = run_id
        self.path = home.directory / run_id
        self.journal = Journal.open(self.path, home.durability)
        self.outcomes = []
        self.failures = []
        self.home = home
        self.news = anyio.Event()
        self.reaction = None
        home.host.open_run(run_id, str(self.path), self.journal, self.told, self.broken, ledger=ledger)

    def told(self, outcomes):
        self.outcomes += outcomes
        self.wake()
        if self.reaction is not None:
            self.reaction(outcomes)

    def broken(self, reason):
        self.failures.append(reason)
        self.wake()

    def wake(self):
        self.news.set()
        self.news = anyio.Event()

    async def until(self, condition):
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self.news.wait()

    def types(self):
        return [record.type for record in read_journal(self.path).records]

    def completed(self):
        """How many results are on record."""
        bodies = [record.body for record in read_journal(self.path).records if record.type == "task.completed"]
        return sum(len(msgspec.json.decode(body, type=TasksCompleted).tasks) for body in bodies)


class Worker:
    """A member on the test's own loop."""

    def __init__(self, home, name, *, lanes=("process",), slots=1):
        self.dialer = home.stack.enter_context(home.transport.dial(home.address, name))
        self.peer = Peer(self.dialer, Hello(pid=os.getpid(), host="h", lanes=lanes, slots=slots))

    async def expect(self, kind):
        """Wait for a message of this kind, passing over others."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                await self.peer.wait()
                for message in self.peer.receive():
                    if isinstance(message, kind):
                        return message

    async def join(self):
        self.peer.greet()
        await self.expect(Welcome)
        return self

    async def take(self):
        with anyio.fail_after(PATIENCE_S):
            while not self.peer.tasks:
                await self.peer.wait()
                self.peer.receive()
        taken = list(self.peer.tasks)
        self.peer.tasks.clear()
        return taken

    async def work_until(self, condition):
        """Answer whatever comes; what came."""
        taken = []
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                with anyio.move_on_after(0.02):
                    await self.peer.wait()
                self.peer.receive()
                self.answer(self.peer.tasks)
                taken += self.peer.tasks
                self.peer.tasks.clear()
        return taken

    def answer(self, assignments, **fields):
        self.peer.done(
            results=tuple(
                Result(
                    **{
                        "task_id": each.task.task_id,
                        "run_id": each.run_id,
                        "fence": each.fence,
                        "output": each.task.payload,
                        "started_at": 1.0,
                        "ended_at": 1.0,
                    }
                    | fields
                )
                for each in assignments
            )
        )


class Home:
    """A host that is served, and what a test needs around it."""

    def __init__(self, transport, directory, *, clock=None, durability="process", space=lambda: "", **options):
        self.transport, self.directory = transport, directory
        self.clock = clock or SystemClock()
        self.durability = durability
        self.space = space
        self.options = options
        self.submitters = []

    async def __aenter__(self):
        self.stack = contextlib.ExitStack()
        self.address = self.stack.enter_context(self.transport.private_address())
        listener = self.stack.enter_context(self.transport.listen(self.address))
        self.lab = Journal.open(self.directory / "lab", self.durability)
        self.stack.callback(self.lab.close)
        self.host = BrokerHost(
            listener,
            lab_journal=self.lab,
            settings=BrokerSettings(**self.options),
            clock=self.clock,
            epoch=5,
            space=self.space,
        )
        self.group = anyio.create_task_group()
        await self.group.__aenter__()
        self.group.start_soon(self.host.serve)
        return self

    async def __aexit__(self, *error):
        self.group.cancel_scope.cancel()
        await self.group.__aexit__(*error)
        for submitter in self.submitters:
            self.host.close_run(submitter.run_id)
            with contextlib.suppress(Exception):
                submitter.journal.close()
        self.stack.close()

    def run(self, run_id="r", **options):
        self.submitters.append(Submitter(self, run_id, **options))
        return self.submitters[-1]


async def seen(condition):
    """Wait for something that tells nobody."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await anyio.lowlevel.checkpoint()


def perform(scene, transport, directory, **options):
    async def main():
        async with Home(transport, directory, **options) as home:
            await scene(home)

    anyio.run(main)


@contextlib.contextmanager
def full_disk(journal):
    """No byte more for this journal."""
    write = os.write

    def refuse(handle, data):
        if handle == journal._handle:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module.os, "write", refuse)
        yield
