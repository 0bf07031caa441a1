"""What tasklog does with a call, and what others hear of it."""

import os
import subprocess
import sys

import pytest
from django.db import transaction

from blog.celery import square
from tasklog.models import TaskCall
from tests.events import listening
from tests.services import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def waiting(redis_server):
    """How many messages wait in the queue of an empty broker: ``waiting()``."""
    client = redis_server.client()
    client.flushdb()
    yield lambda: client.llen("celery")
    client.flushdb()


@pytest.mark.proves("TASKLOG.TRACK")
def test_tasklog_track(waiting):
    """Without it, nobody can find a call that got lost, or make it again with its arguments."""
    result = square.delay(5)
    assert [(call.task_id, call.args) for call in TaskCall.objects.all()] == [(result.id, [5])]


@pytest.mark.proves("TASKLOG.OUTBOX")
def test_tasklog_outbox(waiting):
    """Without it, a task is sent for data that is rolled back, or runs before they are there."""
    with transaction.atomic():
        square.delay(5)
        assert waiting() == 0
        transaction.set_rollback(True)
    assert waiting() == 0


@pytest.mark.proves("TASKLOG.SCHEDULE_ETA")
def test_tasklog_schedule_eta(waiting):
    """Without it, calls with an ETA fill the memory of workers, and those that wait longer than the
    visibility timeout run twice."""
    square.apply_async([5], countdown=3600)
    assert waiting() == 0


@pytest.fixture
def events(redis_server):
    """The types of the events that pass, as Flower gets them: a list that grows."""
    heard = []
    with listening({"*": lambda event: heard.append(event["type"])}):
        yield heard


@pytest.mark.proves("CELERY_WORKER_SEND_TASK_EVENTS")
def test_worker_send_task_events(start, events):
    """Without it, Flower and `celery events` show no task."""
    start.worker()
    square.delay(5)
    wait_for(lambda: "task-succeeded" in events, lambda: f"the event, among {events}")


@pytest.mark.proves("CELERY_TASK_SEND_SENT_EVENT")
def test_task_send_sent_event(events, waiting):
    """Without it, Flower and `celery events` show no task before a worker has it."""
    square.delay(5)
    wait_for(lambda: "task-sent" in events, lambda: f"the event, among {events}", 10)


def say(expression, **env):
    """What an expression is in a process of the site, with these variables and no others."""
    code = f"from celery import current_app as app; print({expression})"
    env = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DEBUG": "true", **env}
    command = [sys.executable, "-W", "ignore", "manage.py", "shell", "-v0", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.proves("CELERY_TIMEZONE")
def test_timezone():
    """Without it, a schedule «at seven» that is made in the admin means seven o'clock in UTC."""
    crontab = "__import__('django_celery_beat.models').models.CrontabSchedule(hour=7)"
    zones = say(f"app.timezone, {crontab}.timezone", TIME_ZONE="Asia/Tokyo")
    assert zones.count("Asia/Tokyo") == 2, zones


@pytest.mark.proves("CELERY_BROKER_URL", without='""')
def test_broker_url():
    """Without it, Celery still takes the address from the environment, but a RabbitMQ that is named
    there gets the options that are meant for Redis."""
    options = "app.connection().transport_cls, app.connection().transport_options"
    said = say(options, CELERY_BROKER_URL="amqp://there//")
    assert said == "amqp {'confirm_publish': True}"


@pytest.mark.proves("CELERY_BROKER_URL#3")
def test_broker_url_by_default():
    """Without it, a site in which nothing is set looks for RabbitMQ."""
    assert say("app.connection().as_uri()") == "redis://:**@localhost:6379//"
