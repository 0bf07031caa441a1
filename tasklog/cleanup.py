"""Deleting calls that ended long ago."""

from celery import states

from .databases import aliases
from .models import TaskCall


def clean_up_calls(older_than, ended_as=states.READY_STATES, batch_size=1000):
    """Delete them in each database that has calls: see `TaskCallQuerySet.clean_up`.

    Args:
        older_than (timedelta): how long ago they ended.
        ended_as (Iterable[str]): SUCCESS, FAILURE, REVOKED.
        batch_size (int): calls in a transaction.

    Returns:
        int: how many.
    """
    return sum(
        TaskCall.objects.using(alias).clean_up(older_than, ended_as, batch_size)
        for alias in aliases()
    )
