"""What is stored of a task, and for how long."""

from datetime import timedelta

import pytest
from celery import current_app
from django.utils import timezone
from django_celery_results.models import TaskResult

from blog.celery import square
from tests.services import free_port, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def row_of(result):
    """The row of a task that has succeeded."""
    rows = TaskResult.objects.filter(task_id=result.id, status="SUCCESS")
    return wait_for(rows.first, "the result in the database")


@pytest.mark.proves("CELERY_RESULT_BACKEND")
def test_result_backend(worker):
    """Without it, no result is stored, and `.get()` raises an error."""
    assert row_of(square.delay(5)).result == "25"


@pytest.mark.proves("CELERY_RESULT_EXTENDED")
def test_result_extended(worker):
    """Without it, a row tells neither which task it was, nor its arguments and worker."""
    row = row_of(square.delay(5))
    assert (row.task_name, row.task_args) == ("blog.celery.square", '"(5,)"')
    assert row.worker.startswith("test")


@pytest.mark.proves("CELERY_TASK_TRACK_STARTED")
def test_task_track_started(worker):
    """Without it, a task that runs looks like one that waits, and nobody sees when it began."""
    assert row_of(square.delay(5)).date_started is not None


@pytest.mark.proves("CELERY_RESULT_EXPIRES")
def test_result_expires(worker):
    """Without it, results are deleted after a day."""
    for days in (3, 8):
        TaskResult.objects.create(task_id=f"{days} days", status="SUCCESS")
        done = timezone.now() - timedelta(days=days)
        TaskResult.objects.filter(task_id=f"{days} days").update(date_done=done)
    cleanup = current_app.send_task("celery.backend_cleanup")
    worker.wait_for_output(f"celery.backend_cleanup[{cleanup.id}] succeeded")
    left = TaskResult.objects.filter(task_id__endswith="days")
    assert [row.task_id for row in left] == ["3 days"]


GIVE_UP = """
from celery import current_app
current_app.conf.result_backend_base_sleep_between_retries_ms = 1
current_app.conf.result_backend_max_sleep_between_retries_ms = 1
try:
    current_app.backend.store_result("an-id", 1, "SUCCESS")
except Exception as error:
    print("gave up:", error)
"""


@pytest.mark.proves("CELERY_RESULT_BACKEND_MAX_RETRIES")
def test_result_backend_max_retries(start):
    """Without it, a worker whose database stays away tries for ever to store one result."""
    away = f"postgres://nobody@127.0.0.1:{free_port()}/nothing"
    shell = start("python", "manage.py", "shell", "-v0", "-c", GIVE_UP, env={"DATABASE_URL": away})
    shell.wait_for_output("gave up:")
