"""Beat is killed, there are two of it, and the clock jumps."""

import signal

import psutil
import pytest

from tests.services import wait_for

from .site import LOAD, kill, processes_of

pytestmark = pytest.mark.timeout(600)

HOUR = 3600
DISPATCHER = "Sending due task tasklog.send_due_calls"
NOT_SENT = "Couldn't apply scheduled task"


DUE = f"""
from datetime import timedelta
from django.utils.timezone import now
from django_celery_beat.models import IntervalSchedule, PeriodicTask
hour = IntervalSchedule.objects.create(every=1, period="hours")
PeriodicTask.objects.create(
    name="Each hour", task="tests.system.faults.tasks.early", args="[{LOAD}]", interval=hour,
    last_run_at=now() - timedelta(hours=1),
)
"""


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
    for beat in (first, second):
        beat.wait_for_output(DISPATCHER)
    site.send(0, LOAD, countdown=1)
    site.wait_for_effects(LOAD // 10)
    kill(processes_of(first))
    assert site.in_the_middle()
    site.beat().wait_for_output(DISPATCHER)
    each_ran_once(site)


def test_a_schedule_of_two_beats_runs_twice(site):
    """Each of them keeps its own time. What the task does is there once."""
    site.worker()
    beats = [site.beat(), site.beat()]
    for beat in beats:
        beat.wait_for_output(DISPATCHER)
    site.send(0, LOAD)
    site.wait_for_effects(LOAD // 10)
    made = site.manage("shell", "--verbosity", "0", "-c", DUE)
    assert made.wait() == 0, made.output
    for beat in beats:
        beat.wait_for_output("Sending due task Each hour")
    site.wait_for_all_calls_to_end()
    wait_for(lambda: site.runs_more_than_once(), "the second run")
    assert site.runs_more_than_once() == {LOAD}
    assert site.effects_are_complete(LOAD + 1)
    assert site.end() == []


def test_a_beat_that_is_stopped_while_it_sends_goes_on(site):
    """Celery 5.7.0 loses the TERM: it closes what it sends with, and takes that for a failure to
    send. Docker and Supervisor kill it later, and nothing is lost.
    """
    site.worker()
    beat = site.beat()
    site.send(0, LOAD, countdown=1)
    site.wait_for_effects(LOAD // 10)
    redis = psutil.Process(site.redis.process.pid)
    redis.suspend()
    beat.wait_for_output(DISPATCHER, count=beat.output.count(DISPATCHER) + 1)
    asleep = psutil.Process(beat.pid)
    wait_for(lambda: asleep.status() == psutil.STATUS_SLEEPING, "beat to wait for Redis")
    failed = beat.output.count(NOT_SENT)
    beat.popen.send_signal(signal.SIGTERM)
    beat.wait_for_output(NOT_SENT, count=failed + 1)
    redis.resume()
    beat.wait_for_output(DISPATCHER, count=beat.output.count(DISPATCHER) + 1)
    assert site.in_the_middle()
    kill(processes_of(beat))
    site.beat()
    site.wait_for_all_calls_to_end()
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.effects_are_complete()
    assert site.end() == []


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
    site.worker()
    first = site.beat().wait_for_output(DISPATCHER, count=2)
    site.send(0, LOAD)
    site.wait_for_effects(LOAD // 10)
    kill(processes_of(first))
    assert site.in_the_middle()
    assert site.query(
        "SELECT every, period FROM django_celery_beat_periodictask AS task "
        "JOIN django_celery_beat_intervalschedule AS schedule ON schedule.id = task.interval_id "
        "WHERE task = 'tasklog.end_lost_calls'"
    ) == [(60, "seconds")]
    site.query(
        "UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '1 hour' "
        "WHERE task = 'tasklog.end_lost_calls'"
    )
    beat = site.beat().wait_for_output(DISPATCHER, count=3)
    assert beat.output.count("Sending due task tasklog.end_lost_calls") == 1
    each_ran_once(site)
