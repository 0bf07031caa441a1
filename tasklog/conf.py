"""The settings of tasklog: one dict, ``TASKLOG``, in which each is off unless asked for."""

from django.conf import settings

DEFAULTS = {
    # Write each call into the table before it is sent. Tasks that ignore their result are left out,
    # unless they ask with `track=True`.
    "TRACK": False,
    # In a transaction, send on commit. A call that could not be sent, because the process was
    # killed or the broker was away, is sent later under the same id.
    "OUTBOX": False,
    # Calls with an ETA or a countdown wait in the table instead of in the workers' memory.
    "SCHEDULE_ETA": False,
    # How often beat sends `tasklog.send_due_calls`, in seconds, and how many calls it claims at
    # once: as many as a dispatcher that is killed may leave unsent.
    "SEND_EVERY": 5,
    "BATCH_SIZE": 500,
    # How long a committed call is left to the process that made it, in seconds. Longer than that
    # process may take to send it, or the call may be sent twice.
    "RESEND_AFTER": 30,
    # How often beat sends `tasklog.end_lost_calls`, in seconds: with TRACK, a call whose worker was
    # killed becomes a FAILURE when its time limit has passed. None for never.
    "END_LOST_EVERY": 60,
    # The databases with the table of calls, besides the one that the routers name.
    "DATABASES": [],
    # Store what JSON cannot carry as text. Without it, such a result is a failure.
    "FORCE_JSON": False,
    # The database alias through which results are written. None: the one that the routers name.
    "RESULTS_DATABASE": None,
}


def get(name):
    """Return a setting, or its default.

    Args:
        name (str): one of DEFAULTS, which says what each means.

    Raises:
        KeyError: there is no such setting.
    """
    return getattr(settings, "TASKLOG", {}).get(name, DEFAULTS[name])
