"""Patience: who waits gets the answer, or gets away; who works hears of it where it can stop."""

from __future__ import annotations

import threading

import duckdb
import pytest

from epsilon_lab.workspace import patience
from epsilon_lab.workspace.patience import GivenUp, Patience, answered

ENDLESS = "select count(*) from range(10000000) a, range(10000000) b"


def test_the_answer_the_error_and_what_is_told_come_to_the_one_who_asked() -> None:
    def ask(waiting: Patience) -> str:
        waiting.notes.append("one run is damaged")
        return threading.current_thread().name

    with pytest.warns(UserWarning, match="one run is damaged"):
        assert answered(ask) != threading.current_thread().name
    with pytest.raises(ZeroDivisionError):
        answered(lambda _: 1 // 0)


def test_where_patience_cannot_end_nobody_else_does_the_work() -> None:
    names: list[str] = []
    thread = threading.Thread(
        target=lambda: names.append(answered(lambda _: threading.current_thread().name)), name="x"
    )
    thread.start()
    thread.join()
    assert names == ["x"]


def test_when_time_is_up_a_query_is_interrupted_and_other_work_stops_where_it_looks() -> None:
    ended: list[str] = []

    def query(waiting: Patience) -> None:
        try:
            with waiting.running(connection):
                connection.execute(ENDLESS).fetchall()
        except (duckdb.InterruptException, GivenUp):  # the second where it had not begun by then
            ended.append("query")

    def work(waiting: Patience) -> None:
        while not waiting.is_over:
            pass
        ended.append("work")

    with duckdb.connect() as connection:
        for ask in (query, work):
            with pytest.raises(TimeoutError):
                answered(ask, 0.2)
    assert ended == ["query", "work"]


def test_nothing_is_begun_once_patience_is_over() -> None:
    waiting = Patience()
    waiting.end()
    with duckdb.connect() as connection, pytest.raises(GivenUp), waiting.running(connection):
        raise AssertionError
    with pytest.raises(GivenUp):
        waiting.check()


def test_work_that_does_not_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LEFT_S", 0.05)
    at_last, threads = threading.Event(), []

    def ask(_: Patience) -> None:
        threads.append(threading.current_thread())
        at_last.wait(20)

    with pytest.raises(TimeoutError):
        answered(ask, 0.2)
    assert all(thread.is_alive() for thread in threads)
    at_last.set()
    for thread in threads:
        thread.join()
