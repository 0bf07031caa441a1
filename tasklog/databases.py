"""Which databases have a table of calls."""

from django.db import connections, router

from . import conf


def aliases():
    """Return the database aliases with a table of calls: the routers' first, then DATABASES."""
    from .models import TaskCall

    return list(dict.fromkeys([router.db_for_write(TaskCall), *conf.get("DATABASES")]))


def for_a_call(alias=None):
    """Return where a call that is made now belongs: where the transaction is.

    Args:
        alias (str | None): where it has to be.

    Returns:
        tuple[str, bool]: the alias, and whether a transaction is open there.
    """
    known = [alias] if alias else aliases()
    for alias in known:
        if connections[alias].in_atomic_block:
            return alias, True
    return known[0], False
