"""Tasks for the tests of tasklog: a worker knows them with `--include tests.tasklog.tasks`."""

from celery import shared_task
from django.db import connection, transaction
from django.db.models.functions import Now

from blog.celery import square
from tasklog.models import TaskCall


def note(table, number):
    """Add a row to a table that the test has made."""
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (%s)", [number])


@shared_task
def effect(number):
    """Leave a row: whoever counts them sees what ran twice."""
    note("ran", number)
    return number


@shared_task
def failing_effect(number):
    """Leave a row, then fail."""
    note("ran", number)
    raise ValueError(f"number {number}")


@shared_task
def on_error(request, error, traceback):
    """Leave a row for a failure. An errback of the new style: the worker calls it."""
    note("errors", request.args[0])


@shared_task
def on_error_by_id(task_id):
    """Leave a row for a failure. An errback of the old style: a task, which the worker sends."""
    note("errors", -1)


@shared_task(bind=True)
def clock(self, *_):
    """Return the database's time."""
    times = TaskCall.objects.values_list(Now(), flat=True)
    return times.get(task_id=self.request.id).isoformat()


@shared_task
def describe(*args, **kwargs):
    """Return what arrived, types and all."""
    return repr((args, kwargs))


@shared_task(bind=True, max_retries=3)
def third_time(self):
    """Fail twice, and return the number of retries the third time."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@shared_task(bind=True, autoretry_for=[ValueError], default_retry_delay=0.1)
def third_time_by_itself(self):
    """As third_time, with autoretry."""
    if self.request.retries < 2:
        raise ValueError(f"try {self.request.retries}")
    return self.request.retries


@shared_task(bind=True)
def replaced(self, number):
    """Be another task."""
    raise self.replace(square.s(number))


@shared_task(bind=True)
def replaced_by_chain(self, number):
    """Be two others."""
    raise self.replace(square.s(number) | square.s())


@shared_task(bind=True)
def family(self):
    """Return the ids of this call's root and parent."""
    return [self.request.root_id, self.request.parent_id]


@shared_task(bind=True)
def call_others(self):
    """Call three others: now, in a transaction, and in a second. Return their ids and one's own
    root: the parent's children.
    """
    now = family.delay()
    with transaction.atomic():
        committed = family.delay()
    later = family.apply_async(countdown=1)
    return [self.request.root_id, now.id, committed.id, later.id]


@shared_task
def call_in_transactions():
    """Call one in a transaction that is kept, and one in a transaction that is rolled back."""
    with transaction.atomic():
        kept = effect.delay(1)
    with transaction.atomic():
        gone = effect.delay(2)
        transaction.set_rollback(True)
    return [kept.id, gone.id]
