"""Who works and what waits, at a glance: for the head of the page of tasks."""

import logging
from dataclasses import dataclass, field

from celery import current_app
from kombu.exceptions import OperationalError

from .queues import Figures, Queue, quick_connection, read_broker
from .runs import BROKER_TIMEOUT

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT = 1  # seconds; the first question waits as long, because it cannot know who answers


@dataclass
class Worker:
    """A worker that answers, and how many tasks it has at work."""

    name: str
    busy: int = 0


@dataclass
class Line:
    """A queue, with those who serve it. ``length`` is None while the broker is away."""

    name: str
    length: int | None = None
    workers: list[Worker] = field(default_factory=list)


@dataclass
class Overview:
    """What is known. ``broker_up`` is False where the broker did not answer within a second."""

    lines: list[Line]
    broker_up: bool = False

    @property
    def idle_queues(self):
        """The names of the queues that nobody serves."""
        return [line.name for line in self.lines if not line.workers]


def read_overview():
    """Ask broker and workers: no query, and little more than a second.

    Returns:
        Overview: with ``broker_up`` False where the broker does not answer.
    """
    lines = {name: Line(name) for name in current_app.amqp.queues}
    overview = Overview(list(lines.values()))
    connection = quick_connection(BROKER_TIMEOUT)
    try:
        with connection:
            connection.ensure_connection(max_retries=0)
            figures = Figures([Queue(name) for name in lines])
            read_broker(figures, connection)
            for queue in figures.queues:
                lines[queue.name].length = queue.length
            read_workers(lines, connection)
            overview.broker_up = True
    except (OperationalError, *connection.connection_errors) as error:
        logger.warning("The broker does not answer: %s", error)
    return overview


def read_workers(lines, connection):
    """Fill in who serves which queue, and who is busy. A worker that hangs does not answer.

    Args:
        lines (dict[str, Line]): by queue, to be filled in.
        connection (kombu.Connection): to the broker, open.
    """
    inspect = current_app.control.inspect(timeout=ANSWER_TIMEOUT, connection=connection)
    served = inspect.active_queues() or {}
    if not served:
        return
    # As many answers as before, so that it does not wait for more.
    active = current_app.control.inspect(
        destination=list(served), timeout=ANSWER_TIMEOUT, connection=connection
    ).active()
    for name in sorted(served):
        worker = Worker(name, busy=len((active or {}).get(name, ())))
        for queue in served[name]:
            if queue["name"] in lines:
                lines[queue["name"]].workers.append(worker)
