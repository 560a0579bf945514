"""What is kept of what was said: late, slow and returning readers are told the truth, in any order of events."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epsilon_lab.broker import topics
from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stimuli import Assign, Received, Record, RestoreTopics, Send
from epsilon_lab.broker.subscription import Reading
from epsilon_lab.broker.topics import KEPT, KEPT_BYTES, LETTER_BYTES, LETTERS, Mailbox, Topic
from epsilon_lab.messages.events import LabOpened, TopicsPublished, message_line, message_of
from epsilon_lab.messages.frames import Hello, Publish, Subscribe
from epsilon_lab.messages.post import Message
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.register import Register


def said(data=b"1", **fields):
    return Message(0, "lab", data, 1.0, **fields)


def filled(count, data=b"1"):
    topic = Topic()
    for _ in range(count):
        topic.add(said(data), 1)
    return topic


def seqs(found):
    return [message.seq for message in found.messages]


def test_a_newcomer_gets_the_last_message_alone():
    found = filled(5).after(None)
    assert (seqs(found), found.missed, found.place) == ([5], 0, (1, 5))
    assert Topic().after(None) is None


def test_who_comes_in_time_gets_all():
    found = filled(5).after((1, 2))
    assert (seqs(found), found.missed) == ([3, 4, 5], 0)
    assert filled(5).after((1, 5)) is None


def test_who_comes_too_late_gets_the_last_and_the_number_of_the_others():
    found = filled(KEPT + 10).after((1, 3))
    assert (seqs(found), found.missed) == ([KEPT + 10], KEPT + 10 - 4)
    assert seqs(filled(KEPT + 10).after((1, 10))) == list(range(11, KEPT + 11))


def test_large_messages_are_kept_for_a_shorter_time():
    found = filled(9, b"x" * (KEPT_BYTES // 4)).after((1, 5))
    assert (seqs(found), found.missed) == ([6, 7, 8, 9], 0)
    assert seqs(filled(9, b"x" * (KEPT_BYTES // 4)).after((1, 4))) == [9]


def test_numbers_that_a_crash_took_back_do_not_come_twice():
    """A reader saw number 9; the broker that follows knows nothing, and begins anew in its own, later epoch."""
    topic = Topic()
    topic.add(said(), 2)
    found = topic.after((1, 9))
    assert (seqs(found), found.place, found.missed) == ([1], (2, 1), 0)


def test_a_mailbox_keeps_all_and_refuses_what_is_beyond_its_bounds():
    box = Mailbox()
    for _ in range(LETTERS):
        box.add(said())
    with pytest.raises(ValueError, match="no room"):
        box.add(said())
    assert seqs(box.after((0, LETTERS - 2))) == [LETTERS - 1, LETTERS]
    box.take_out(LETTERS)
    assert box.after(None) is None
    assert box.add(said()).seq == LETTERS + 1
    box = Mailbox()
    box.add(said(b"x" * LETTER_BYTES))
    with pytest.raises(ValueError, match="no room"):
        box.add(said())


def test_what_is_told_again_lies_there_once():
    box = Mailbox()
    assert box.add(said(id="5.1")).seq == 1
    assert box.add(said(id="5.1")) is None
    assert box.add(said(id="6.1")).seq == 2


def test_the_last_values_are_read_out_of_the_lab_s_journal(tmp_path):
    journal = Journal.open(tmp_path / "lab.ndjson")
    for seq, names in enumerate(["ab", "a", "b"], 1):
        line = message_line(Message(seq, "lab", b'{"x":[1,null]}', 2.5, "00-a-b-01", 7))
        journal.append(1.0, TopicsPublished(topics=dict.fromkeys(names, line)), LabOpened(epoch=1, pid=1, host="h"))
    journal.commit()
    journal.close()
    past = Register()
    past.take(read_journal(tmp_path / "lab.ndjson").records)
    last = past.last_values
    assert {name: message.seq for name, message in last.items()} == {"a": 2, "b": 3}
    assert last["a"] == Message(2, "lab", b'{"x":[1,null]}', 2.5, "00-a-b-01", 7)


# -- in any order ------------------------------------------------------------------------------------------------------


class World:
    """A topic that brokers come and go with, and readers who may be slow or come back; all by the rules themselves."""

    def __init__(self):
        self.epoch = 0
        self.total = 0
        self.recorded = {}
        self.readers = []
        self.restart()

    def restart(self):
        self.epoch += 1
        self.state = BrokerState(BrokerSettings(), epoch=self.epoch)
        self.state.step(RestoreTopics({name: message_of(line) for name, line in self.recorded.items()}), 0.0)
        self.say(Hello(pid=1, host="h"))

    def say(self, message):
        """Say something to the broker and let it end its turn; what it answers."""
        effects = self.state.step(Received("s/desk", message), 0.0) + self.state.step(Assign(), 0.0)
        for effect in effects:
            if isinstance(effect, Record) and isinstance(effect.body, TopicsPublished):
                self.recorded |= effect.body.topics
        return [effect.message for effect in effects if isinstance(effect, Send)]

    def publish(self, burst):
        for _ in range(burst):
            self.total += 1
            self.say(Publish(note_id=1, topic="t", data=str(self.total).encode(), sent_at=0.0))


class Reader:
    def __init__(self, world):
        self.reading = Reading(Subscribe(note_id=0, topic="t"))
        self.got = []
        self.began_at = max(world.total, 1)
        self.read(world)

    def read(self, world, *, answer_is_lost=False):
        [news] = world.say(msgspec.structs.replace(self.reading.question(wait=False), note_id=7))
        if not answer_is_lost:  # otherwise the connection was cut, and the same is asked again
            self.reading.take(news)
            self.got += self.reading.pop_all()


events = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 8)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("open")),
    st.tuples(st.just("read"), st.integers(0, 5)),
    st.tuples(st.just("lose"), st.integers(0, 5)),
)


@example(1, [("open",), ("publish", 3), ("read", 0), ("publish", 4), ("read", 0)])
@example(2, [("publish", 5), ("open",), ("publish", 4), ("restart",), ("lose", 0), ("publish", 1), ("read", 0)])
@given(st.integers(1, 5), st.lists(events, max_size=40))
def test_each_reader_sees_a_growing_part_ends_with_the_last_and_can_count_the_rest(kept, script):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "KEPT", kept)
        world = World()
        for event in script:
            match event:
                case ("publish", burst):
                    world.publish(burst)
                case ("restart",):
                    world.restart()
                case ("open",):
                    world.readers.append(Reader(world))
                case (what, index) if index < len(world.readers):
                    world.readers[index].read(world, answer_is_lost=what == "lose")
        for reader in world.readers:
            reader.read(world)
            numbers = [message.value for message in reader.got]
            assert [message.seq for message in reader.got] == numbers
            assert all(one.place < other.place for one, other in zip(reader.got, reader.got[1:], strict=False))
            if world.total:
                assert numbers[-1] == world.total
                assert len(numbers) + reader.reading.missed == world.total - reader.began_at + 1
