"""The load: tasks that leave an effect in PostgreSQL which is there once, however often they run.

Here too what is hard on a worker.
"""

import os
import time

from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task
from django.conf import settings
from django.db import connection

HELD = settings.STATE_DIR / "held"  # a file, which the test makes and removes

kept = []


def work(number, held):
    """Note the run, then leave the effect: what is killed between the two has left none.

    Held, it goes on when the test lets it.
    """
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO runs VALUES (%s)", [number])
    while held and HELD.exists():
        time.sleep(0.05)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effects VALUES (%s) ON CONFLICT DO NOTHING", [number])
    return number


@shared_task
def early(number, held=False):
    """Acknowledged before it runs. Queue `celery`."""
    return work(number, held)


@shared_task(acks_late=True)
def late(number, held=False):
    """Acknowledged after it has run. Idempotent. Queue `slow`."""
    return work(number, held)


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
    """Keep some memory for ever. Returns the number of the process."""
    kept.append(bytearray(megabytes * 2**20))
    return os.getpid()
