"""How the broker stands, in numbers that add up."""

from epsilon_lab.broker.stimuli import Stalled


def test_everything_is_counted_once(table):
    table.boss()
    table.join()
    table.submit(*"abcd", retries=1)
    table.submit("late", delay_s=60.0)
    table.submit("never", start_within_s=1.0, priority=-1)
    table.turn()
    stats = table.state.stats()
    assert (stats.queued, stats.delayed, stats.running, stats.prefetched) == (3, 1, 1, 1)
    assert stats.payload_bytes == table.state.board.payload_bytes > 0
    table.fail("s/w1", "a")
    table.done("s/w1", "b")
    table.done("s/w1", "b")
    table.later(1.5)
    table.step(Stalled(7.0))
    table.turn()
    table.lose()
    table.join()
    table.turn()
    table.later(11.0)
    stats = table.state.stats()
    assert (stats.completed, stats.failed, stats.crashed, stats.expired, stats.overdue) == (1, 1, 1, 1, 1)
    assert (stats.stale, stats.stalls, stats.stalled_s) == (1, 1, 7.0)
    assert (stats.assigned, stats.redelivered) == (4, 2)
    assert (stats.queued, stats.running, stats.prefetched, stats.delayed) == (3, 0, 0, 1)


def test_the_rate_is_that_of_the_time_since_the_last_look(table):
    table.join()
    table.later(0.5)
    for n in range(10):
        table.submit(f"t{n}")
        table.turn()
        table.done("s/w1", f"t{n}")
    table.later(0.5)
    assert table.state.stats().rate == 20.0
    table.later(0.5)
    assert table.state.stats().rate == 0.0
