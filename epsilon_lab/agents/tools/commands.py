"""Commands in the workspace, confined as any outside program is: `processes/program.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from epsilon_lab.agents.tools.tool import OUTPUT_LIMIT, ToolContext
from epsilon_lab.agents.tools.with_settings import ToolWithSettings
from epsilon_lab.arguments import number, switch, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.processes.program import Finished, run_program_async

_ENDED = {
    "timeout": "its time was over after {seconds:.0f} s; it was ended with all it started",
    "memory": "it took more than the {memory_mb:g} MiB of memory it may take, and was ended",
    "processes": "it started more than the {processes} processes it may have, and was ended",
    "disk": "it wrote more than the {disk_mb} MiB it may write, and was ended",
    "killed": "it was killed",
}


@dataclass(frozen=True, kw_only=True)
class Shell(ToolWithSettings):
    """A shell in the workspace: it reads the system and the workspace, and writes only there.

    Args:
        timeout_s: Seconds a command may take; it is ended then with everything it started.
        network: Whether it may reach the network.
        memory_mb: MiB that its processes may take in all.
        processes: Processes at once.
        disk_mb: MiB by which the workspace may grow.
        env: Names of environment variables that it is given, keys among them; the model is shown the names of those
            that look like keys, not their values.
        confine: Whether it is confined at all; without, it can do what you can.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    timeout_s: float = 120.0
    network: bool = False
    memory_mb: float = 2048.0
    processes: int = 128
    disk_mb: int = 1024
    env: Sequence[str] = ()
    confine: bool = True

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb"):
            number(f"Shell {name}", getattr(self, name), least=0, above=True)
        for name in ("processes", "disk_mb"):
            whole(f"Shell {name}", getattr(self, name), least=1)
        for name in ("network", "confine"):
            switch(f"Shell {name}", getattr(self, name))
        if isinstance(self.env, str) or not all(isinstance(name, str) for name in self.env):
            raise InvalidInput("Shell env", f"must be names of environment variables, got {self.env!r}")
        if missing := [name for name in self.env if name not in os.environ]:
            raise InvalidInput("Shell env", f"{missing[0]!r} is not set", "set the environment variable")
        object.__setattr__(self, "env", tuple(self.env))

    @property
    def what(self) -> Callable[..., Any]:
        """What the model calls."""
        return self.shell

    async def shell(self, command: str, context: ToolContext) -> str:
        """Run a command with /bin/sh in the workspace, and get its exit code and what it wrote.

        It can write only in the workspace, its time and memory are limited, and nothing it started goes on afterwards.

        Args:
            command: The command.
            context: The task.
        """
        finished = await run_program_async(
            command,
            cwd=context.workspace,
            env={name: os.environ[name] for name in self.env if name in os.environ},
            timeout_s=min(self.timeout_s, context.seconds_left),
            output_limit=4 * OUTPUT_LIMIT,
            confine=self.confine,
            network=self.network,
            memory_mb=self.memory_mb,
            processes=self.processes,
            disk_mb=self.disk_mb,
        )
        return self._said(finished)

    def _said(self, finished: Finished) -> str:
        if finished.outcome == "ended":
            ended = f"exit code {finished.code}"
        else:
            ended = _ENDED[finished.outcome].format(seconds=finished.seconds, **vars(self))
        parts = [ended, finished.stdout.rstrip("\n")]
        if finished.stderr.strip():
            parts += ["[stderr]", finished.stderr.rstrip("\n")]
        return "\n".join(filter(None, parts))


shell = Shell()
