"""The site's settings with a clock that runs sixty times as fast: minutes become seconds."""

import blog.settings
from blog.settings import *  # noqa: F403
from blog.settings import CELERY_BROKER_TRANSPORT_OPTIONS, DATABASES

# Of what is not set, the default stays. The soft limit comes after two seconds, three before the
# hard one: a machine that stalls is no task that does not listen.
for name, faster in (("CELERY_TASK_SOFT_TIME_LIMIT", 120), ("CELERY_TASK_TIME_LIMIT", 60)):
    if hasattr(blog.settings, name):
        globals()[name] = getattr(blog.settings, name) // faster
if "visibility_timeout" in CELERY_BROKER_TRANSPORT_OPTIONS:
    CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] //= 60
# Default: workers look every 100 s for messages that have become visible.
CELERY_BROKER_TRANSPORT_OPTIONS |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
DATABASES["default"]["CONN_MAX_AGE"] //= 60

# A task's own time limit is now longer than the visibility timeout.
SILENCED_SYSTEM_CHECKS = ["blog.E005"]
