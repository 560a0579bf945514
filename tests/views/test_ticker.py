"""One thread looks for all panels, ends with the last of them, and survives one that breaks."""

import threading

import pytest

from epsilon_lab.views.ticker import Ticker


def test_an_update_is_called_until_it_says_that_it_is_done():
    ticker, calls, done = Ticker(), [], threading.Event()

    def update():
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            done.set()
        return len(calls) < 3

    ticker.add(update)
    ticker.add(update)
    assert done.wait(60)
    ticker.close()
    assert calls == ["lab-view"] * 3


def test_closing_ends_the_thread_whoever_wanted_more():
    ticker, looked = Ticker(), threading.Event()

    def update():
        looked.set()
        return True

    ticker.add(update)
    assert looked.wait(60)
    ticker.close()
    ticker.add(update)
    assert "lab-view" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.filterwarnings("ignore:a live view ended")
def test_a_view_that_breaks_does_not_end_the_others():
    ticker, done = Ticker(), threading.Event()
    calls = []

    def broken():
        raise RuntimeError("no ink")

    def update():
        calls.append(1)
        if len(calls) == 3:
            done.set()
        return len(calls) < 3

    ticker.add(broken)
    ticker.add(update)
    assert done.wait(60)
    ticker.close()


def test_a_ticker_that_has_ended_starts_again_for_a_new_panel():
    ticker = Ticker()
    for _ in range(2):
        done = threading.Event()
        ticker.add(lambda done=done: done.set() or False)
        assert done.wait(60)
        while any(thread.name == "lab-view" for thread in threading.enumerate()):
            pass
    ticker.close()
