"""No-op tasks through other people's queues, and through a bare socket: what benchmarks/broker.py measures us beside.

Every way has two worker processes and does the same: take a number, give it back. What is not installed says so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import msgspec
import zmq

WORKERS = 2
IN_FLIGHT = 64


class Way(NamedTuple):
    """A queue that is up and warm."""

    many: Callable[[int], object]
    """Put so many numbers through, all of them waiting from the start; return once every answer is there."""

    one: Callable[[int], object]
    """Put one number through and wait for its answer."""


Open = Callable[[], contextlib.AbstractContextManager[Way]]


def noop(item: Any) -> Any:
    return item


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _echo(address: str) -> None:
    """Answer what comes, one message a task, until an empty one."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(address)
        socket.send(b"hello")
        while socket.poll():
            with contextlib.suppress(zmq.Again):
                while True:
                    message = socket.recv(zmq.NOBLOCK)
                    if not message:
                        return
                    socket.send(msgspec.msgpack.encode(msgspec.msgpack.decode(message)))


@contextlib.contextmanager
def canary() -> Iterator[Way]:
    """A ROUTER and one DEALER in another process, a msgpack message a task, 64 in flight: the machine's mood."""
    with tempfile.TemporaryDirectory() as directory, zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        address = f"ipc://{directory}/echo"
        socket.bind(address)
        child = multiprocessing.get_context("spawn").Process(target=_echo, args=(address,))
        child.start()
        peer, _ = socket.recv_multipart()

        def many(count: int, window: int = IN_FLIGHT) -> None:
            sent = answered = 0
            while answered < count:
                while sent < count and sent - answered < window:
                    socket.send_multipart((peer, msgspec.msgpack.encode(sent)))
                    sent += 1
                socket.poll()
                with contextlib.suppress(zmq.Again):
                    while True:
                        msgspec.msgpack.decode(socket.recv_multipart(zmq.NOBLOCK)[1])
                        answered += 1

        yield Way(many, lambda _: many(1, 1))
        socket.send_multipart((peer, b""))
        child.join()


@contextlib.contextmanager
def process_pool() -> Iterator[Way]:
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        yield Way(lambda count: list(pool.map(noop, range(count))), lambda item: pool.submit(noop, item).result())


@contextlib.contextmanager
def dask() -> Iterator[Way]:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield Way(
            lambda count: client.gather(client.map(noop, range(count), pure=False)),
            lambda item: client.submit(noop, item, pure=False).result(),
        )


@contextlib.contextmanager
def ray_tasks() -> Iterator[Way]:
    import ray

    with _ray(ray):
        call = ray.remote(noop).remote
        yield Way(lambda count: ray.get([call(item) for item in range(count)]), lambda item: ray.get(call(item)))


@contextlib.contextmanager
def ray_actors() -> Iterator[Way]:
    import ray

    class Worker:
        def call(self, item: Any) -> Any:
            return item

    with _ray(ray):
        crew = [ray.remote(Worker).remote() for _ in range(WORKERS)]
        yield Way(
            lambda count: ray.get([crew[item % WORKERS].call.remote(item) for item in range(count)]),
            lambda item: ray.get(crew[item % WORKERS].call.remote(item)),
        )


@contextlib.contextmanager
def _ray(ray: Any) -> Iterator[None]:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ipyparallel() -> Iterator[Way]:
    import ipyparallel

    with ipyparallel.Cluster(n=WORKERS, log_level=logging.ERROR, engine_timeout=60) as client:
        client.wait_for_engines(WORKERS, interactive=False)
        view = client.load_balanced_view()

        def local(item: Any) -> Any:
            return item

        local.__module__ = "__main__"  # then it travels whole: an engine does not find this file
        yield Way(
            lambda count: view.map_async(local, range(count)).get(), lambda item: view.apply_async(local, item).get()
        )


class Peer(NamedTuple):
    """How to open a way, and how many tasks it is put to: as many as take it a few seconds at most."""

    module: str
    open: Open
    tasks: int


PEERS = {
    "raw pyzmq echo": Peer("zmq", canary, 50_000),
    "ProcessPoolExecutor": Peer("concurrent.futures", process_pool, 10_000),
    "Dask, 2 processes": Peer("distributed", dask, 2_000),
    "Ray tasks": Peer("ray", ray_tasks, 4_000),
    "Ray, 2 actors": Peer("ray", ray_actors, 4_000),
    "ipyparallel, balanced": Peer("ipyparallel", ipyparallel, 1_000),
}


def one_by_one(way: Way, *, most: int = 2_000, seconds: float = 2.0) -> list[float]:
    """Seconds that each of many tasks took, one after the other; the first tenth, which is warming up, left out."""
    laps: list[float] = []
    until = time.perf_counter() + seconds
    while len(laps) < most and (began := time.perf_counter()) < until:
        way.one(len(laps))
        laps.append(time.perf_counter() - began)
    return laps[len(laps) // 10 :]
