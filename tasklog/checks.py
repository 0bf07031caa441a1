"""System checks: an installation that is half done is named at start-up, with the way out."""

import difflib
from numbers import Real

from celery import current_app
from celery.exceptions import ImproperlyConfigured as CeleryImproperlyConfigured
from django.conf import settings
from django.core.checks import Error, Warning, register
from django.core.exceptions import ImproperlyConfigured

from . import conf
from .app import Celery

SWITCHES = ("TRACK", "OUTBOX", "SCHEDULE_ETA")


def is_on():
    """Whether the site asks for any of the three."""
    return any(conf.get(name) for name in SWITCHES)


@register("tasklog")
def check_settings(**kwargs):
    """Each name in TASKLOG exists, and its value is of the right kind."""
    chosen = getattr(settings, "TASKLOG", {})
    if not isinstance(chosen, dict):
        yield Error(f"TASKLOG is {chosen!r}, not a dict.", id="tasklog.E001")
        return
    for name in sorted(set(chosen) - set(conf.DEFAULTS)):
        close = difflib.get_close_matches(str(name), conf.DEFAULTS, n=1)
        yield Error(
            f"TASKLOG[{name!r}] does not exist, so it does nothing.",
            hint=f"Did you mean {close[0]}?" if close else "Remove it.",
            id="tasklog.E001",
        )
    for name, value in chosen.items():
        if wanted := what_is_wanted(name, value):
            yield Error(
                f"TASKLOG[{name!r}] is {value!r}.", hint=f"It is {wanted}.", id="tasklog.E002"
            )


def what_is_wanted(name, value):
    """Return what the value of a setting has to be; None when it is that, or has no such name."""
    known = ", ".join(settings.DATABASES)
    if isinstance(conf.DEFAULTS.get(name), bool):
        return None if isinstance(value, bool) else "True or False"
    if name in ("SEND_EVERY", "END_LOST_EVERY"):
        right = value is None or (isinstance(value, Real) and value > 0)
        return None if right else "a number of seconds above 0, or None for no schedule"
    if name == "BATCH_SIZE":
        return None if isinstance(value, int) and value > 0 else "a whole number above 0"
    if name == "RESEND_AFTER":
        right = isinstance(value, Real) and value >= 0
        return None if right else "a number of seconds, 0 or more"
    if name == "DATABASES":
        right = isinstance(value, (list, tuple)) and set(value) <= set(settings.DATABASES)
        return None if right else f"a list of aliases from DATABASES, which has: {known}"
    if name == "RESULTS_DATABASE":
        right = value is None or value in settings.DATABASES
        return None if right else f"None, or an alias from DATABASES, which has: {known}"
    return None


@register("tasklog")
def check_app(**kwargs):
    """Calls pass through tasklog's Celery application."""
    app = current_app._get_current_object()
    if is_on() and not isinstance(app, Celery):
        yield Error(
            f"TASKLOG asks for something, but calls do not pass through tasklog: the Celery "
            f"application is {app!r}.",
            hint="In the module that makes it, import Celery from tasklog instead of celery. "
            "Import that module in your project's __init__.py.",
            id="tasklog.E003",
        )


@register("tasklog")
def check_eager(**kwargs):
    """Eager calls are not recorded, which is worth a word."""
    if is_on() and current_app.conf.task_always_eager:
        yield Warning(
            "CELERY_TASK_ALWAYS_EAGER runs each call at once, in the process that makes it: none "
            "is recorded, none waits for a commit or an ETA.",
            hint="Test with a real worker, or test the functions that your tasks call.",
            id="tasklog.W001",
        )


@register("tasklog")
def check_results(**kwargs):
    """How a call went is read from the table of results."""
    from django_celery_results.backends import DatabaseBackend

    if not is_on():
        return
    try:
        backend = current_app.backend
    except (ImportError, AttributeError, ImproperlyConfigured, CeleryImproperlyConfigured) as error:
        yield Error(f"The results backend cannot be made: {error}", id="tasklog.E004")
        return
    if not isinstance(backend, DatabaseBackend):
        yield Warning(
            f"Results are in {current_app.conf.result_backend!r}, where tasklog does not look: "
            "each call stays PENDING, and none is ever cleaned up.",
            hint='Set CELERY_RESULT_BACKEND = "tasklog.backends:DatabaseBackend".',
            id="tasklog.W002",
        )


@register("tasklog")
def check_dispatcher(**kwargs):
    """Somebody sends what waits."""
    waits = conf.get("OUTBOX") or conf.get("SCHEDULE_ETA")
    if waits and conf.get("SEND_EVERY") is None:
        yield Warning(
            "TASKLOG['SEND_EVERY'] is None: beat sends no dispatcher, and calls that wait stay.",
            hint="Run `manage.py send_due_calls` often, or set a number of seconds.",
            id="tasklog.W003",
        )
