"""Which databases have a table of calls."""

from datetime import timedelta

from django.db import connections, router
from django.db.models import Q

from . import conf


def aliases():
    """Return the aliases (list[str]) with a table of calls: the routers' first, then DATABASES."""
    from .models import TaskCall

    return list(dict.fromkeys([router.db_for_write(TaskCall), *conf.get("DATABASES")]))


def tables():
    """Return all calls of each database (list[TaskCallQuerySet])."""
    from .models import TaskCall

    return [TaskCall.objects.using(alias) for alias in aliases()]


def for_a_call(alias=None):
    """Return where a call belongs (str): where a transaction is open, and whether one is (bool)."""
    known = [alias] if alias else aliases()
    for alias in known:
        if connections[alias].in_atomic_block:
            return alias, True
    return known[0], False


def still(field, moment):
    """Return the condition (Q) that a field (str) still has the moment (datetime | None) it had.

    For fields that only move forward, by a millisecond at least: SQLite compares texts, where
    ``Now()`` has other decimals than Django.
    """
    if moment is None:
        return Q(**{field: None})
    return Q(**{f"{field}__lt": moment + timedelta(milliseconds=1)})
