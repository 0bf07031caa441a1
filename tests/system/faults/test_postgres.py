"""PostgreSQL restarts and hangs in the middle of work."""

import signal

import pytest

from .site import HELD, LOAD, signal_all

pytestmark = pytest.mark.timeout(600)

PROCESSES = 2
EARLY, _ = HELD


@pytest.fixture
def busy(site):
    """A site with a worker and beat in the middle of work. Returns the worker."""
    worker = site.worker()
    site.beat()
    site.send(0, LOAD)
    site.wait_for_effects(LOAD // 10)
    return worker


def all_is_done(site, worker):
    """What was cut off in the middle of a task is a FAILURE: one for each process at most."""
    site.wait_for_all_calls_to_end(resend=PROCESSES)
    failures = site.in_state("FAILURE")
    print("failures:", failures)
    print("twice:", site.runs_more_than_once())
    assert len(failures) <= PROCESSES
    assert site.retry_failures() == len(failures)
    site.wait_for_all_calls_to_end()
    assert site.effects_are_complete()
    assert len(site.runs_more_than_once() - set(failures)) <= PROCESSES
    assert worker.running
    assert site.end() == []
    return failures


def test_postgresql_restarts(site, busy):
    """Tasks wait for it, about a minute, before they begin and before their result is stored."""
    site.postgres.stop()
    busy.wait_for_output("Connection refused", 60)
    site.postgres.start()
    all_is_done(site, busy)


def test_postgresql_hangs_for_longer_than_a_task_may_take(site):
    """The time limits end the tasks that wait for it; the others come after."""
    worker = site.worker()
    site.beat()
    site.send(0, LOAD, EARLY, limit=0)
    site.wait_for_the_middle_of(EARLY)
    signal_all(site.postgres, signal.SIGSTOP)
    site.let_go()  # into a statement that hangs
    worker.wait_for_output("Soft time limit (5s) exceeded for tests.system.faults.tasks.early", 60)
    signal_all(site.postgres, signal.SIGCONT)
    failures = all_is_done(site, worker)
    assert "SoftTimeLimitExceeded" in failures[EARLY]
    assert all("TimeLimitExceeded" in result for result in failures.values())
