"""Tasks for tests alone: a worker knows them with `--include tests.tasks`."""

import time

from celery import shared_task


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
