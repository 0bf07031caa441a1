"""Tasks for the tests of the results backend."""

from celery import shared_task


@shared_task
def as_it_is(value):
    return value


@shared_task(ignore_result=True)
def quiet(value):
    """Nobody but a chord wants to know."""
    return value


@shared_task
def fail(message):
    raise ValueError(message)


@shared_task
def gives(what):
    """Return something that is hard to store."""
    endless = []
    endless.append(endless)
    return {"set": {1}, "object": object(), "endless": endless, "much": "x" * 10_000_000}[what]
