"""The settings of tasklog: one dict, ``TASKLOG``. README.md says what each does."""

from django.conf import settings

DEFAULTS = {
    "TRACK": False,
    "OUTBOX": False,
    "SCHEDULE_ETA": False,
    "SEND_EVERY": 5,  # seconds
    "BATCH_SIZE": 500,  # calls
    "RESEND_AFTER": 30,  # seconds
    "END_LOST_EVERY": 60,  # seconds
    "DATABASES": [],
    "FORCE_JSON": False,
    "RESULTS_DATABASE": None,  # the routers choose
}


def get(name):
    """Return one of the settings, by its name (str), or its default."""
    return getattr(settings, "TASKLOG", {}).get(name, DEFAULTS[name])
