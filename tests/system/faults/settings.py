"""The site's settings, with limits so short that recovery is a matter of seconds.

Everything else is as in blog/settings.py.
"""

from blog.settings import *  # noqa: F403
from blog.settings import CELERY_BROKER_TRANSPORT_OPTIONS, TASKLOG

CELERY_TASK_SOFT_TIME_LIMIT, CELERY_TASK_TIME_LIMIT = 5, 7
CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,
    "visibility_timeout": 9,
    # Default: workers look every 100 s for messages that have become visible.
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}

# RESEND_AFTER stays above three times `socket_timeout`, as its own rule says.
# BATCH_SIZE goes with the time limit: a batch that takes longer is cut off in the middle of a call.
TASKLOG = {**TASKLOG, "SEND_EVERY": 1, "RESEND_AFTER": 7, "BATCH_SIZE": 50}

# The load: in each queue a half.
CELERY_INCLUDE = ["tests.system.faults.tasks"]
CELERY_TASK_ROUTES = {**CELERY_TASK_ROUTES, "tests.system.faults.tasks.late": {"queue": "slow"}}  # noqa: F405

# A time limit of a task of the site is longer than this visibility timeout.
SILENCED_SYSTEM_CHECKS = ["blog.E005"]
