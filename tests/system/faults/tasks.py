"""The load: tasks that leave an effect in PostgreSQL which is there once, however often they run.

Here too what is hard on a worker.
"""

import time

from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task
from django.db import connection

kept = []


def work(number, seconds):
    """Note the run, then leave the effect: what is killed between the two has left none."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO runs VALUES (%s)", [number])
    time.sleep(seconds)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects VALUES (%s) ON CONFLICT DO NOTHING", [number])
    return number


@shared_task
def early(number, seconds=0):
    """Acknowledged before it runs. Queue `celery`."""
    return work(number, seconds)


@shared_task(acks_late=True)
def late(number, seconds=0):
    """Acknowledged after it has run. Idempotent. Queue `slow`."""
    return work(number, seconds)


@shared_task
def hang(stubborn):
    """Never end by itself. Stubborn, it does not listen to the soft time limit either."""
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            if not stubborn:
                raise


@shared_task(acks_late=True)
def hang_late(stubborn):
    """The same, acknowledged after it has run."""
    hang(stubborn)


@shared_task
def leak(megabytes):
    """Keep some memory for ever."""
    kept.append(bytearray(megabytes * 2**20))
