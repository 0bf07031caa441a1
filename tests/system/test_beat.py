"""Beat: what is due reaches a worker, with its expiry; what was edited in the admin stays."""

import importlib
import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from django.apps import apps
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.tzcrontab import TzAwareCrontab
from django_celery_results.models import TaskResult

from tests.services import wait_for

# Written at each start, as TASKLOG says.
TASKLOG = {"tasklog.send_due_calls", "tasklog.end_lost_calls"}


@pytest.fixture
def start_beat(start):
    beats = []

    def run():
        beat = start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=")
        beats.append(beat)
        return beat.wait_for_output("beat pidbox: Connected")

    yield run
    for beat in beats:
        # Not TERM: Celery 5.7.0's beat can miss it while it sends, as these do all the time.
        beat.stop(signal.SIGKILL)


@pytest.fixture
def every_second(transactional_db):
    """Schedule `square` each second: ``every_second(queue="slow")``."""

    def schedule(**fields):
        second, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
        return PeriodicTask.objects.create(
            name="Each second", task="blog.celery.square", args="[7]", interval=second, **fields
        )

    return schedule


@pytest.mark.proves("CELERY_BEAT_SCHEDULER")
def test_what_is_due_reaches_a_worker(start, start_beat, every_second):
    """Without it, beat reads its schedules from a file, and what is in the admin is never sent."""
    every_second()
    start.worker()
    start_beat()
    rows = TaskResult.objects.filter(status="SUCCESS", periodic_task_name="Each second")
    wait_for(lambda: rows.count() > 1, "two results")
    assert rows.first().result == "49"


def create_schedules():
    """Run the migration once more: tests with transactions end with empty tables."""
    importlib.import_module("posts.migrations.0002_schedules").create_schedules(apps, None)


def test_the_first_edit_needs_no_restart_nor_does_the_next(start_beat, every_second, redis_server):
    create_schedules()
    start_beat()
    task = every_second(queue="slow")
    client = redis_server.client()
    wait_for(lambda: client.llen("slow"), "the first message")
    task.args = "[8]"
    task.save()
    wait_for(lambda: "[8]" in json.loads(client.lindex("slow", 0))["headers"]["argsrepr"], "[8]")


def test_the_expiry_goes_with_the_message(start_beat, every_second, redis_server):
    every_second(queue="slow", expire_seconds=77)
    start_beat()
    client = redis_server.client()
    message = wait_for(lambda: client.lindex("slow", 0), "a message")
    headers = json.loads(message)["headers"]
    seconds = datetime.fromisoformat(headers["expires"]).timestamp() - headers["published_at"]
    assert seconds == pytest.approx(77, abs=2)


def test_a_worker_drops_what_has_expired(start, start_beat, every_second, redis_server):
    """A night without workers ends with one run, not with one for each second of it."""
    every_second(queue="slow", expire_seconds=2)
    beat = start_beat()
    client = redis_server.client()
    wait_for(lambda: client.llen("slow") >= 5, "five messages")
    beat.stop(signal.SIGKILL)

    def expired():
        newest = json.loads(client.lindex("slow", 0))["headers"]["expires"]
        return datetime.fromisoformat(newest) < datetime.now(UTC)

    wait_for(expired, "the last message to expire")
    start.worker()
    wait_for(lambda: TaskResult.objects.filter(status="REVOKED").count() >= 5, "them to be dropped")
    assert not TaskResult.objects.exclude(status="REVOKED").exists()


@pytest.mark.proves(
    "CELERY_BEAT_SCHEDULER", without='"django_celery_beat.schedulers:DatabaseScheduler"'
)
def test_a_restart_keeps_what_was_edited(start_beat, transactional_db):
    """Without blog.schedulers, with the scheduler of django-celery-beat itself, each start of beat
    undoes what was edited of `celery.backend_cleanup`."""
    create_schedules()
    assert PeriodicTask.objects.count() == 4
    at_two, _ = CrontabSchedule.objects.get_or_create(minute="22", hour="2")
    for task in PeriodicTask.objects.all():
        task.interval, task.crontab, task.expire_seconds = None, at_two, 99
        task.enabled = task.name != "Remove old exports"
        task.save()
    before = list(PeriodicTask.objects.order_by("pk").values_list("name", "crontab", "enabled"))
    for _ in range(2):
        start_beat().stop()
    schedules = PeriodicTask.objects.exclude(name__in=TASKLOG)
    assert list(schedules.order_by("pk").values_list("name", "crontab", "enabled")) == before
    assert set(schedules.values_list("expire_seconds", flat=True)) == {99}


def test_the_cleanup_that_was_deleted_stays_deleted(start_beat, transactional_db):
    start_beat().stop()
    assert set(PeriodicTask.objects.values_list("name", flat=True)) == TASKLOG


@pytest.mark.proves("CELERY_BEAT_CRON_STARTING_DEADLINE")
def test_a_beat_that_was_down_makes_good_what_is_ten_minutes_late(
    start_beat, every_second, redis_server
):
    """Without it, what beat has missed leaves up to two hours late, when it fits no more."""
    now = datetime.now(UTC)
    for minutes in (3, 60):
        due = now - timedelta(minutes=minutes)
        daily = CrontabSchedule.objects.create(minute=due.minute, hour=due.hour, timezone="UTC")
        fields = {"name": f"{minutes} late", "crontab": daily, "args": f"[{minutes}]"}
        fields |= {"task": "blog.celery.square", "queue": "slow"}
        PeriodicTask.objects.create(last_run_at=due - timedelta(days=1), **fields)
    every_second()
    start_beat()
    client = redis_server.client()
    wait_for(lambda: client.llen("celery") >= 3, "beat to have looked at all")
    sent = [json.loads(message)["headers"]["argsrepr"] for message in client.lrange("slow", 0, -1)]
    assert sent == ["[3]"]


@pytest.mark.proves("CELERY_BEAT_CRON_STARTING_DEADLINE")
@pytest.mark.parametrize(
    ("hour", "minute", "due"),
    [(6, 59, False), (7, 0, True), (7, 9, True), (7, 11, False), (8, 30, False), (12, 0, False)],
)
def test_a_run_that_was_missed_is_made_good_for_ten_minutes(hour, minute, due):
    """It last ran a week ago, at seven, and beat was down. Without it, the weekly mail of seven
    o'clock leaves at any time within two hours around it, also before."""
    crontab = TzAwareCrontab(minute="0", hour="7", day_of_week="1", tz=UTC)
    crontab.nowfun = lambda: datetime(2026, 11, 16, hour, minute, 1, tzinfo=UTC)
    assert crontab.is_due(datetime(2026, 11, 9, 7, 0, tzinfo=UTC)).is_due is due
