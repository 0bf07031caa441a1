"""A worker that outlives its broker."""

import logging

from celery.worker.consumer import Consumer as StockConsumer

logger = logging.getLogger(__name__)


class Consumer(StockConsumer):
    """Celery's consumer, without the second close of a lost Redis connection.

    Celery 5.7.0 closes a lost connection twice. Where a late-acknowledged task runs and a process
    is free, the second close fails (`'NoneType' object has no attribute 'hostname'`), the worker
    exits, and the task's message stays invisible for a visibility timeout. Celery 5.6.3 closes
    once, but forgets the time limits of the running tasks. `tests/system/test_redis_restart.py`
    shows both; when it passes without this class, delete the class and its setting.
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
