"""The Celery application: `celery -A blog worker` starts here."""

import logging
import os
import sys

from celery import signals

# Keeps passwords out of what Celery reports of its settings.
import blog.secrets  # noqa: F401
from tasklog import Celery

# Connects signals: a worker leaves a file for as long as it lives, which probes look at.
from . import heartbeat  # noqa: F401

# Before Celery(): the connection between Celery and Django is made in its constructor.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blog.settings")

app = Celery("blog")

# Settings named CELERY_* in blog/settings.py, without the prefix and in lower case.
app.config_from_object("django.conf:settings", namespace="CELERY")

# Finds the `tasks` module of each app in INSTALLED_APPS.
app.autodiscover_tasks()


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    """Print the request: what a worker knows of the call it runs."""
    print(f"Request: {self.request!r}")


@app.task
def square(n):
    """Return ``n * n``.

    Args:
        n (int | float): the number.

    Raises:
        TypeError: ``n`` is a string: a way to see what a failure looks like.
    """
    return n * n


@signals.setup_logging.connect
def keep_django_logging(loglevel=None, **kwargs):
    """Log as settings.LOGGING says, which Django has configured already, at the level of `-l`."""
    logging.getLogger().setLevel(loglevel)
    app.log.redirect_stdouts(app.conf.worker_redirect_stdouts_level)


def close_stale_connections(task, **kwargs):
    """Close each connection that is too old or broken, as Django does around each request.

    An eager task runs in the middle of something else, whose transaction would be lost.
    """
    from django.db import close_old_connections

    if not task.request.is_eager:
        close_old_connections()


# CELERY_DB_REUSE_MAX keeps connections open between tasks; these replace the dead ones.
signals.task_prerun.connect(close_stale_connections)
signals.task_postrun.connect(close_stale_connections)


@signals.celeryd_init.connect
def refuse_bad_configuration(**kwargs):
    """Exit before the first task when a system check finds an error, as `runserver` does.

    Celery's own call of the checks throws their answer away.
    """
    from django.core.management.base import BaseCommand, SystemCheckError

    try:
        BaseCommand().check()
    except SystemCheckError as error:
        sys.exit(str(error))
