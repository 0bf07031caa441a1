"""Listening to Celery's events, as Flower does."""

import threading
from contextlib import contextmanager

from celery import current_app

from tests.services import wait_for


@contextmanager
def listening(handlers):
    """Hear each event that passes meanwhile.

    Args:
        handlers (dict[str, Callable]): what to call with an event of a type; «*» for any.
    """
    ready = threading.Event()
    with current_app.connection_for_read() as connection:
        handlers = {**handlers, "test-heard": lambda event: ready.set()}
        receiver = current_app.events.Receiver(connection, handlers=handlers)
        thread = threading.Thread(target=receiver.capture)
        thread.start()
        try:
            # An event that is sent before Redis knows of the listener is heard by nobody.
            with current_app.events.default_dispatcher() as dispatcher:
                wait_for(lambda: dispatcher.send("test-heard") or ready.is_set(), "an event")
            yield
        finally:
            receiver.should_stop = True
            thread.join(20)
