"""Does the suite bite? Plant each mistake in a copy of the source, and require the tests named for it to go red.

python tests/plants/check.py              all of them; ends with 1 if one was not noticed
python tests/plants/check.py fence disk   those with such a word in their name

As many copies as there are processors are worked in side by side; what was not noticed is said again at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300.0
"""Seconds the tests of one plant may take."""

_RED = 1
"""pytest's exit code when tests ran and some failed; any other means that they did not run as meant."""

sys.path.insert(0, str(Path(__file__).parent))
from plants import PLANTS, Plant  # noqa: E402 - beside this script, wherever it is started from


class Moved(Exception):
    """The source is not what a plant was made for."""


def patched(plant: Plant, root: Path = ROOT) -> str:
    """Give the file with the mistake in it.

    Raises:
        Moved: The text to replace does not stand there exactly once.
    """
    text = (root / "epsilon_lab" / plant.file).read_text()
    if (count := text.count(plant.there)) != 1:
        raise Moved(f"{plant.name!r}: its text stands {count} times in {plant.file}; move the plant along")
    wrong = text.replace(plant.there, plant.instead)
    compile(wrong, plant.file, "exec")
    return wrong


class Garden:
    """A copy of the source in which mistakes are planted, one at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stamp = time.time_ns()

    def goes_red(self, plant: Plant) -> str:
        """Run a plant's tests on its mistake; why it went unnoticed, empty where it did not."""
        path = self.root / "epsilon_lab" / plant.file
        healthy = path.read_text()
        self._write(path, patched(plant, self.root))
        try:
            return self._run(plant)
        finally:
            self._write(path, healthy)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self._stamp += 2_000_000_000  # whole seconds apart, or Python would believe an old `.pyc`
        os.utime(path, ns=(self._stamp, self._stamp))

    def _run(self, plant: Plant) -> str:
        bare = ("-p", "no:nbval")  # no notebook has a part in it, and to import what runs them takes over a second
        command = [sys.executable, "-m", "pytest", *bare, "-x", "-q", "--no-header", "--tb=no", *plant.tests]
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"its tests were not done within {LIMIT_S:g} s"
        if done.returncode == _RED:
            return ""
        return (
            "no test failed" if done.returncode == 0 else f"pytest ended with {done.returncode}: {done.stdout[-500:]}"
        )


@contextmanager
def garden() -> Iterator[Garden]:
    """Have a copy of source and tests, for as long as it is needed."""
    root = Path(tempfile.mkdtemp(prefix="el-plants-"))
    try:
        for name in ("epsilon_lab", "datasets", "tests"):
            shutil.copytree(ROOT / name, root / name)
        shutil.copy(ROOT / "pyproject.toml", root)
        yield Garden(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main(words: Sequence[str]) -> int:
    """Check the plants whose names have one of these words, or all."""
    chosen = [plant for plant in PLANTS if not words or any(word in plant.name for word in words)]
    abreast = min(os.cpu_count() or 1, len(chosen) or 1)
    with ExitStack() as plots, ThreadPoolExecutor(abreast) as gardeners:
        free = SimpleQueue[Garden]()
        for _ in range(abreast):
            free.put(plots.enter_context(garden()))

        def tend(plant: Plant) -> str:
            plot, began = free.get(), time.monotonic()
            try:
                problem = plot.goes_red(plant)
            except Moved as moved:
                problem = str(moved)
            finally:
                free.put(plot)
            print(f"{problem or 'noticed':<20} {time.monotonic() - began:5.1f} s  {plant.name}", flush=True)
            return problem

        problems = list(gardeners.map(tend, chosen))
    unnoticed = [plant.name for plant, problem in zip(chosen, problems, strict=True) if problem]
    print(f"{len(chosen)} mistakes planted, {len(chosen) - len(unnoticed)} noticed")
    print("".join(f"NOT NOTICED: {name}\n" for name in unnoticed), end="")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
