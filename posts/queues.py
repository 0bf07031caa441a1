"""How the queues are: what waits, what runs, who works.

Figures are read when somebody asks: nothing is counted in the background, cached or consumed.
"""

import json
import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from celery import current_app, signals, states
from django.db.models import Count
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend
from django_celery_results.models import TaskResult
from kombu.exceptions import OperationalError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

logger = logging.getLogger(__name__)

BROKER_TIMEOUT = 2  # seconds
PING_TIMEOUT = 1  # seconds; `ping` always waits for as long after the last answer
STATES = (states.STARTED, "PROGRESS", states.RETRY, states.SUCCESS, states.FAILURE, states.REVOKED)


@signals.before_task_publish.connect
def note_publish_time(headers, **kwargs):
    """Give a message the time at which it is sent, in seconds since 1970: it carries none."""
    headers["published_at"] = time.time()


@dataclass
class Queue:
    """A queue: ``length`` messages that no worker has taken, the oldest for ``waiting`` seconds.

    ``length`` is None while the broker is away. ``waiting`` is None for an empty queue too, for a
    broker that lets nobody look at a message without taking it (RabbitMQ), and for a message that
    something else has sent.
    """

    name: str
    length: int | None = None
    waiting: float | None = None


@dataclass
class Figures:
    """What is known. None stands for «cannot be known».

    ``unacked`` counts what workers hold in all queues together; ``workers`` and ``beats`` are the
    node names that answered a ping; ``results`` counts the states stored in the last day.
    """

    queues: list[Queue]
    broker_up: bool = False
    unacked: int | None = None
    workers: list[str] | None = None
    beats: list[str] | None = None
    oldest_task: str = ""
    oldest_started: datetime | None = None
    results: dict[str, int] | None = None
    read_at: datetime = field(default_factory=timezone.now)


def read_figures():
    """Read all figures: two queries, one round trip to Redis and a ping of a second.

    Returns:
        Figures: with ``broker_up`` False where the broker did not answer within two seconds.
    """
    figures = Figures([Queue(name) for name in current_app.amqp.queues])
    read_results(figures)
    connection = quick_connection(BROKER_TIMEOUT)
    try:
        with connection:
            connection.ensure_connection(max_retries=0)
            read_broker(figures, connection)
            read_nodes(figures, connection)
            figures.broker_up = True
    except (OperationalError, *connection.connection_errors) as error:
        logger.warning("The broker does not answer: %s", error)
    return figures


def quick_connection(timeout):
    """Return a connection to the broker that gives up soon.

    Args:
        timeout (float): seconds, for connecting and for each answer.

    Returns:
        kombu.Connection: not open yet.
    """
    options = dict(current_app.conf.broker_transport_options)
    for name in ("socket_timeout", "socket_connect_timeout"):
        if name in options:
            options[name] = timeout
    return current_app.connection_for_write(connect_timeout=timeout, transport_options=options)


def read_broker(figures, connection):
    """Fill in the queues.

    Args:
        figures (Figures): to fill in.
        connection (kombu.Connection): to the broker, open.
    """
    if connection.transport.driver_type == "redis":
        look_into_redis(figures, connection.default_channel)
    else:
        for queue in figures.queues:
            queue.length = ask_length(connection, queue.name)


def look_into_redis(figures, channel):
    """Fill in the queues and the number of unacknowledged messages, in one round trip.

    A queue is a list for each priority, where the next message stands at the right end. It is
    looked at where it stands. One hash holds what all workers of this Redis have yet to
    acknowledge.

    Args:
        figures (Figures): to fill in.
        channel (kombu.transport.redis.Channel): an open channel.
    """
    steps = channel.priority_steps
    with channel.client.pipeline(transaction=False) as pipe:
        for queue in figures.queues:
            for step in steps:
                pipe.llen(channel._q_for_pri(queue.name, step))
                pipe.lindex(channel._q_for_pri(queue.name, step), -1)
        pipe.hlen(channel.unacked_key)
        *answers, figures.unacked = pipe.execute()
    for number, queue in enumerate(figures.queues):
        own = answers[2 * len(steps) * number :][: 2 * len(steps)]
        queue.length = sum(own[::2])
        ages = [age for message in own[1::2] if (age := age_of(message)) is not None]
        queue.waiting = max(ages, default=None)


def age_of(message):
    """Return the seconds since a message was sent.

    Args:
        message (bytes | None): as it stands in Redis.

    Returns:
        float | None: None where it does not say, or there is none.
    """
    try:
        published_at = json.loads(message)["headers"]["published_at"]
        return max(0.0, time.time() - published_at)
    except (TypeError, ValueError, KeyError):
        return None


def ask_length(connection, name):
    """Ask any broker for a queue's length.

    Args:
        connection (kombu.Connection): to the broker, open.
        name (str): the queue.

    Returns:
        int: messages that wait; 0 for a queue that nobody has made yet.
    """
    try:
        with connection.channel() as channel:
            return channel.queue_declare(name, passive=True).message_count
    except connection.channel_errors as error:
        if str(error.reply_code) != "404":
            raise
        return 0


def read_nodes(figures, connection):
    """Fill in who answers. A process that hangs is not counted, one that is busy is.

    Args:
        figures (Figures): to fill in.
        connection (kombu.Connection): to the broker, open.
    """
    answers = current_app.control.ping(timeout=PING_TIMEOUT, connection=connection)
    nodes = sorted(node for answer in answers or [] for node in answer)
    # Beat answers too: CELERY_BEAT_ENABLE_REMOTE_CONTROL.
    figures.beats = [node for node in nodes if node.startswith("celerybeat@")]
    figures.workers = [node for node in nodes if node not in figures.beats]


def read_results(figures):
    """Fill in what the database knows of results, if that is where they are.

    A task that a killed worker left behind stays STARTED, and so the oldest, until its row is
    deleted.

    Args:
        figures (Figures): to fill in.
    """
    if not isinstance(current_app.backend, DatabaseBackend):
        return
    running = TaskResult.objects.filter(
        status__in=[states.STARTED, "PROGRESS"], date_started__isnull=False
    )
    oldest = running.order_by("date_started").values("task_name", "date_started").first()
    if oldest:
        figures.oldest_task = (oldest["task_name"] or "").rpartition(".")[2]
        figures.oldest_started = oldest["date_started"]
    yesterday = timezone.now() - timedelta(days=1)
    recent = TaskResult.objects.filter(date_done__gte=yesterday).order_by()
    counts = recent.values_list("status").annotate(Count("pk"))
    figures.results = dict.fromkeys(STATES, 0) | dict(counts)


class Collector:
    """The figures as prometheus-client asks for them. What is unknown is left out, not 0."""

    def __init__(self, figures):
        self.figures = figures

    def collect(self):
        figures = self.figures
        lengths = {queue.name: queue.length for queue in figures.queues}
        ages = {queue.name: queue.waiting for queue in figures.queues}
        started = figures.oldest_started
        running = (timezone.now() - started).total_seconds() if started else None
        yield gauge("celery_broker_up", "1 when the broker answers.", int(figures.broker_up))
        yield gauge("celery_queue_length", "Messages no worker has taken.", lengths, "queue")
        yield gauge("celery_oldest_waiting_seconds", "Age of the next message.", ages, "queue")
        yield gauge("celery_unacked_messages", "Taken, not acknowledged.", figures.unacked)
        yield gauge("celery_workers", "Workers that answer a ping.", count(figures.workers))
        yield gauge("celery_beats", "Beats that answer a ping.", count(figures.beats))
        yield gauge("celery_oldest_started_seconds", "Age of the longest-running task.", running)
        yield gauge("celery_results", "States stored in the last day.", figures.results, "state")


def count(nodes):
    return None if nodes is None else len(nodes)


def gauge(name, text, value, label=None):
    """Return a gauge, without the samples whose value is None.

    Args:
        name (str): its name.
        text (str): what it means.
        value (float | dict | None): the value; with a label, a value for each of the label's.
        label (str | None): the name of the label.

    Returns:
        GaugeMetricFamily: the gauge.
    """
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    values = {(key,): number for key, number in (value or {}).items()} if label else {(): value}
    for keys, number in values.items():
        if number is not None:
            family.add_metric(keys, number)
    return family


def as_metrics(figures):
    """Write figures in Prometheus' text format. Returns bytes."""
    registry = CollectorRegistry()
    registry.register(Collector(figures))
    return generate_latest(registry)
