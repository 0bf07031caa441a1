"""First tasks: one that takes its time, one that fails, one that prints."""

import random
import time

from celery import shared_task


@shared_task
def add(x, y, seconds=3):
    """Add two numbers, slowly.

    Safe to run twice: it changes nothing. Queue `celery`, the default time limits.

    Args:
        x (int | float): first summand.
        y (int | float): second summand.
        seconds (float): how long the work takes.

    Raises:
        TypeError: the summands cannot be added, as in ``add("1", 2)``.
    """
    time.sleep(seconds)
    return x + y


@shared_task
def fail_sometimes(value, chance=0.5):
    """Process something, or fail.

    Safe to run twice: it changes nothing. Queue `celery`, the default time limits.

    Args:
        value (str): what to process.
        chance (float): probability of a failure, from 0 (never) to 1 (always).

    Raises:
        ValueError: by chance.
    """
    if random.random() < chance:
        raise ValueError(f"Something went wrong with {value!r}")
    return f"Processed {value}"


@shared_task
def sample_task(name="world"):
    """Print a greeting, in the worker's process: look for it in the worker's log.

    Safe to run twice: a second line is harmless. Queue `celery`, the default time limits. Raises
    nothing of its own.

    Args:
        name (str): whom to greet.
    """
    print(f"Hello {name}, this is the worker speaking.")
    return f"Hello {name}"
