"""The settings of tasklog: one dict, ``TASKLOG``. README.md says when to change each."""

from django.conf import settings

DEFAULTS = {
    "TRACK": False,  # each call is in the table before it is sent
    "OUTBOX": False,  # in a transaction, on commit; what was not sent is sent later
    "SCHEDULE_ETA": False,  # calls with an ETA wait in the table
    "SEND_EVERY": 5,  # seconds between two dispatchers
    "BATCH_SIZE": 500,  # calls that one claims at once
    "RESEND_AFTER": 30,  # seconds that a committed call is left to its process
    "END_LOST_EVERY": 60,  # seconds between two looks at lost calls
    "DATABASES": [],  # aliases with a table of calls, besides the routers'
    "FORCE_JSON": False,  # results that JSON cannot carry are stored as text
    "RESULTS_DATABASE": None,  # the alias for results, if not the routers'
}


def get(name):
    """Return one of the settings (str), or its default. KeyError: there is none of that name."""
    return getattr(settings, "TASKLOG", {}).get(name, DEFAULTS[name])


def dispatches():
    """Whether there is something to do for a dispatcher (bool)."""
    return get("OUTBOX") or get("SCHEDULE_ETA")
