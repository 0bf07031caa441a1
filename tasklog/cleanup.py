"""Deleting calls that ended long ago."""

from celery import states

from .databases import aliases
from .models import TaskCall


def clean_up_calls(older_than, ended_as=states.READY_STATES):
    """Delete them in each database that has calls, as `TaskCallQuerySet.clean_up` says."""
    return sum(TaskCall.objects.using(alias).clean_up(older_than, ended_as) for alias in aliases())
