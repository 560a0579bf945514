"""A lease: one holder at a time, renewed, lost when it ran out and was taken."""

import threading

import pytest

from epsilon_lab.clock import ManualClock
from epsilon_lab.workspace.lease import SKEW_S, TERM_S, Lease, Taken


@pytest.fixture
def lease(tmp_path):
    """Makes leases on one path, on a clock that moves when told; all are given back."""
    made = []
    clock = ManualClock()

    def make(lost=lambda: None, **options):
        made.append(Lease(tmp_path / "lease", lost, clock=clock, **options))
        return made[-1]

    make.clock = clock
    yield make
    for each in made:
        each.release()
    assert [file.name for file in tmp_path.iterdir()] in ([], ["lease"])


def test_one_has_it_until_it_is_given_back(lease):
    first, second = lease(), lease()
    assert first.acquire() is None
    assert second.acquire() == Taken(TERM_S + SKEW_S)
    first.release()
    first.release()
    assert second.acquire() is None


def test_it_is_held_while_it_is_renewed(lease):
    first, second = lease(), lease()
    first.acquire()
    for _ in range(5):
        lease.clock.advance(TERM_S)
        assert first.renew()
        assert second.acquire() == Taken(TERM_S + SKEW_S)


def test_one_that_ran_out_is_taken_but_not_before_clocks_that_differ_agree(lease):
    first, second = lease(), lease()
    first.acquire()
    lease.clock.advance(TERM_S + SKEW_S - 1)
    assert second.acquire() == Taken(1.0)
    lease.clock.advance(2)
    assert second.acquire() is None
    assert not first.renew(), "it is told"
    first.release()
    assert lease().acquire() == Taken(TERM_S + SKEW_S), "and gives nothing back that is not its own"


def test_a_holder_that_is_known_to_be_gone_is_not_waited_for(lease):
    lease().acquire()
    assert lease().acquire(lambda: True) is None


def test_a_file_that_is_no_lease_is_nobodys(lease, tmp_path):
    (tmp_path / "lease").write_text("{")
    assert lease().acquire() is None


def test_whoever_loses_it_is_told_by_the_renewal(lease):
    told = threading.Event()
    first, second = lease(told.set, renew_s=0.01), lease()
    first.acquire()
    first.path.unlink()
    assert second.acquire() is None
    assert told.wait(10)


def test_of_many_that_find_it_run_out_one_gets_it(lease):
    """And the lease that one has just taken is not moved aside by another that still saw the old one."""
    lease().acquire()
    lease.clock.advance(TERM_S + SKEW_S + 1)
    together, takers, results = threading.Barrier(6), [lease() for _ in range(6)], []

    def take(one):
        together.wait()
        results.append(one.acquire())

    threads = [threading.Thread(target=take, args=(one,)) for one in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.renew() for one in takers) == 1
