"""`/health/`: whether this web process reaches its database and its broker."""

import logging

from celery import current_app
from django.db import connection
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

logger = logging.getLogger(__name__)

BROKER_TIMEOUT = 2  # seconds


def ask_database():
    """Run the cheapest query. Raises what the database raises."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def ask_broker():
    """Open a connection, which Redis and RabbitMQ answer alike, once and without a retry.

    Raises:
        kombu.exceptions.OperationalError: it is away, or silent for BROKER_TIMEOUT. With Redis
            the silence is bounded by `socket_timeout` in CELERY_BROKER_TRANSPORT_OPTIONS.
    """
    with current_app.connection_for_write(connect_timeout=BROKER_TIMEOUT) as broker:
        broker.ensure_connection(max_retries=0)


CHECKS = {"database": ask_database, "broker": ask_broker}


@never_cache
@require_safe
def health(request):
    """Answer 200 when both answer, and 503 with the name of the one that does not.

    Public, so it names the kind of error only; the message, which may tell of hosts and users,
    goes to the log. A database that hangs is bounded by the timeout of whoever asks.
    """
    answers = {}
    for name, ask in CHECKS.items():
        try:
            ask()
            answers[name] = "ok"
        except Exception as error:
            logger.warning("The %s does not answer: %s", name, error)
            answers[name] = f"{type(error).__name__}: no answer, see the log of the web process"
    healthy = set(answers.values()) == {"ok"}
    return JsonResponse(answers, status=200 if healthy else 503)
