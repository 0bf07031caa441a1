"""What the workers of both sides run."""

import time

from celery import shared_task


@shared_task
def nothing(n=None):
    """Return at once: what is measured is everything around it."""
    return n


@shared_task
def total(numbers):
    """The body of a chord."""
    return sum(numbers)


@shared_task
def clock():
    """Return when it began, in seconds: by the clock of the machine, which callers share."""
    return time.time()
