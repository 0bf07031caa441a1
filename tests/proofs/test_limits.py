"""Time limits and the visibility timeout, with settings in which a minute is a second."""

import signal

import pytest
from celery import current_app

from blog.celery import square
from tests.services import wait_for

FAST = {"DJANGO_SETTINGS_MODULE": "tests.proofs.settings"}


def start_worker(start):
    return start.worker("--include", "tests.proofs.tasks", "-c", "1", env=FAST)


def send(name, *arguments):
    """Send a task by its name: with the code at hand, this process's limits would go along."""
    return current_app.send_task(f"tests.proofs.tasks.{name}", arguments)


def outcome(result):
    """What a task returned or raised."""
    wait_for(result.ready, lambda: f"the end of the task, which is {result.state}")
    return result.result


@pytest.mark.proves("CELERY_TASK_SOFT_TIME_LIMIT")
def test_task_soft_time_limit(start):
    """Without it, a task that hangs is killed at the hard limit, and nothing of it is tidied up."""
    start_worker(start)
    assert outcome(send("hang", False)) == "tidied up"


@pytest.mark.proves("CELERY_TASK_TIME_LIMIT")
def test_task_time_limit(start):
    """Without it, a task that hangs holds its process for ever, and so for the next task."""
    start_worker(start)
    hanging, next_one = send("hang", True), square.delay(3)
    assert type(outcome(hanging)).__name__ == "TimeLimitExceeded"
    assert outcome(next_one) == 9


@pytest.mark.proves("CELERY_BROKER_TRANSPORT_OPTIONS.visibility_timeout")
def test_visibility_timeout(start, folder):
    """Without it, the message that a killed worker held comes back after an hour instead of ten
    minutes."""
    journal = folder / "journal"
    send("name_and_wait", str(journal), 300)
    first = start_worker(start)
    wait_for(journal.exists, "the task to begin")
    first.stop(signal.SIGKILL)
    second = start_worker(start)
    wait_for(lambda: journal.read_text().count("begun") == 2, "it to begin again", 60)
    second.stop(signal.SIGKILL)
