"""Results in the Django database that survive a restart of the database."""

from django.db import InterfaceError, OperationalError, connections
from django_celery_results.backends import DatabaseBackend as StockBackend


class DatabaseBackend(StockBackend):
    """django-celery-results' backend, which tries again when the database was away.

    The stock backend retries an InterfaceError only. psycopg raises OperationalError when
    PostgreSQL restarts, so a task that has done its work would be stored as FAILURE, or not at all.
    """

    def exception_safe_to_retry(self, exc):
        """Whether to store or read a result again, see CELERY_RESULT_BACKEND_ALWAYS_RETRY.

        The connections are closed, so that the next try opens new ones; inside a transaction that
        would lose what the transaction did, so there it is left to whoever opened it.

        Args:
            exc (Exception): what the database raised.

        Returns:
            bool: True for a database that is away, False for a statement that is wrong.
        """
        if not isinstance(exc, (OperationalError, InterfaceError)):
            return False
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()
        return True
