"""Wires keep what a transport promises: whole, once, in order, lost only with their connection."""

import pytest

from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.frames import MAX_FRAME
from epsilon_lab.simulation.network import Network
from epsilon_lab.simulation.world import Process, World

FRAMES = [b"%d" % n for n in range(50)]


@pytest.fixture
def world():
    return World(5)


@pytest.fixture
def network(world):
    return Network(world, slowest_s=0.3)


@pytest.fixture
def dial(world, network):
    return lambda name="s/w1": network.dial(Process(world, name), name, lambda: None, is_lossy=True)


def pass_time(world, seconds=2.0):
    world.after(seconds, lambda: None)
    world.run(lambda: False, within_s=seconds)


def received(listener):
    return [frame for _, frame in listener.receive()]


def test_frames_of_a_peer_arrive_once_and_in_their_order(world, network, dial):
    listener, dialer = network.listen(), dial()
    for frame in FRAMES:
        dialer.send(frame)
        pass_time(world, 0.01)
    pass_time(world)
    assert received(listener) == FRAMES
    for frame in FRAMES:
        assert listener.send("s/w1", frame)
    pass_time(world)
    assert dialer.receive() == FRAMES


def test_what_is_sent_before_anyone_listens_waits(world, network, dial):
    dialer = dial()
    dialer.send(b"early")
    pass_time(world)
    listener = network.listen()
    pass_time(world)
    assert received(listener) == [b"early"]


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_wire_keeps_its_frames_until_it_is_mended(world, network, dial, way):
    listener, dialer, other = network.listen(), dial(), dial("t/w1")
    pass_time(world)
    network.cut("s", way)
    for peer in (dialer, other):
        peer.send(b"up")
        listener.send(peer.peer_id, b"down")
    pass_time(world)
    assert sorted(listener.receive()) == [(name, b"up") for name in (["t/w1"] if way == "up" else ["s/w1", "t/w1"])]
    assert dialer.receive() == ([] if way == "down" else [b"down"])
    network.mend("s", way)
    pass_time(world)
    assert received(listener) == ([b"up"] if way == "up" else [])
    assert dialer.receive() == ([b"down"] if way == "down" else [])


def test_a_connection_that_ends_takes_along_what_is_on_it(world, network, dial):
    listener, dialer = network.listen(), dial()
    pass_time(world)
    dialer.send(b"lost")
    listener.close()
    dialer.send(b"kept")
    anew = network.listen()
    pass_time(world)
    assert received(anew) == [b"kept"]
    assert not listener.send("s/w1", b"from the grave")


def test_a_peer_that_is_gone_is_not_connected_and_what_it_sent_arrives(world, network, dial):
    listener, dialer = network.listen(), dial()
    pass_time(world)
    dialer.send(b"last")
    dialer.close()
    pass_time(world)
    assert received(listener) == [b"last"]
    assert not listener.send("s/w1", b"too late")


def test_a_connection_that_is_reset_loses_what_is_on_it_is_made_anew_and_says_so(world, network, dial):
    listener, dialer = network.listen(), dial()
    pass_time(world)
    assert not dialer.was_cut()
    dialer.send(b"lost")
    listener.send("s/w1", b"lost too")
    network.reset("s/")
    assert not listener.send("s/w1", b"not connected")
    dialer.send(b"kept")
    pass_time(world)
    assert received(listener) == [b"kept"]
    assert dialer.receive() == []
    assert [dialer.was_cut(), dialer.was_cut()] == [True, False]
    assert listener.send("s/w1", b"again")


def test_an_unruly_network_loses_doubles_and_reorders(world, network, dial):
    listener, dialer = network.listen(), dial()
    pass_time(world)
    network.is_unruly = True
    for frame in FRAMES:
        dialer.send(frame)
    pass_time(world, 10.0)
    arrived = received(listener)
    assert set(arrived) < set(FRAMES)
    assert len(arrived) > len(set(arrived))
    assert arrived != sorted(arrived, key=int)


def test_too_large_a_frame_is_refused(dial):
    with pytest.raises(BadFrame):
        dial().send(bytes(MAX_FRAME + 1))
