"""How much of a model's speed is left when its calls go through the lab, by plain HTTP and through litellm.

    python benchmarks/model_calls.py [--rounds 3] [--calls 320] [--window 16] [--latency 0.05]

A model that answers after a fixed time, kept busy by a full window of questions, answers window / latency questions a
second: the ideal. Each round measures every way in the same minute, against a server in a process of its own:

* raw, HTTP and raw, litellm: bare loops that keep the window full, and keep nothing: what this machine's mood, and
  litellm, allow;
* lab, http/ and lab, openai/: a search whose proposals are model calls, each with its prompt, its row before and after,
  its reply and its program on record. "alone" answers every question with the same program, which is judged once;
  "judged" answers each with another, so that two workers judge meanwhile on the same cores.

A way's time is from the first proposal's start to the last one's end. The lab's directory is made where you stand, not
in /tmp: a new file costs 15 times as much in a temporary directory that many others have filled.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp

from epsilon_lab import LLM, Lab, PopulationSearch, Problem
from epsilon_lab.agents.litellm_door import aclose, open_litellm
from epsilon_lab.testing.model_server import ModelServer, Request, vary_number

SEED = "def solve():\n    return sum(number * number for number in range(100)) + 1\n"
SMALL, LARGE = "gpt-4o-mini", "gpt-4o"  # names that litellm has a price for, which it looks up at each call
SAME = f"One idea.\n\n```python\n{SEED}```\n"


def serve(latency_s: float) -> None:
    """As the server's process: answer until stdin ends. The smaller model always answers the same."""

    def script(request: Request) -> str:
        return SAME if request.json["model"] == SMALL else vary_number(request)

    with ModelServer(script, latency_s=latency_s) as server:
        print(server.url, flush=True)
        sys.stdin.read()


async def raw(ask: Callable[[list[dict[str, str]]], Awaitable[object]], calls: int, window: int) -> float:
    """Seconds that a bare loop takes."""
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            await ask([{"role": "user", "content": f"Question {number}:\n\n{SAME}" * 4}])

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(window)))
    return time.perf_counter() - began


def raw_http(url: str, calls: int, window: int) -> float:
    return asyncio.run(ask_http(url, calls, window))


async def ask_http(url: str, calls: int, window: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(messages: list[dict[str, str]]) -> None:
            async with session.post(f"{url}/chat/completions", json={"model": SMALL, "messages": messages}) as response:
                await response.json()

        return await raw(ask, calls, window)


def raw_litellm(url: str, calls: int, window: int) -> float:
    """In a process of its own: litellm's global state belongs to one loop."""
    command = [sys.executable, __file__, "--litellm", url, "--calls", str(calls), "--window", str(window)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


async def ask_litellm(url: str, calls: int, window: int) -> float:
    ask = partial(open_litellm().acompletion, f"openai/{SMALL}", api_base=url, api_key="none", max_retries=0)
    try:
        await raw(ask, window, window)
        return await raw(ask, calls, window)
    finally:
        await aclose()


def through_lab(lab: Lab, url: str, model: str, calls: int, window: int) -> float:
    """Seconds that a search takes for its proposals."""
    problem = Problem("squares", "Return a large number.", SEED, score=float)
    numbers = {"population": calls, "generations": 1, "elites": 0, "diverse": 0, "fresh": calls, "in_flight": window}
    run = lab.start(PopulationSearch(problem, LLM(model, api_base=url), **numbers)).wait(600)  # type: ignore[arg-type]
    tasks = run.frame("tasks").query("kind == 'propose'")
    assert len(tasks) == len(run.frame("llm_calls")) == calls
    assert set(tasks["status"]) == {"completed"}
    return float((tasks["finished_at"].max() - tasks["started_at"].min()).total_seconds())


def main() -> None:
    parser = argparse.ArgumentParser(description="Model calls through the lab, beside a bare loop.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=320)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--dir", default=".", help="where the lab's directory is made (default: here)")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--litellm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return
    if arguments.litellm is not None:
        print(asyncio.run(ask_litellm(arguments.litellm, arguments.calls, arguments.window)))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    ideal = arguments.calls / arguments.window * arguments.latency
    ways = {
        "lab, http/, alone": f"http/{SMALL}",
        "lab, http/, judged": f"http/{LARGE}",
        "lab, openai/, alone": f"openai/{SMALL}",
        "lab, openai/, judged": f"openai/{LARGE}",
    }
    loops = {"raw, HTTP": raw_http, "raw, litellm": raw_litellm}
    found: dict[str, list[float]] = {way: [] for way in (*loops, *ways)}
    command = [sys.executable, __file__, "--serve", str(arguments.latency)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as path, Lab(path, workers=2) as lab:
        for model in ways.values():
            through_lab(lab, url, model, arguments.window, arguments.window)
        for _ in range(arguments.rounds):
            for way, loop in loops.items():
                found[way].append(loop(url, arguments.calls, arguments.window))
            for way, model in ways.items():
                found[way].append(through_lab(lab, url, model, arguments.calls, arguments.window))
    server.communicate()
    stamp = time.strftime("%Y-%m-%d %H:%M")
    print(f"{stamp}, Python {sys.version.split()[0]}, {cores} cores, load before {load:.1f}")
    print(
        f"median of {arguments.rounds} rounds of {arguments.calls} calls, {arguments.window} in flight, "
        f"{arguments.latency * 1000:g} ms a call: ideal {arguments.calls / ideal:.0f} calls/s\n"
    )
    print(f"{'':24}{'calls/s':>10}{'of ideal':>10}{'lowest':>10}{'highest':>10}{'of its raw':>12}")
    for way, seconds in found.items():
        middle = statistics.median(seconds)
        beside = statistics.median(found["raw, litellm" if "openai" in way else "raw, HTTP"]) / middle
        print(
            f"{way:24}{arguments.calls / middle:10.0f}{ideal / middle:10.0%}{ideal / max(seconds):10.0%}"
            f"{ideal / min(seconds):10.0%}{beside:12.0%}"
        )


if __name__ == "__main__":
    main()
