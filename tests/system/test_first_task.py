"""A first task, from the call to the stored row, as the guide walks through it."""

import pytest
from celery.exceptions import TimeoutError
from django_celery_results.models import TaskResult

from blog.celery import debug_task, square
from posts.tasks.basics import add

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_result_comes_back_and_is_stored(worker):
    """G1.13, G2.4, G2.6: the value returns, and the row has name, arguments and worker."""
    result = square.delay(5)
    assert result.get(timeout=20) == 25
    row = TaskResult.objects.get(task_id=result.id)
    assert (row.status, row.result, row.task_name) == ("SUCCESS", "25", "blog.celery.square")
    assert row.task_args == '"(5,)"'
    assert row.worker.startswith("test")
    assert row.date_started is not None


def test_a_failure_keeps_exception_and_traceback(worker):
    """G2.7, G2.8: get() raises the task's own exception; the row has all of it."""
    result = square.delay("10")
    with pytest.raises(TypeError, match="can't multiply sequence"):
        result.get(timeout=20)
    row = TaskResult.objects.filter(status="FAILURE").get()
    assert row.task_id == result.id
    assert "in square" in row.traceback
    assert "TypeError" in row.result


def test_get_gives_up_after_its_timeout(worker):
    """T4: TimeoutError says that it is not done yet; the task itself goes on."""
    result = add.delay(2, 3, seconds=2)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.1)
    assert result.get(timeout=20) == 5


@pytest.mark.proves("signals.setup_logging")
def test_debug_task_prints_its_request_into_the_workers_log(worker):
    """G1.3: the line carries the task's name and id. Without it, Celery puts its own logging in
    the place of settings.LOGGING."""
    result = debug_task.delay()
    worker.wait_for_output(f"blog.celery.debug_task[{result.id}] Request: <Context:")


def test_the_log_tells_received_and_succeeded(worker):
    """G1.12."""
    result = square.delay(3)
    worker.wait_for_output(f"Task blog.celery.square[{result.id}] received")
    worker.wait_for_output(f"Task blog.celery.square[{result.id}] succeeded in ")
    assert worker.output.count(f"[{result.id}] received") == 1, "each line stands once"
