"""What a process of the compared sides does: called by `Side.call`, with that side's settings."""

import statistics
import time

from celery import chord, current_app
from celery.result import AsyncResult
from celery.utils import uuid
from django.db import connection, transaction

from .tasks import clock, nothing, total


def warm_up():
    """Wait until the worker runs tasks, and both of its processes have a connection."""
    for result in [nothing.delay() for _ in range(50)]:
        result.get(timeout=60)


def median_get(number):
    """Return the median time of `delay().get()`, in milliseconds."""
    times = []
    for _ in range(number):
        began = time.perf_counter()
        nothing.delay().get(timeout=60)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def rate_of_results(number):
    """Call a task a number of times, then ask for each result. Returns how many a second."""
    began = time.perf_counter()
    for result in [nothing.delay() for _ in range(number)]:
        result.get(timeout=60)
    return number / (time.perf_counter() - began)


def send(number):
    """Send a number of tasks."""
    for _ in range(number):
        nothing.delay()


def send_chord(size):
    """Send a chord over a number of tasks."""
    chord(nothing.s(n) for n in range(size))(total.s())


def call_in_transaction(task, outbox):
    """Save a row and call a task, in one transaction.

    Args:
        task (Task): what to call.
        outbox (bool): with tasklog, or as plain `delay_on_commit` does.

    Returns:
        tuple[AsyncResult, float]: the result, and when the commit began.
    """
    task_id = uuid()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO saved VALUES (1)")
        if outbox:
            task.apply_async(task_id=task_id)
        else:
            task.apply_async_on_commit(task_id=task_id, track=False, outbox=False)
        began = time.time()
    return AsyncResult(task_id), began


def times_to_save_and_send(number):
    """Return the median times of a transaction with a call, in ms: without outbox, and with it."""
    times = {False: [], True: []}
    for _ in range(number):
        for outbox, taken in times.items():
            began = time.perf_counter()
            call_in_transaction(nothing, outbox)
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) * 1000 for taken in times.values()]


def times_to_start(number):
    """Return the median times from commit to start, in ms: without outbox, and with it."""
    times = {False: [], True: []}
    for _ in range(number):
        for outbox, taken in times.items():
            result, began = call_in_transaction(clock, outbox)
            taken.append(result.get(timeout=60) - began)
    return [statistics.median(taken) * 1000 for taken in times.values()]


def schedule(number):
    """Call a task a number of times, for in an hour."""
    with transaction.atomic():
        for n in range(number):
            nothing.apply_async([n], countdown=3600)


def dispatch_in_worker(number):
    """Have the worker run the dispatcher a number of times."""
    for _ in range(number):
        result = current_app.send_task("tasklog.send_due_calls", ignore_result=False)
        result.get(timeout=60)


def rate_of_calls(number):
    """Send a number of tasks. Returns how many a second."""
    began = time.perf_counter()
    send(number)
    return number / (time.perf_counter() - began)


def rate_of_dispatch():
    """Send all that is due. Returns how many a second."""
    from tasklog.dispatcher import send_due_calls

    began = time.perf_counter()
    return send_due_calls() / (time.perf_counter() - began)


def time_of_a_pass(number):
    """Return the median time of a dispatcher's pass, in ms."""
    from tasklog.dispatcher import send_due_calls

    times = []
    for _ in range(number):
        began = time.perf_counter()
        send_due_calls()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
