"""SQLite with several writers: see also tests/system/test_database.py."""

import threading
import time

import pytest
from django.db import OperationalError, connection, transaction
from django_celery_results.models import TaskResult

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def in_a_thread(work):
    """Start work that has a connection of its own. Returns the thread and its list of errors."""
    errors = []

    def run():
        try:
            work()
        except OperationalError as error:
            errors.append(str(error))
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


@pytest.mark.proves("DATABASES.transaction_mode")
def test_transaction_mode():
    """Without it, two transactions that read and then write at the same time end with «database is
    locked» in one of them, at once, whatever the timeout says."""
    both_read = threading.Event()

    def read_and_write(name, wait):
        with transaction.atomic():
            TaskResult.objects.count()
            wait()
            TaskResult.objects.create(task_id=name)

    def first():
        read_and_write("first", lambda: both_read.wait(2))

    def second():
        read_and_write("second", both_read.set)

    threads = [in_a_thread(first), in_a_thread(second)]
    for thread, _ in threads:
        thread.join(30)
    assert [errors for _, errors in threads] == [[], []]


@pytest.mark.proves("DATABASES.timeout")
def test_timeout():
    """Without it, whoever waits for longer than five seconds to write fails."""
    with transaction.atomic():
        TaskResult.objects.create(task_id="slow")
        thread, errors = in_a_thread(lambda: TaskResult.objects.create(task_id="patient"))
        time.sleep(7)  # longer than the default
    thread.join(30)
    assert errors == []
    assert TaskResult.objects.count() == 2


@pytest.mark.proves("DATABASES.init_command", without='"PRAGMA journal_mode=WAL;"')
def test_init_command_synchronous():
    """Without «synchronous=NORMAL», each commit waits for the disk. With WAL that is not needed for
    a whole database: what a power failure takes is the last commits."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        assert cursor.fetchone() == (1,)
