"""What can go wrong with a task, on purpose: each way ends in a state that says so."""

import os
import signal
import time

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded


@shared_task(soft_time_limit=2, time_limit=4)
def overrun(seconds=10, stubborn=False):
    """Take longer than is allowed.

    Safe to run twice: it changes nothing. Queue «celery». Limits 2 s (soft) and 4 s (hard), short
    enough to watch. At the soft limit the task gets an exception and may tidy up; one that does not
    end (``stubborn``) has its process killed at the hard limit, and tidies up nothing.

    Args:
        seconds (float): how long it would take.
        stubborn (bool): go on after the soft limit.

    Raises:
        SoftTimeLimitExceeded: after 2 s.
        TimeLimitExceeded: stored by the worker, after 4 s.
    """
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            time.sleep(left)
        except SoftTimeLimitExceeded:
            if not stubborn:
                raise
    return f"Done after {seconds} s"


@shared_task
def kill_own_process():
    """Kill the process that runs it, as the kernel does when memory is short.

    Acknowledged early (the default), so it runs once: the worker stores FAILURE, starts another
    process and goes on. With acks_late and task_reject_on_worker_lost it would kill one process
    after another. Queue «celery», the default time limits.

    Raises:
        WorkerLostError: stored by the worker.
    """
    os.kill(os.getpid(), signal.SIGKILL)


class Busy(Exception):
    """What is asked for may be there in a moment: try again."""


@shared_task(bind=True, autoretry_for=(Busy,), max_retries=2, retry_backoff=1, retry_jitter=False)
def call_busy_service(self, failures=2):
    """Ask a service that is busy at first, and try again.

    Safe to run twice: it changes nothing. Queue «celery», the default time limits. Two
    retries, after 1 and 2 s: longer each time, so that the service can recover. Many callers at
    once should keep retry_jitter (default True), which spreads them.

    Args:
        failures (int): how many tries fail. With more than 2 the last one fails too.

    Returns:
        str: what the service says in the end.

    Raises:
        Busy: each of the three tries failed.
    """
    if self.request.retries < failures:
        raise Busy(f"The service is busy (try {self.request.retries + 1})")
    return f"Answered at try {self.request.retries + 1}"
