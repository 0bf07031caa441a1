"""Tasks for tests alone: a worker knows them with `--include tests.tasks`."""

import time

from celery import shared_task
from django.db import connection


def write(path, word, number):
    with open(path, "a") as file:
        file.write(f"{word} {number}\n")


def work(path, number, seconds):
    write(path, "start", number)
    time.sleep(seconds)
    write(path, "end", number)


@shared_task
def early(path, number, seconds):
    """Leave a line at start and end. Acknowledged before it runs."""
    work(path, number, seconds)


@shared_task(acks_late=True)
def late(path, number, seconds):
    """Leave a line at start and end. Acknowledged after it has run."""
    work(path, number, seconds)


@shared_task(bind=True)
def come_again(self, seconds):
    """Be retried after some seconds."""
    raise self.retry(countdown=seconds)


@shared_task
def total(numbers):
    """The body of a chord."""
    return sum(numbers)


@shared_task(ignore_result=True)
def count_nothing():
    """Ask the database, and store nothing there."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@shared_task
def backend_pid():
    """Return the process id of the PostgreSQL backend that serves this task."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]
