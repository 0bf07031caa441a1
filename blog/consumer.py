"""A worker that outlives its broker, and a stop that makes no task run twice."""

import logging
from time import monotonic

from celery.exceptions import WorkerShutdown
from celery.worker import state
from celery.worker.consumer import Consumer as StockConsumer

logger = logging.getLogger(__name__)

ACCEPT_WITHIN = 10  # seconds; a process that is free needs milliseconds


class Consumer(StockConsumer):
    """Celery's consumer, with two errors of Celery 5.7.0 mended.

    **It closes a lost Redis connection twice.** Where a late-acknowledged task runs and a process
    is free, the second close fails (`'NoneType' object has no attribute 'hostname'`), the worker
    exits, and the task's message stays invisible for a visibility timeout. Celery 5.6.3 closes
    once, but forgets the time limits of the running tasks. `tests/system/test_redis_restart.py`
    shows both.

    **A warm shutdown forgets the tasks that it has just handed to a process**, until that process
    has said that it accepts them: `AsynPool.flush` takes them for tasks that will not run. They
    do, nobody acknowledges them, and the next worker runs them again, even those that are to be
    acknowledged before they run. `tests/system/test_warm_shutdown.py` shows it.

    When a Celery passes one of these tests without this class, delete that method. Without both,
    delete the class and its setting.
    """

    def on_connection_error_after_connected(self, exc):
        try:
            self.connection.collect(socket_timeout=5)
        except Exception as error:
            # The connection is lost: what matters is that nothing of it is left open.
            logger.debug("Closing the lost connection: %r", error)
        # Closed as far as it goes. Closing it again is what fails.
        self.connection._default_channel = None
        super().on_connection_error_after_connected(exc)

    def start(self):
        try:
            super().start()
        except WorkerShutdown:
            if self.hub and self.task_consumer:  # other pools than prefork have no hub
                self.have_handed_tasks_accepted()
            raise

    def have_handed_tasks_accepted(self):
        """Take no more messages, and go on with the event loop until the processes have theirs."""
        deadline = monotonic() + ACCEPT_WITHIN
        try:
            self.task_consumer.cancel()
            loop = self.hub.create_loop()
            if tasks := handed():
                logger.info("Processes have to accept: %s", ", ".join(tasks))
            while handed() and monotonic() < deadline:
                next(loop)
            if tasks := handed():
                logger.warning("Not accepted in time, may run twice: %s", ", ".join(tasks))
        except Exception as error:
            # The broker is lost as well: then it delivers again what was not acknowledged.
            logger.warning("Stopping without the last acknowledgements: %r", error)


def handed():
    """Return the tasks, as name[id], that a process was given and has not said that it accepts."""
    waiting = state.reserved_requests - state.active_requests
    jobs = {request: request._apply_result and request._apply_result() for request in waiting}
    return [str(request) for request, job in jobs.items() if job and job._write_to]
