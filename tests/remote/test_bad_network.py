"""A bad network between a worker and its lab: whatever it does, no task is lost and none accepted twice."""

import time

import pytest
import zmq

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.messages.frames import Hello, Refused, Renew, Welcome, decode_from_broker, encode
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.fault_proxy import FaultProxy
from epsilon_lab.transport.curve import DEAF_MS
from epsilon_lab.transport.keys import read_client_key

DEAF_S = DEAF_MS / 1000 + 2.0
"""After so long without a sign of life, a connection has been cut."""


@pytest.fixture
def proxy(far_lab):
    with FaultProxy(far_lab.endpoint, seed=7) as proxy:
        yield proxy


def work(item):
    time.sleep(0.02)
    return item * item


def far_attempts(run):
    attempts = run.frame("attempts")
    return attempts[attempts["worker_id"].str.startswith("remote-") & (attempts["outcome"] == "completed")]


def survives(lab, fault, heal, seconds):
    """Run tasks through a fault, and after it; check what came of them."""
    count = int(40 * (seconds + 3))
    run = lab.start(WorkQueue(list(range(count)), work))
    assert wait_until(lambda: len(far_attempts(run)) > 2, within_s=60)
    fault()
    time.sleep(seconds)  # for as long as the fault lasts, which is what is tested
    heal()
    assert run.wait(120).results() == [item * item for item in range(count)]
    accepted = run.frame("attempts").query("outcome == 'completed'")
    assert sorted(accepted["task_id"]) == sorted(set(accepted["task_id"]))
    assert len(accepted) == count

    def works_again():
        after = lab.start(WorkQueue(list(range(40)), work)).wait(60)
        return len(far_attempts(after)) > 0

    assert wait_until(works_again, within_s=60), "the worker did not come back"


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (lambda proxy: proxy.delay(0.05, 0.05), 1.0),
        pytest.param(lambda proxy: proxy.throttle(20_000), 1.0, marks=pytest.mark.long),
        pytest.param(lambda proxy: proxy.cut(), 0.0, marks=pytest.mark.long),
        (lambda proxy: proxy.cut(after_bytes=100), 0.5),
        (lambda proxy: proxy.half_open(), DEAF_S),
        pytest.param(lambda proxy: proxy.swallow("up"), DEAF_S, marks=pytest.mark.long),
        pytest.param(lambda proxy: proxy.swallow("down"), DEAF_S, marks=pytest.mark.long),
        (lambda proxy: proxy.swallow("both"), 1.0),
        (lambda proxy: (proxy.refuse(), proxy.cut()), 1.0),
    ],
    ids=["late", "slow", "cut", "cut mid-frame", "half open", "deaf", "dumb", "a moment's silence", "refused"],
)
def test_a_fault_that_heals_costs_nothing_but_time(far_lab, proxy, start, await_members, fault, seconds):
    start(proxy.address, "--slots", "2")
    await_members(far_lab, 3)
    survives(far_lab, lambda: fault(proxy), proxy.heal, seconds)
    assert not set(far_lab.sql("select outcome from attempts")["outcome"]) - {"completed", "lost", "stale"}


def test_a_silence_longer_than_the_lease_gives_the_work_to_others(tmp_path, start, await_members, monkeypatch):
    for name, seconds in (("LEASE_S", "2"), ("BEAT_S", "0.5"), ("TICK_S", "0.1")):
        monkeypatch.setenv(f"EPSILON_{name}", seconds)
    with Lab(tmp_path / "runs", workers=1, bind="tcp://127.0.0.1:0") as lab, FaultProxy(lab.endpoint) as proxy:
        start(proxy.address, "--slots", "2")
        await_members(lab, 3)
        survives(lab, lambda: proxy.swallow("both"), proxy.heal, DEAF_S)


def test_two_hundred_that_come_back_at_once_are_all_welcome(far_lab, proxy, tmp_path):
    keys = read_client_key(tmp_path / "runs" / "lab" / "keys" / "worker.key")
    count = 200
    context = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, 2 * count)
    poller, dialers = zmq.Poller(), {}
    try:
        for number in range(count):
            dialer = context.socket(zmq.DEALER)
            for option, value in (
                (zmq.LINGER, 0),
                (zmq.ROUTING_ID, f"remote-storm{number}/boss".encode()),
                (zmq.RECONNECT_IVL, 50),
                (zmq.CURVE_PUBLICKEY, keys.public.encode()),
                (zmq.CURVE_SECRETKEY, keys.secret.encode()),
                (zmq.CURVE_SERVERKEY, keys.server.encode()),
            ):
                dialer.setsockopt(option, value)
            dialer.connect(proxy.address)
            poller.register(dialer, zmq.POLLIN)
            dialers[dialer] = number

        def greet_until_welcome():
            waiting = set(dialers)
            deadline = time.monotonic() + 60
            next_try = 0.0
            while waiting and time.monotonic() < deadline:
                if time.monotonic() > next_try:  # what was sent into a cut connection is gone
                    next_try = time.monotonic() + 2.0
                    for dialer in waiting:
                        dialer.send(encode(Hello(pid=dialers[dialer] + 1, host="storm")))
                for dialer, _ in poller.poll(100):
                    if isinstance(decode_from_broker(dialer.recv()), Welcome):
                        waiting.discard(dialer)
            assert not waiting, f"{len(waiting)} of {count} were not welcomed"

        greet_until_welcome()
        proxy.cut()
        greet_until_welcome()
        assert proxy.connections >= 2 * count
        assert far_lab.start(WorkQueue([1, 2, 3], abs)).wait(60).results() == [1, 2, 3]
    finally:
        for dialer in dialers:
            dialer.close()
        context.term()


def test_nonsense_is_refused_by_name_and_the_loop_goes_on(far_lab, tmp_path):
    from epsilon_lab.transport import curve

    keys = read_client_key(tmp_path / "runs" / "lab" / "keys" / "worker.key")
    hello = encode(Hello(pid=1, host="h", lanes=("async",), slots=1))
    with curve.dial(far_lab.endpoint, "remote-rude/w1", keys) as rude:

        def answer(frame):
            rude.send(frame)
            assert rude.poll(30)
            return decode_from_broker(rude.receive()[0])

        assert "empty frame" in answer(b"").problem
        assert "protocol version" in answer(b"\xff" + hello[1:]).problem
        assert isinstance(answer(hello[:-3]), Refused)
        assert isinstance(answer(hello[:1] + b"\x91\xa7nothing"), Refused)
        assert isinstance(answer(encode(Renew())), Refused)
        assert isinstance(answer(hello), Welcome)
    assert far_lab.start(WorkQueue([1, 2, 3], abs)).wait(60).results() == [1, 2, 3]
