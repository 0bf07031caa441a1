"""Every call of a task in the database: nothing is lost, and everything can be sent again."""

from .app import Celery, LoggedTask

__all__ = ["Celery", "LoggedTask"]
