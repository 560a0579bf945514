"""What the made-up world itself keeps: one order of events, processes that stop and die, and a loop in their time."""

import asyncio

import pytest

from epsilon_lab.simulation.loop import VirtualLoop
from epsilon_lab.simulation.world import Process, World


@pytest.fixture
def world():
    return World(1)


@pytest.fixture
def process(world):
    return Process(world, "p")


@pytest.fixture
def loop(process):
    loop = VirtualLoop(process)
    yield loop
    loop.end()


def pass_time(world, seconds):
    world.after(seconds, lambda: None)
    world.run(lambda: False, within_s=seconds)


def test_events_happen_in_the_order_of_their_times_and_then_of_their_making(world):
    seen = []
    for name, when in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        world.after(when, lambda name=name: seen.append((name, world.now)))
    pass_time(world, 3.0)
    assert seen == [("a", 1001.0), ("b", 1001.0), ("c", 1002.0)]


def test_a_world_that_does_not_come_to_it_in_time_says_so(world):
    world.after(5.0, lambda: None)
    assert not world.run(lambda: world.now > 1002.0, within_s=2.0)
    assert world.run(lambda: world.now > 1002.0, within_s=6.0)


def test_what_a_stopped_process_has_to_do_it_does_when_it_goes_on(world, process):
    seen = []
    process.after(1.0, lambda: seen.append(world.now))
    process.stop()
    pass_time(world, 3.0)
    assert seen == []
    process.go_on()
    pass_time(world, 1.0)
    assert seen == [1003.0]


def test_a_killed_process_does_nothing_more(world, process):
    seen = []
    process.after(1.0, lambda: seen.append("later"))
    process.kill()
    pass_time(world, 3.0)
    assert seen == []


def test_time_of_a_loop_is_that_of_the_world(world, loop):
    async def sleep_and_tell():
        await asyncio.sleep(2.5)
        return world.now

    task = loop.create_task(sleep_and_tell())
    pass_time(world, 2.0)
    assert not task.done()
    pass_time(world, 1.0)
    assert task.result() == 1002.5


def test_timers_of_a_stopped_loop_are_late(world, process, loop):
    async def sleep_and_tell():
        await asyncio.sleep(1.0)
        return world.now

    task = loop.create_task(sleep_and_tell())
    pass_time(world, 0.5)
    process.stop()
    pass_time(world, 10.0)
    process.go_on()
    pass_time(world, 0.1)
    assert task.result() == 1010.5


def test_a_loop_that_ends_cancels_what_runs_in_it(world, process):
    loop = VirtualLoop(process)
    seen = []

    async def wait():
        try:
            await asyncio.sleep(100.0)
        finally:
            seen.append("ended")

    loop.create_task(wait())
    pass_time(world, 1.0)
    process.kill()
    loop.end()
    assert seen == ["ended"]
    assert loop.is_closed()
