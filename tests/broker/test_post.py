"""Routing on a table: who may say what to whom, and who hears it when."""

import pytest

from epsilon_lab.broker import post
from epsilon_lab.broker.stimuli import CancelTasks, CloseRun, OpenRun, OpenTask, Send, Undelivered
from epsilon_lab.messages.events import MessagesSent
from epsilon_lab.messages.frames import (
    Bye,
    Denied,
    Direct,
    Forget,
    Hello,
    Kill,
    News,
    Publish,
    Read,
    Recorded,
    Subscribe,
)
from epsilon_lab.messages.post import Message

DESK = "d/desk"


@pytest.fixture
def talk(table):
    """A table with a desk at it."""
    table.join(DESK, lanes=())
    return table


def publish(topic, data=b"1", note_id=1, **fields):
    return Publish(note_id=note_id, topic=topic, data=data, sent_at=1.0, **fields)


def direct(to, data=b"1", note_id=1, **fields):
    return Direct(note_id=note_id, to=to, data=data, sent_at=1.0, **fields)


def news(answer, to=None):
    return [(message.note_id, [each.data for each in message.messages]) for message in answer.sent(News, to)]


def working(table, *tasks, peer="s/w1", **fields):
    """Let a member work on tasks; the fence of each."""
    table.join(peer, **fields)
    table.submit(*tasks)
    table.turn()
    return [table.given[peer][task].fence for task in tasks]


def test_a_reader_that_waits_hears_the_next_message_once(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    assert not news(talk.turn())
    talk.say("d/desk", publish("t"))
    answer = talk.turn()
    assert news(answer, DESK) == [(7, [b"1"])]
    talk.say(DESK, publish("t", b"2"))
    assert not news(talk.turn()), "nobody asked for more"


def test_what_comes_together_leaves_together_and_is_one_line(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    for n in b"123":
        talk.say(DESK, publish("t", bytes([n])))
    talk.say(DESK, publish("u", b"4"))
    answer = talk.turn()
    assert news(answer) == [(7, [b"1", b"2", b"3"])]
    [line] = answer.records(None)
    assert {topic: (said.seq, bytes(said.value)) for topic, said in line.topics.items()} == {
        "t": (3, b"3"),
        "u": (1, b"4"),
    }
    assert not talk.turn().records(None)


def test_an_acknowledgement_is_a_promise(talk):
    """It waits for the disk, and is taken back where the lab's journal cannot be written."""
    [confirmed] = [effect for effect in talk.say(DESK, publish("t")) if isinstance(effect, Send)]
    assert confirmed == Send(DESK, Recorded(note_id=1), None, is_promise=True)


def test_one_that_does_not_wait_is_answered_at_once(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", wait=False))
    [answer] = talk.turn().sent(News)
    assert (answer.messages, answer.place) == ((), (0, 0))


def test_what_nobody_waits_for_any_more_is_not_sent(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    talk.say(DESK, Subscribe(note_id=8, topic="t", after=(0, 0)))
    talk.say(DESK, Forget(note_ids=(7, 99)))
    talk.say(DESK, publish("t"))
    assert news(talk.turn()) == [(8, [b"1"])]


def test_a_peer_that_left_waits_for_nothing(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    talk.say(DESK, Bye())
    talk.join("e/desk", lanes=())
    talk.say("e/desk", publish("t"))
    assert not news(talk.turn())


def test_an_answer_that_was_not_delivered_waits_until_its_peer_may_be_back(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    talk.say(DESK, publish("t"))
    [lost] = talk.turn().sent(News)
    talk.step(Undelivered(DESK, lost))
    assert not news(talk.turn()), "not before time has passed: the loop would never end"
    talk.say(DESK, publish("t", b"2"))
    assert not news(talk.turn())
    talk.later(0.5)
    assert news(talk.turn()) == [(7, [b"1", b"2"])]


def test_questions_are_bounded(talk, monkeypatch):
    monkeypatch.setattr(post, "QUESTIONS", 2)
    for n in range(2):
        assert not talk.say(DESK, Subscribe(note_id=n, topic="t", after=(0, 0)))
    assert not talk.say(DESK, Subscribe(note_id=1, topic="t", after=(0, 0))), "the same one again"
    [denied] = talk.say(DESK, Subscribe(note_id=3, topic="t", after=(0, 0))).sent(Denied)
    assert "2 questions of d/desk" in denied.reason


def test_topics_and_inboxes_are_bounded(talk, monkeypatch):
    monkeypatch.setattr(post, "TOPICS", 1)
    talk.say(DESK, publish("t"))
    for refused in (publish("u"), Subscribe(note_id=1, topic="u")):
        [denied] = talk.say(DESK, refused).sent(Denied)
        assert "1 topics already" in denied.reason
    talk.say(DESK, Read(note_id=1, inbox="a"))
    [denied] = talk.say(DESK, Read(note_id=2, inbox="b")).sent(Denied)
    assert "1 inboxes already; use one of those" in denied.reason


@pytest.mark.parametrize("name", ["", "a\n", "x" * 201, "\u202e"])
def test_a_name_that_is_none_is_denied_and_nothing_is_kept(talk, name):
    for refused in (publish(name), Subscribe(note_id=1, topic=name)):
        [denied] = talk.say(DESK, refused).sent(Denied)
        assert "name" in denied.reason
    assert not talk.state.board.post.topics


@pytest.mark.parametrize("data", [b"{", b"\xff", b"1\n", b"", b'"' + b"x" * 70_000 + b'"'])
def test_what_cannot_stand_in_a_journal_is_denied(talk, data):
    for refused in (publish("t", data), direct("lab", data)):
        assert talk.say(DESK, refused).sent(Denied)
    assert not talk.turn().records(None)


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_speaks_in_its_own_name(talk):
    [fence] = working(talk, "a")
    talk.say(DESK, Subscribe(note_id=7, topic="t"))
    talk.say("s/w1", publish("t", note_id=4, fence=fence))
    [answer] = talk.turn().sent(News, DESK)
    [message] = answer.messages
    assert (message.sender, message.id) == ("r/a", f"{fence}.4")
    assert message.traceparent.startswith("00-")


@pytest.mark.parametrize("said", [publish("t", fence=99), direct("a", fence=99), Read(note_id=1, fence=99)])
def test_an_attempt_that_is_over_says_and_reads_nothing(talk, said):
    """A zombie, or one that guesses another's fence."""
    working(talk, "a")
    [denied] = talk.say("s/w1", said).sent(Denied)
    assert "other hands" in denied.reason
    assert not talk.turn().records(None)


def test_another_member_cannot_speak_for_a_task(talk):
    [fence] = working(talk, "a")
    talk.join("z/w1")
    assert talk.say("z/w1", publish("t", fence=fence)).sent(Denied)


def test_a_task_reads_what_was_sent_before_it_began_and_while_it_runs(talk):
    talk.submit("a")
    assert talk.say(DESK, direct("r/a", b"1")).sent(Recorded)
    [line] = talk.turn().records()
    assert [(to, said.seq, said.sender) for to, said in line.messages] == [("a", 1, "lab")]
    talk.join()
    talk.turn()
    fence = talk.given["s/w1"]["a"].fence
    talk.say("s/w1", Read(note_id=5, fence=fence))
    assert news(talk.turn()) == [(5, [b"1"])]
    talk.say("s/w1", Read(note_id=6, fence=fence, after=1))
    talk.say(DESK, direct("r/a", b"2"))
    assert news(talk.turn()) == [(6, [b"2"])]


def test_each_attempt_reads_from_the_first_message_on(talk):
    [fence] = working(talk, "a")
    talk.boss()
    talk.say(DESK, direct("r/a", b"1"))
    talk.say("s/w1", Read(note_id=5, fence=fence))
    talk.turn()
    talk.lose()
    talk.join("s/w2")
    talk.turn()
    talk.say("s/w2", Read(note_id=1, fence=talk.given["s/w2"]["a"].fence))
    assert news(talk.turn()) == [(1, [b"1"])]


def test_within_a_run_a_task_is_called_by_its_id(talk):
    first, second = working(talk, "a", "b", slots=2)
    talk.say("s/w1", direct("b", b"1", fence=first))
    talk.say("s/w1", Read(note_id=2, fence=second))
    answer = talk.turn()
    assert news(answer) == [(2, [b"1"])]
    assert answer.records()[0].messages[0][1].sender == "r/a"


def test_what_is_told_again_after_a_lost_answer_lies_there_once(talk):
    first, _ = working(talk, "a", "b", slots=2)
    for _ in range(2):
        assert talk.say("s/w1", direct("b", b"1", fence=first)).sent(Recorded)
    [line] = talk.turn().records()
    assert len(line.messages) == 1


@pytest.mark.parametrize("to", ["nobody", "r/none", "none/a", "a", "r/", "/a", ""])
def test_an_address_that_nobody_has_is_denied(talk, to):
    talk.submit("a")
    [denied] = talk.say(DESK, direct(to)).sent(Denied)
    assert f"there is no {to!r}" in denied.reason


def test_a_settled_task_has_no_address_and_leaves_nothing_behind(talk):
    [fence] = working(talk, "a")
    talk.say(DESK, direct("r/a"))
    talk.say("s/w1", Read(note_id=5, fence=fence, after=1))
    answer = talk.done("s/w1", "a")
    assert answer.sent(Denied) == [Denied(note_id=5, reason="the task is settled")]
    assert talk.say(DESK, direct("r/a")).sent(Denied)
    assert not talk.state.board.runs["r"].mailboxes


@pytest.mark.parametrize("end", [CloseRun("r"), CancelTasks("r", None, "enough")])
def test_who_waits_in_a_run_that_ends_is_told(talk, end):
    [fence] = working(talk, "a")
    talk.say("s/w1", Read(note_id=5, fence=fence))
    assert talk.step(end).sent(Denied, "s/w1")
    assert not talk.say(DESK, publish("t")).sent(Kill)


def test_a_full_mailbox_is_refused_to_its_sender(talk, monkeypatch):
    monkeypatch.setattr("epsilon_lab.broker.topics.LETTERS", 1)
    talk.submit("a")
    assert talk.say(DESK, direct("r/a")).sent(Recorded)
    [denied] = talk.say(DESK, direct("r/a")).sent(Denied)
    assert "no room" in denied.reason


def test_a_run_that_is_taken_up_again_has_its_messages(talk, make_spec):
    left = OpenTask(make_spec("a"), messages=(Message(1, "lab", b"1", 1.0), Message(2, "lab", b"2", 1.0)))
    talk.step(OpenRun("r2", "/runs/r2", (left,)))
    talk.say(DESK, direct("r2/a", b"3"))
    talk.join()
    talk.turn()
    talk.say("s/w1", Read(note_id=5, fence=talk.given["s/w1"]["a"].fence, after=1))
    assert news(talk.turn()) == [(5, [b"2", b"3"])]


# -- inboxes -----------------------------------------------------------------------------------------------------------


def test_an_inbox_is_there_once_it_was_opened_and_is_emptied_by_reading(talk):
    assert talk.say(DESK, direct("alice")).sent(Denied)
    talk.say(DESK, Read(note_id=7, inbox="alice", wait=False))
    assert news(talk.turn()) == [(7, [])]
    for n in b"12":
        assert talk.say(DESK, direct("alice", bytes([n]))).sent(Recorded)
    assert [type(body) for body in talk.turn().records(None)] == [MessagesSent]
    talk.say(DESK, Read(note_id=8, inbox="alice"))
    assert news(talk.turn()) == [(8, [b"1", b"2"])]
    talk.say(DESK, Read(note_id=9, inbox="alice", after=1))
    assert news(talk.turn()) == [(9, [b"2"])]
    talk.say(DESK, Read(note_id=9, inbox="alice"))
    assert news(talk.turn()) == [(9, [b"2"])], "the first was read, and is gone"


@pytest.mark.parametrize("name", ["a/b", "a\n", "x" * 201])
def test_an_inbox_cannot_be_taken_for_a_task(talk, name):
    [denied] = talk.say(DESK, Read(note_id=7, inbox=name)).sent(Denied)
    assert "inbox's name" in denied.reason


def test_a_stranger_says_nothing(table):
    answer = table.say("x/y", publish("t"))
    assert not answer.sent(Recorded)
    assert not table.turn().records(None)


def test_speaking_renews_the_lease(talk):
    for _ in range(5):
        talk.later(6)
        talk.say(DESK, publish("t"))
    assert talk.say(DESK, Subscribe(note_id=7, topic="t", wait=False)) is not None
    assert news(talk.turn())


def test_a_reader_that_says_hello_again_is_not_forgotten(talk):
    talk.say(DESK, Subscribe(note_id=7, topic="t", after=(0, 0)))
    talk.say(DESK, Hello(pid=7, host="h"))
    talk.say(DESK, publish("t"))
    assert news(talk.turn()) == [(7, [b"1"])]
