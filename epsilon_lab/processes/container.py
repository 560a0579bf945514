"""A container of its own for a program: made, limited and removed by Docker or Podman, whichever answers here.

What a container may do is in the command that starts it, and nothing is left to the engine's defaults: no network, a
root directory that is read-only, no capabilities, no way to get any, a bound on processes and memory, and no image
that is not here already. A variable's value never stands in the command, which everyone on the machine can read; the
engine's client takes it from its own environment.

The engine's daemon keeps a container running when its client is killed. So each has a name, and who ends the client
removes it.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Literal

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.processes.environment import engine_environment

ENGINES = ("docker", "podman")

IMAGE = "epsilon-lab"
"""The image that the Dockerfile of this project makes: Python, numpy and this package."""

_ASK_S = 60.0
_MEMORY_MB = 4_096
_TEMPORARY_MB = 1024


Executor = Literal["host", "docker"]
"""Where programs run: here, confined by the kernel, or in containers of the engine that answers."""


def image_of(what: str, executor: Executor, image: str | None) -> str | None:
    """Check how a program is to run, and tell of which image; None: in no container.

    Raises:
        InvalidInput: There is no such executor, or it takes no image.
    """
    if executor not in ("host", "docker"):
        raise InvalidInput(f"{what} executor", f"must be 'host' or 'docker', got {executor!r:.80}")
    if image is not None and (executor == "host" or not isinstance(image, str) or not image or image[0] == "-"):
        raise InvalidInput(f"{what} image", f"must be an image's name, for executor='docker', got {image!r:.80}")
    return None if executor == "host" else image or IMAGE


class NoEngine(LabError):
    """No container engine answers, or it has not the image."""


@functools.cache
def find_engine() -> str:
    """Find the engine's client; one that was found is not asked again.

    Raises:
        NoEngine: None is installed, or none answers.
    """
    why = []
    for name in ENGINES:
        path = shutil.which(name)
        if path is not None:
            complaint = _complaint([path, "info"])
            if complaint is None:
                return path
            why.append(f"{name} says: {complaint}")
    raise NoEngine(
        "no container engine answers ("
        + ("; ".join(why) or f"neither {' nor '.join(ENGINES)} is in PATH")
        + "); start one, or use executor='host'"
    )


def check_image(image: str) -> None:
    """See that the image is here.

    Raises:
        NoEngine: It is not, or no engine answers.
    """
    engine = find_engine()
    if (complaint := _complaint([engine, "image", "inspect", image])) is not None:
        name = os.path.basename(engine)
        way = (
            f"`{name} build -t {IMAGE} .` where this project's Dockerfile is"
            if image == IMAGE
            else f"`{name} pull {image}`"
        )
        raise NoEngine(f"there is no image {image!r} here ({complaint}); make it by {way}")


def _complaint(command: Sequence[str]) -> str | None:
    """Run a question to an engine; say what it complains of, None if it does not."""
    try:
        asked = subprocess.run(
            command, env=engine_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_ASK_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (asked.stderr.strip() or asked.stdout.strip() or f"exit code {asked.returncode}").splitlines()
    return None if asked.returncode == 0 else said[-1][:300]


def new_name() -> str:
    """A name that no other container has."""
    return f"epsilon-lab-{os.getpid()}-{secrets.token_hex(6)}"


def start_command(
    engine: str,
    name: str,
    image: str,
    arguments: Sequence[str],
    *,
    user: str,
    network: bool = False,
    memory_mb: float | None = None,
    processes: int = 256,
    writable: str | None = None,
    readable: Iterable[str] = (),
    variables: Iterable[str] = (),
    temporary_mb: int = _TEMPORARY_MB,
) -> list[str]:
    """The command that starts a container, attaches to its streams, and removes it when it ends.

    Args:
        engine: The engine's client.
        name: The container's name.
        image: Its image, which is not fetched.
        arguments: The program in it, and the program's arguments.
        user: `<user id>:<group id>`.
        network: Whether it may reach the network.
        memory_mb: MiB it may take in all, without swap; None: 4,096, so that none can take the machine's.
        processes: Processes and threads at once.
        writable: A directory that it sees by the same path and writes to, which is its working directory.
        readable: Files and directories that it sees by the same path.
        variables: Names of variables that it gets from the client's environment.
        temporary_mb: MiB that its /tmp can hold, in memory.
    """
    is_podman = os.path.basename(engine) == "podman"
    command = [engine, "run", "--rm", "--interactive", "--init", "--pull=never", f"--name={name}"]
    command += ["--network=none"] * (not network)
    command += ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", f"--user={user}"]
    command += [f"--pids-limit={processes}", "--ulimit=core=0"]
    memory = int(_MEMORY_MB if memory_mb is None else memory_mb)
    command += [f"--memory={memory}m", f"--memory-swap={memory}m"]
    command += [
        f"--tmpfs=/tmp:rw,nosuid,nodev,exec,mode=1777,size={temporary_mb}m",
        "--env=HOME=/tmp",
        "--env=TMPDIR=/tmp",
    ]
    if is_podman:  # its rootless containers map ids, and its hosts label files
        command += ["--userns=keep-id", "--security-opt=label=disable"]
    if writable is not None:
        command += [_mount(writable), f"--workdir={writable}"]
    command += [_mount(path) + ",readonly" for path in readable]
    command += [f"--env={name}" for name in variables]
    return [*command, f"--entrypoint={arguments[0]}", image, *arguments[1:]]


def _mount(path: str) -> str:
    if "," in path or '"' in path:
        raise NoEngine(f"{path!r} cannot be shown to a container, because of the comma or quote in its name")
    return f"--mount=type=bind,source={path},target={path}"


def remove_command(engine: str, name: str) -> list[str]:
    """The command that ends and removes a container, whatever it is doing."""
    return [engine, "rm", "--force", name]
