"""This side: the site's settings. Each worker here has a queue of its own."""

import os

from blog.settings import *  # noqa: F403
from blog.settings import DATABASES, TASKLOG

CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "tasklog.backends:DatabaseBackend")
CELERY_TASK_DEFAULT_QUEUE = os.environ["CELERY_TASK_DEFAULT_QUEUE"]
CELERY_TASK_QUEUES = None
# As on the other side: with DEBUG Django remembers each statement, and stock Celery sends no
# events, and reserves tasks.
DEBUG = False
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = False
CELERY_TASK_CREATE_MISSING_QUEUES = True
if not os.environ.get("AS_IT_RUNS"):
    CELERY_WORKER_DISABLE_PREFETCH = False
    CELERY_WORKER_PREFETCH_MULTIPLIER = 4

# Calls are written down, in the sides that measure calls.
TASKLOG = TASKLOG if os.environ.get("CALLS") else {"TRACK": bool(os.environ.get("TRACK"))}
if os.environ.get("ASYNC_RESULTS"):
    # As tasklog/README.md has it: results, and they alone, may be lost with the power.
    options = {"options": "-c synchronous_commit=off", "prepare_threshold": 1}
    DATABASES["results"] = {**DATABASES["default"], "OPTIONS": options}
    TASKLOG["RESULTS_DATABASE"] = "results"
