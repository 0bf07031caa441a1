"""A file that a living worker touches every two seconds: the cheap way to ask whether it lives.

`$STATE_DIR/heartbeats/<node name>`. A probe looks at the file's age, which costs a few
milliseconds; `celery inspect ping` starts Python and Django for the same answer. The worker's main
process touches it, whatever its tasks do, from the moment it is connected. The file grows old when
the worker is stopped, hangs, or has no broker: it works on nothing then.
"""

from celery import signals
from django.conf import settings


# Celery looks for receivers once, when a worker starts: connect before. The first signal comes as
# soon as the worker is connected.
@signals.heartbeat_sent.connect
def touch_file(sender, **kwargs):
    """Touch the worker's file.

    Args:
        sender (celery.worker.heartbeat.Heart): knows the worker's node name, such as celery@host.

    Raises:
        OSError: STATE_DIR cannot be written. Celery logs it, and the worker goes on.
    """
    path = settings.STATE_DIR / "heartbeats" / sender.eventer.hostname
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
