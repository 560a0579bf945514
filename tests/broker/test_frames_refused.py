"""Whatever comes over the line, the loop goes on, and whoever sent it is told."""

import anyio
import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from epsilon_lab.messages.events import RunBorn
from epsilon_lab.messages.frames import PROTOCOL_VERSION, Refused
from epsilon_lab.transport import memory
from tests.broker.scene import Home, Worker


def test_garbage_is_refused_by_name_and_touches_nobody(play, specs):
    garbage = [
        b"",
        b"\0",
        b"\xff" * 1000,
        bytes([PROTOCOL_VERSION]),
        bytes([PROTOCOL_VERSION + 1]) + msgspec.msgpack.encode(["bye"]),
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(["hello", "pid", 3]),
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(["nonsense"]),
        bytes([PROTOCOL_VERSION]) + b"\x91" * 5000,
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode({"type": "done"}),
    ]

    async def scene(home):
        run, worker, bad = home.run(), await Worker(home, "s/w1").join(), await Worker(home, "s/w2").join()
        for frame in garbage:
            bad.dialer.send(frame)
            await bad.expect(Refused)
        home.host.submit("r", specs(2, prefetch=False))
        for each in (worker, bad):
            each.answer(await each.take())
        await run.until(lambda: len(run.outcomes) == 2)

    play(scene)


@settings(max_examples=60)
@given(
    frames=st.lists(
        st.binary(max_size=40)
        | st.recursive(
            st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
            lambda inner: st.lists(inner, max_size=12),
        ).map(lambda body: bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(body))
        | st.tuples(
            st.sampled_from(["hello", "done", "note", "renew", "lost", "bye"]),
            st.lists(
                st.integers(-1, 2**40)
                | st.text(max_size=5)
                | st.floats()
                | st.sampled_from([["async"], ["process"], [], None, [["t0", "r", 1, ["json", b"}{"], 0, 0, []]]]),
                max_size=8,
            ),
        ).map(lambda pair: bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode([pair[0], *pair[1]])),
        max_size=20,
    )
)
def test_no_frame_ends_the_loop(tmp_path_factory, frames):
    async def main():
        async with Home(memory, tmp_path_factory.mktemp("host")) as home:
            run = home.run()
            with memory.dial(home.address, "s/bad") as bad:
                for frame in frames:
                    bad.send(frame)
                worker = await Worker(home, "t/w1").join()
                home.host.cancel("r")
                home.host.record("r", RunBorn(run_id="alive"))
                home.host.flush()
                assert "lab.run" in run.types()
                worker.peer.bye()

    anyio.run(main)
