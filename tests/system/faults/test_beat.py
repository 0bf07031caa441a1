"""Beat is killed, there are two of it, and the clock jumps."""

import pytest

from tests.services import wait_for

from .site import LOAD

pytestmark = pytest.mark.timeout(600)

HOUR = 3600
DISPATCHER = "Sending due task tasklog.send_due_calls"


def each_ran_once(site):
    site.wait_for_all_calls_to_end()
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete()
    assert site.end() == []


def test_two_beats_of_which_one_is_killed(site):
    """Both send the dispatcher. Each scheduled call is sent once: it is claimed in the table."""
    site.worker()
    first, second = site.beat(), site.beat()
    site.send(0, LOAD, countdown=1)
    site.wait_for_effects(LOAD // 10)
    for beat in (first, second):
        beat.wait_for_output(DISPATCHER)
    first.popen.kill()
    site.beat().wait_for_output(DISPATCHER)
    each_ran_once(site)


def test_scheduled_calls_and_a_clock_that_jumps_ahead_by_an_hour(site):
    """All that would have been due in this hour is due at once, and is sent once."""
    site.worker()
    site.send(0, LOAD, countdown=HOUR).wait(120)
    site.beat().wait_for_output(DISPATCHER, count=2)
    assert not site.numbers("runs")
    site.query("UPDATE tasklog_taskcall SET eta = eta - interval '1 hour'")
    each_ran_once(site)


def test_schedules_and_a_clock_that_jumps_ahead_by_an_hour(site):
    """A schedule of each minute is made good once, not sixty times."""
    site.beat().wait_for_output(DISPATCHER, count=2)
    assert site.end() == []
    site.query(
        "UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '1 hour' "
        "WHERE task = 'tasklog.end_lost_calls'"
    )
    beat = site.beat().wait_for_output(DISPATCHER, count=3)
    assert beat.output.count("Sending due task tasklog.end_lost_calls") == 1
    wait_for(lambda: site.redis.client().llen("celery"), "the messages")
    assert site.end() == []
