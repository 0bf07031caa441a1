"""Tasks for proofs: a worker knows them with `--include tests.proofs.tasks`."""

import time

from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task
from django.db import connection


@shared_task
def hang(stubborn):
    """Never end by itself. Stubborn, it does not listen to the soft time limit either."""
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            if not stubborn:
                return "tidied up"


@shared_task(acks_late=True)
def name_and_wait(path, seconds):
    """Leave a line when it begins. Acknowledged after it has run."""
    with open(path, "a") as file:
        file.write("begun\n")
    time.sleep(seconds)


@shared_task(soft_time_limit=50, time_limit=60)  # not those of tests.proofs.settings
def slow_backend_pid():
    """Return the process id of the PostgreSQL backend, after more than a second."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(1.5)")
        return cursor.fetchone()[0]
