"""How a log line looks."""

import logging
import re

from celery import current_task

# Whoever has the link of a mail may confirm or end a subscription: the path is the password.
TOKEN = re.compile(r"(/newsletter/(?:confirm|unsubscribe)/)[^/\s\"']+")


class TaskFormatter(logging.Formatter):
    """Gives each record a ``task``: «posts.tasks.basics.add[3f2b…] » inside a task, else nothing.

    Celery's own TaskFormatter writes «???» outside of tasks, so it cannot serve web and worker.
    """

    def format(self, record):
        task = current_task
        record.task = f"{task.name}[{task.request.id}] " if task and task.request.id else ""
        return TOKEN.sub(r"\1…", super().format(record))
