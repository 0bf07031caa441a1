"""What Redis as broker needs: see also tests/system/test_redis_restart.py."""

import socket
import threading

import pytest
from celery import current_app
from django import db
from kombu import Connection
from kombu.exceptions import OperationalError

from blog.celery import square
from tests.services import free_port

pytestmark = pytest.mark.django_db(transaction=True)


def connect(url):
    """Return a connection to another broker, as calls have to theirs."""
    return Connection(url, transport_options=current_app.conf.broker_transport_options)


def call_through(connection):
    """Call a task by another broker. Returns the error, or None while it waits."""
    errors = []

    def call():
        try:
            square.apply_async([1], connection=connection, outbox=False)
        except OperationalError as error:
            errors.append(error)
        finally:
            db.connection.close()  # the call is in the database, and each thread has its own

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    return errors[0] if errors else None


class SilentServer:
    """Accepts connections and never says a word, as a Redis that hangs. It counts them."""

    def __init__(self, port=0):
        self.port = port

    def __enter__(self):
        self.server = socket.create_server(("127.0.0.1", self.port))
        self.url = f"redis://127.0.0.1:{self.server.getsockname()[1]}/0"
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def accept(self):
        while True:
            try:
                self.connections.append(self.server.accept()[0])
            except OSError:
                return

    def __exit__(self, *error):
        self.server.close()
        for connection in self.connections:
            connection.close()


@pytest.mark.proves("CELERY_BROKER_TRANSPORT_OPTIONS.socket_timeout")
def test_socket_timeout():
    """Without it, a call blocks for as long as Redis hangs, and the request that makes it too."""
    with SilentServer() as silent, connect(silent.url) as connection:
        assert call_through(connection), "the call still waits"


@pytest.mark.proves("CELERY_TASK_PUBLISH_RETRY_POLICY.max_retries", without="3")
def test_task_publish_retry_policy(own_redis):
    """Without it, a call whose connection breaks tries five times to reach a Redis that hangs,
    instead of three times: for 13 s instead of 7."""
    with connect(own_redis.url()) as connection:
        assert call_through(connection) is None  # it is connected
        own_redis.stop()
        with SilentServer(own_redis.port) as silent:
            assert call_through(connection)
            assert len(silent.connections) == 3


@pytest.mark.proves("CELERY_BROKER_CONNECTION_MAX_RETRIES")
def test_broker_connection_max_retries(start):
    """Without it, a worker whose broker stays away for about an hour exits."""
    # With the pauses between the tries cut out.
    include = ["--include", "tests.proofs.impatient"]
    url = f"redis://127.0.0.1:{free_port()}/0"
    worker = start("celery", "-A", "blog", "worker", *include, env={"CELERY_BROKER_URL": url})
    worker.wait_for_output("(101/", 60)
