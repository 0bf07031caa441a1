"""The settings of tasklog: one dict, ``TASKLOG``. README.md says when to change each."""

from django.conf import settings

DEFAULTS = {
    # Each call is in the table before it is sent, unless it ignores its result.
    "TRACK": False,
    # In a transaction a call is sent on commit; one that was not sent is sent later.
    "OUTBOX": False,
    # Calls with an ETA or a countdown wait in the table.
    "SCHEDULE_ETA": False,
    # Seconds between two dispatchers that beat sends, and how many calls one claims at once.
    "SEND_EVERY": 5,
    "BATCH_SIZE": 500,
    # Seconds that a committed call is left to the process that made it.
    "RESEND_AFTER": 30,
    # Seconds between two looks at calls whose worker was killed, with TRACK.
    "END_LOST_EVERY": 60,
    # Database aliases with the table of calls, besides the one that the routers name.
    "DATABASES": [],
    # Store what JSON cannot carry as text. Without it, such a result is a failure.
    "FORCE_JSON": False,
    # The alias through which results are written. None: the one that the routers name.
    "RESULTS_DATABASE": None,
}


def get(name):
    """Return one of the settings (str), or its default. KeyError: there is none of that name."""
    return getattr(settings, "TASKLOG", {}).get(name, DEFAULTS[name])


def dispatches():
    """Whether there is something to do for a dispatcher (bool)."""
    return get("OUTBOX") or get("SCHEDULE_ETA")
