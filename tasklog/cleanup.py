"""Deleting calls that ended long ago."""

from celery import states

from .databases import tables


def clean_up_calls(older_than, ended_as=states.READY_STATES):
    """Delete them in each database, as `TaskCallQuerySet.clean_up` says."""
    return sum(calls.clean_up(older_than, ended_as) for calls in tables())
