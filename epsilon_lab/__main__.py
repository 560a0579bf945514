"""The few commands: what a newcomer runs before opening a notebook.

python -m epsilon_lab demo                  the first notebook, headless: leaderboard, score curve, run directory
python -m epsilon_lab resume WORKSPACE RUN  go on with a run that its lab left unfinished, and wait for its end
python -m epsilon_lab broker WORKSPACE      be the sidecar of Lab(WORKSPACE, broker="sidecar"); --stop ends it
python -m epsilon_lab worker --connect ...  work for a lab on another machine, with the key file that it made
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from epsilon_lab.arguments import number
from epsilon_lab.errors import LabError
from epsilon_lab.workspace.journal import Durability
from epsilon_lab.workspace.layout import JOURNAL

NOTEBOOK = Path("notebooks") / "01_population_search.ipynb"
CELL_LIMIT_S = 600
PLACES = 10


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is 0 where it did what was asked."""
    parser = argparse.ArgumentParser(prog="python -m epsilon_lab", description="Population search, in a notebook.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser("demo", help="run the first notebook headless and say what it found")
    demo_parser.add_argument("--notebook", type=Path, default=NOTEBOOK, help="default: %(default)s")
    demo_parser.add_argument("--out", type=Path, default=Path("out"), help="where results go; default: %(default)s")
    resume_parser = commands.add_parser("resume", help="go on with a run that its lab left unfinished")
    resume_parser.add_argument("workspace", type=Path, help="the directory of runs, as given to Lab(...)")
    resume_parser.add_argument("run", help="the run's id, or its name")
    resume_parser.add_argument("--trust", action="store_true", help="load the functions of a run born elsewhere")
    resume_parser.add_argument("--workers", type=int, default=4, help="child processes; default: %(default)s")
    broker_parser = commands.add_parser("broker", help='be the sidecar of a workspace: Lab(..., broker="sidecar")')
    broker_parser.add_argument("workspace", type=Path, help="the directory of runs, as given to Lab(...)")
    broker_parser.add_argument("--workers", type=int, default=4, help="child processes; default: %(default)s")
    broker_parser.add_argument(
        "--durability", choices=get_args(Durability), default="process", help="default: %(default)s"
    )
    broker_parser.add_argument("--bind", help="a TCP address for workers of other machines, as Lab(bind=...) takes it")
    broker_parser.add_argument(
        "--linger", type=float, help="end after so many seconds without kernels and runs; default: never"
    )
    broker_parser.add_argument("--stop", action="store_true", help="end the one that is at work, and wait until it has")
    worker_parser = commands.add_parser("worker", help="work for a lab on another machine")
    worker_parser.add_argument("--connect", required=True, metavar="ADDRESS", help="lab.endpoint: tcp://HOST:PORT")
    worker_parser.add_argument("--key-file", required=True, type=Path, help="worker.key of the lab's keys/, mode 0600")
    worker_parser.add_argument("--slots", type=int, default=1, help="child processes; default: %(default)s")
    worker_parser.add_argument("--name", help="what it is called in lab.workers; default: this host's name")
    worker_parser.add_argument(
        "--give-up-after", type=float, metavar="SECONDS", default=300.0, help="without a lab; default: %(default)g"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "demo":
            demo(chosen.notebook, chosen.out)
        elif chosen.command == "broker" and chosen.stop:
            stop_broker(chosen.workspace.resolve())
        elif chosen.command == "broker":
            broker(chosen.workspace.resolve(), chosen.workers, chosen.durability, chosen.bind, chosen.linger)
        elif chosen.command == "worker":
            work(chosen.connect, chosen.key_file, chosen.slots, chosen.name, chosen.give_up_after)
        else:
            resume(chosen.workspace, chosen.run, trust=chosen.trust, workers=chosen.workers)
    except LabError as error:
        print(f"{parser.prog} {chosen.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog} {chosen.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def work(address: str, key_file: Path, slots: int, name: str | None, give_up_s: float) -> None:
    """Be a worker of a lab, until it goes away for good, or SIGTERM: then it finishes what it has begun.

    Args:
        address: `lab.endpoint`.
        key_file: `worker.key`, as the lab made it.
        slots: Child processes.
        name: What it is called in `lab.workers`; None for the host's name.
        give_up_s: Seconds without reaching the lab, after which it ends.

    Raises:
        LabError: An argument is wrong, or the lab does not let it in, or is gone.
    """
    from epsilon_lab.workers.remote import RemoteWorker  # noqa: PLC0415 - the demo does without

    worker = RemoteWorker(address, key_file, slots=slots, name=name, give_up_s=give_up_s)
    worker.run(lambda line: print(f"worker: {line}", flush=True))


def resume(workspace: Path, name: str, *, trust: bool = False, workers: int = 4) -> None:
    """Resume a run, wait until it has ended, and say what it found. Ctrl-C leaves it to be resumed once more.

    Args:
        workspace: The directory of runs.
        name: The run's id, or its name.
        trust: As for `Lab.resume`.
        workers: Child processes.

    Raises:
        LabError: There is no such workspace or run, it cannot be resumed, or it failed.
    """
    _refuse_missing(workspace)
    from epsilon_lab.lab import Lab  # noqa: PLC0415 - the demo does without

    with Lab(workspace, workers=workers) as lab:
        run = lab.resume(name, trust=trust)
        print(f"resumed {run.run_id}", flush=True)
        run.wait()
    print(f"{run.status}: {run.reason}")
    _report(_near(run.path))


def broker(workspace: Path, workers: int, durability: Durability, bind: str | None, linger_s: float | None) -> None:
    """Be the sidecar of a workspace until Ctrl-C, SIGTERM or `--stop`; runs that have not ended are interrupted.

    Args:
        workspace: The directory of runs; made where it is missing.
        workers: Child processes.
        durability: What an acknowledged event survives.
        bind: A TCP address where workers of other machines reach it too.
        linger_s: Seconds to stay while nothing is live and nobody is attached; None to stay for ever.

    Raises:
        LabError: The workspace is another process's, or cannot be written to; or a number makes no sense.
    """
    from epsilon_lab.hosts.commands import Terms, fit_workers  # noqa: PLC0415 - the demo does without
    from epsilon_lab.hosts.service import serve  # noqa: PLC0415 - the demo does without

    def ready() -> None:
        print(f"process {os.getpid()} serves Lab({str(_near(workspace))!r}, broker='sidecar')", flush=True)

    if linger_s is not None:
        linger_s = number("linger", linger_s, least=0)
    terms = Terms(workers=fit_workers(workers), durability=durability, bind=bind)
    serve(workspace, terms, linger_s=linger_s, ready=ready)
    print("ended", flush=True)


def stop_broker(workspace: Path) -> None:
    """End the sidecar of a workspace in good order and wait until it has.

    Raises:
        LabError: There is no such workspace; the sidecar is another machine's, or does not end.
    """
    _refuse_missing(workspace)
    from epsilon_lab.hosts.sidecar import end_sidecar  # noqa: PLC0415 - the demo does without

    pid = end_sidecar(workspace)
    print(f"no sidecar is at work in {_near(workspace)}" if pid is None else f"process {pid} has ended")


def demo(notebook: Path, out: Path) -> None:
    """Execute a notebook in a kernel of its own and say what its runs found and where everything lies.

    Args:
        notebook: The notebook; its cells find the workspace in the variable EPSILON_WORKSPACE.
        out: Directory for the executed notebook and the workspace.

    Raises:
        LabError: The notebook is missing, one of its cells failed, or it left no run.
    """
    if not notebook.is_file():
        raise LabError(
            f"there is no notebook {str(notebook)!r}; call this from a checkout, or name one with --notebook"
        )
    workspace = (out / "runs").resolve()
    workspace.mkdir(parents=True, exist_ok=True)
    before = _runs(workspace)
    print(f"running {notebook} (a minute or two)", flush=True)
    started = time.monotonic()
    executed = out / notebook.name
    _execute(notebook, executed, {"EPSILON_WORKSPACE": str(workspace)})
    born = [run for run in _runs(workspace) if run not in before]
    if not born:
        raise LabError(f"{notebook} left no run in {workspace}")
    print(f"done in {time.monotonic() - started:.0f} s")
    for run in born:
        _report(run)
    print(f"\nexecuted notebook   {executed}")
    print("look around         make lab")


def _refuse_missing(workspace: Path) -> None:
    if not workspace.is_dir():
        raise LabError(f"there is no workspace {str(workspace)!r}; name the directory that was given to Lab(...)")


def _execute(notebook: Path, executed: Path, env: dict[str, str]) -> None:
    nbformat, nbclient, traitlets, _ = map(_optional, ("nbformat", "nbclient", "traitlets.config", "ipykernel"))
    document = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        client = nbclient.NotebookClient(
            document,
            timeout=CELL_LIMIT_S,
            kernel_name="python3",
            config=traitlets.Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            resources={"metadata": {"path": str(notebook.parent)}},
        )
        try:
            client.execute(env={**os.environ, **env})
        except nbclient.exceptions.CellExecutionError as error:
            raise LabError(f"a cell failed, as {executed} shows: {error.ename}: {error.evalue}") from None
        except nbclient.exceptions.CellTimeoutError:
            raise LabError(f"a cell took more than {CELL_LIMIT_S} s; see {executed}") from None
        finally:
            nbformat.write(document, executed)


def _report(run: Path) -> None:
    """Show a run's leaderboard, and where its files lie."""
    board = run / "leaderboard.json"
    if board.is_file():
        places: list[dict[str, Any]] = json.loads(board.read_text())
        print(f"\n{'rank':>4}  {'score':>10}  {'candidate':<10}  {'strategy':<9}  {'checked':<7}  parents")
        for place in places[:PLACES]:
            checked = {True: "yes", False: "failed", None: ""}[place["checked"]]
            print(
                f"{place['rank']:>4}  {place['score']:>10.4g}  {place['candidate_id']:<10}  {place['strategy']:<9}  "
                f"{checked:<7}  {' '.join(place['parent_ids'])}"
            )
        if len(places) > PLACES:
            print(f"      ... {len(places) - PLACES} more in {_near(board)}")
    print(f"\nrun directory       {_near(run)}")
    if (run / "scores.png").is_file():
        print(f"score curve         {_near(run / 'scores.png')}")


def _runs(workspace: Path) -> list[Path]:
    """The run directories of a workspace, oldest first."""
    journals = [path for path in workspace.glob(f"*/{JOURNAL}") if path.parent.name != "lab"]
    return [path.parent for path in sorted(journals, key=lambda path: path.stat().st_mtime)]


def _near(path: Path) -> Path:
    """A path as seen from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise LabError(f"this command needs {name}, which is not installed: pip install 'epsilon-lab[dev]'") from None


if __name__ == "__main__":
    sys.exit(main())
