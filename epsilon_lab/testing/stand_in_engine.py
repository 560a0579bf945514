"""A stand-in for Docker and Podman, for machines where none runs: it records each command, and runs the program here.

What it records is what an engine would be told, word for word, so that a test can hold it against what must be there.
It contains nothing: that an engine does what it is told is the engine's business.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = """#!{python} -IS
import json, os, sys
with open({record!r}, "a") as file:
    file.write(json.dumps(sys.argv) + "\\n")
if {refusal!r}:
    sys.exit({refusal!r})
if sys.argv[1] == "image" and sys.argv[3].startswith("missing"):
    sys.exit("Error: No such image: " + sys.argv[3])
if sys.argv[1] != "run":
    sys.exit()
rest = sys.argv[2:]
options = {{}}
while rest[0].startswith("-"):
    name, _, value = rest.pop(0).partition("=")
    options.setdefault(name, []).append(value)
program, arguments = options["--entrypoint"][0], rest[1:]
given = [pair.partition("=") for pair in options.get("--env", [])]
environment = {{name: value if is_set else os.environ[name] for name, is_set, value in given}}
environment |= {{"PATH": {path!r}, "TMPDIR": os.environ.get("TMPDIR", "/tmp")}} | {extra!r}
os.chdir(options.get("--workdir", ["/"])[0])
os.environ["PATH"] = environment["PATH"]
os.execvpe(program, [program, *arguments], environment)
"""


class StandInEngine:
    """An executable that goes by an engine's name.

    Args:
        directory: Where it is put; to be the first of PATH.
        name: `docker` or `podman`.
        refusal: What it complains of, whatever it is asked; empty for one that works.
        path: PATH in its containers: where the image's `python` is.
        variables: Of the image's own environment.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "docker",
        refusal: str = "",
        path: str = str(Path(sys.executable).parent) + ":/usr/bin:/bin",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / name
        self._record = directory / f"{name}.calls"
        self.path.write_text(
            _SCRIPT.format(
                python=sys.executable,
                record=str(self._record),
                refusal=refusal,
                path=path,
                extra=dict(variables or {}),
            )
        )
        self.path.chmod(0o755)

    def calls(self, kind: str = "") -> list[list[str]]:
        """The commands it got, oldest first, without its own name: of one kind, such as `run`, or all."""
        if not self._record.exists():
            return []
        found = [json.loads(line)[1:] for line in self._record.read_text().splitlines()]
        return [call for call in found if not kind or call[0] == kind]
