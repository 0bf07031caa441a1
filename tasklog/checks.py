"""System checks: what is missing is named at start-up, with the way out."""

import difflib
from numbers import Real

from celery import current_app
from celery.exceptions import ImproperlyConfigured as CeleryImproperlyConfigured
from django.conf import settings
from django.core.checks import Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django_celery_results.backends import DatabaseBackend

from . import conf
from .app import Celery


def is_alias(value):
    return value in list(settings.DATABASES)


# What each setting has to be.
KINDS = {
    **dict.fromkeys(
        ("TRACK", "OUTBOX", "SCHEDULE_ETA", "FORCE_JSON"),
        ("True or False", lambda value: isinstance(value, bool)),
    ),
    **dict.fromkeys(
        ("SEND_EVERY", "END_LOST_EVERY"),
        (
            "a whole number of seconds above 0, or None for never",
            lambda value: value is None or (isinstance(value, int) and value > 0),
        ),
    ),
    "BATCH_SIZE": ("a whole number above 0", lambda value: isinstance(value, int) and value > 0),
    "RESEND_AFTER": ("a number of seconds", lambda value: isinstance(value, Real) and value >= 0),
    "DATABASES": (
        "a list of aliases from DATABASES",
        lambda value: isinstance(value, (list, tuple)) and all(map(is_alias, value)),
    ),
    "RESULTS_DATABASE": (
        "None, or an alias from DATABASES",
        lambda value: value is None or is_alias(value),
    ),
}


@register("tasklog")
def check_settings(**kwargs):
    """TASKLOG, and USE_TZ."""
    if not settings.USE_TZ:
        yield Error("tasklog needs aware times.", hint="Set USE_TZ = True.", id="tasklog.E006")
    for name, value in getattr(settings, "TASKLOG", {}).items():
        if name not in KINDS:
            close = difflib.get_close_matches(str(name), KINDS, n=1)
            yield Error(
                f"TASKLOG[{name!r}] does not exist, so it does nothing.",
                hint=f"Did you mean {close[0]}?" if close else "Remove it.",
                id="tasklog.E001",
            )
        elif not KINDS[name][1](value):
            text = f"TASKLOG[{name!r}] is {value!r}."
            yield Error(text, hint=f"It is {KINDS[name][0]}.", id="tasklog.E002")


@register("tasklog")
def check_celery(**kwargs):
    """The application and its results."""
    app = current_app._get_current_object()
    asked = [
        choice
        for choice in ("TRACK", "OUTBOX", "SCHEDULE_ETA")
        if conf.get(choice) or any(getattr(t, choice.lower(), None) for t in app.tasks.values())
    ]
    if not asked:
        return
    if not isinstance(app, Celery):
        yield Error(
            f"Calls do not pass through tasklog: the Celery application is {app!r}.",
            hint="In the module that makes it, import Celery from tasklog instead of celery. "
            "Import that module in your project's __init__.py.",
            id="tasklog.E003",
        )
    if app.conf.task_always_eager:
        yield Warning(
            "CELERY_TASK_ALWAYS_EAGER runs each call at once: none is recorded, or waits for a "
            "commit or an ETA.",
            hint="Test with a real worker, or test the functions that your tasks call.",
            id="tasklog.W001",
        )
    try:
        in_django = isinstance(app.backend, DatabaseBackend)
    except (ImportError, AttributeError, ImproperlyConfigured, CeleryImproperlyConfigured) as error:
        yield Error(f"The results backend cannot be made: {error}", id="tasklog.E004")
    else:
        if not in_django:
            yield Warning(
                f"Results are in {app.conf.result_backend!r}, where tasklog does not look: each "
                f"call stays PENDING, and is never cleaned up.",
                hint='Set CELERY_RESULT_BACKEND = "tasklog.backends:DatabaseBackend".',
                id="tasklog.W002",
            )
    if asked != ["TRACK"] and conf.get("SEND_EVERY") is None:
        yield Warning(
            "TASKLOG['SEND_EVERY'] is None: beat sends no dispatcher, and calls that wait stay.",
            hint="Run `manage.py send_due_calls` often, or set a number of seconds.",
            id="tasklog.W003",
        )
