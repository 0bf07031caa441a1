"""System checks: a bad value is named at start-up, with the way out, not found in production.

They run with `manage.py check`, `runserver`, `migrate`, and when a worker starts.
"""

import difflib
import re
import sys

from celery.app.backends import by_name
from celery.app.defaults import DEFAULTS
from celery.exceptions import ImproperlyConfigured
from django.conf import settings
from django.core.checks import Error, Warning, register
from django.utils.module_loading import autodiscover_modules
from kombu.transport import TRANSPORT_ALIASES

from .celery import app

# Celery's Django support reads CELERY_DB_REUSE_MAX itself: it is missing from Celery's own list.
OPTIONS = {f"CELERY_{name.upper()}" for name in DEFAULTS} | {"CELERY_DB_REUSE_MAX"}


@register("celery")
def check_option_names(**kwargs):
    """Each CELERY_* name exists: Celery ignores the others without a word."""
    module = sys.modules.get(settings.SETTINGS_MODULE)
    for name in sorted({*dir(settings), *vars(module or settings)}):
        if name.upper().startswith("CELERY_") and name not in OPTIONS:
            close = difflib.get_close_matches(name.upper(), OPTIONS, n=1)
            yield Error(
                f"{name} is not a Celery option, so it does nothing.",
                hint=f"Did you mean {close[0]}?" if close else "Remove it.",
                id="blog.E001",
            )


@register("celery")
def check_broker(**kwargs):
    """The broker's URL is whole and its transport exists."""
    url = app.conf.broker_url or ""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in TRANSPORT_ALIASES:
        # Never the whole URL: there may be a password in it.
        yield Error(
            f"CELERY_BROKER_URL names no transport that Celery has: {scheme.split('@')[-1]!r}.",
            hint="Start it with redis://, rediss:// or amqp://.",
            id="blog.E002",
        )
    elif "None" in re.split("[:/@]", url):
        yield Error(
            "CELERY_BROKER_URL was built from a variable that is not set: it contains «None».",
            hint="Set the broker's user, password, host, port and virtual host.",
            id="blog.E002",
        )


@register("celery")
def check_result_backend(**kwargs):
    """The results backend can be imported."""
    backend = str(app.conf.result_backend or "disabled")
    try:
        by_name(backend.split("://")[0], app.loader)
    except (ImproperlyConfigured, ImportError, AttributeError) as error:
        yield Error(
            f"CELERY_RESULT_BACKEND {backend!r} does not exist: {error}",
            hint="Use django-db, django-cache, a URL such as redis://localhost/1, "
            "or the import path of a backend class.",
            id="blog.E003",
        )


@register("celery")
def check_cache_alias(**kwargs):
    """Results in the cache go to a cache that exists and that all processes share."""
    if app.conf.result_backend != "django-cache":
        return
    alias = app.conf.cache_backend or "default"
    if alias not in settings.CACHES:
        yield Error(
            f"CELERY_CACHE_BACKEND {alias!r} is not in CACHES, which has: "
            f"{', '.join(sorted(settings.CACHES))}.",
            hint="Name one of these, or add it to CACHES.",
            id="blog.E004",
        )
    elif settings.CACHES[alias]["BACKEND"].endswith(".LocMemCache"):
        yield Warning(
            f"Results go to CACHES[{alias!r}], which is each process's own memory: "
            "the web process never sees what a worker stored.",
            hint="Set CACHE_URL to a shared cache such as redis://localhost:6379/2.",
            id="blog.W001",
        )


@register("mail")
def check_email_url(**kwargs):
    """EMAIL_URL is of a kind that exists: tasks send mails, at night."""
    if not settings.EMAIL_BACKEND:
        yield Error(
            "EMAIL_URL is of no known kind.",
            hint="Start it with smtp://, submission:// or console://.",
            id="blog.E006",
        )


@register("celery")
def check_time_limits(**kwargs):
    """No task may run longer than its message stays invisible, or it runs twice (Redis, SQS).

    https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html#visibility-timeout
    """
    timeout = app.conf.broker_transport_options.get("visibility_timeout", 3600)
    autodiscover_modules("tasks")
    default = app.conf.task_time_limit
    limits = {"CELERY_TASK_TIME_LIMIT": default}
    for name, task in sorted(app.tasks.items()):
        if task.time_limit != default:
            limits[f"The time limit of {name}"] = task.time_limit
    for name, limit in limits.items():
        if limit and limit >= timeout:
            yield Error(
                f"{name} is {limit} s, but the broker hands the message to another worker "
                f"after {timeout} s: the task would run twice.",
                hint="Make CELERY_BROKER_TRANSPORT_OPTIONS['visibility_timeout'] longer "
                "than each time limit.",
                id="blog.E005",
            )
