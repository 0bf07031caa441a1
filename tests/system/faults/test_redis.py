"""Redis dies, hangs, drops connections and runs out of memory in the middle of work.

Messages survive each of them. What may run twice: one task for each process of a worker, whose
acknowledgement did not arrive, and a call for each process that sends, which gave up while Redis
had it already. What Redis had given to a worker that could not note it down is found by
`find_stale_tasks`.
"""

import re
import signal
import time

import psutil
import pytest

from tests.services import wait_for

from .site import LOAD, VISIBILITY_TIMEOUT

pytestmark = pytest.mark.timeout(600)

HALF = LOAD // 2
PROCESSES, SENDERS = 2, 2
AWAY = "The broker is away"
HUNG = VISIBILITY_TIMEOUT + 1  # seconds: 10


@pytest.fixture
def busy(site):
    """A site with a worker and beat in the middle of work. Returns the worker."""
    worker = site.worker()
    site.beat()
    site.send(0, HALF)
    site.wait_for_effects(LOAD // 10)
    return worker


def send_the_rest(site):
    """Send the other half, and wait until a call found no broker."""
    site.send(HALF, LOAD).wait_for_output(AWAY, 60)


def all_is_done(site, worker):
    site.wait_for_all_calls_to_end(resend=PROCESSES)
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.effects_are_complete()
    print("twice:", site.runs_more_than_once())
    assert len(site.runs_more_than_once()) <= PROCESSES + SENDERS
    client = site.redis.client()
    wait_for(lambda: not client.hlen("unacked"), "an empty broker")
    assert worker.running
    assert site.end() == []


def test_redis_is_killed_and_started_again(site, busy):
    """Append-only, it still has what it was given; calls made meanwhile wait in the table."""
    site.redis.kill()
    send_the_rest(site)
    busy.wait_for_output("Cannot connect", 60)
    site.redis.start()
    all_is_done(site, busy)


def test_redis_hangs(site, busy):
    """For longer than `socket_timeout`: who sends is not held up for ever, and what is not sent
    waits in the table. And for longer than messages stay invisible.
    """
    redis = psutil.Process(site.redis.process.pid)
    redis.suspend()
    began = time.monotonic()
    send_the_rest(site)
    wait_for(lambda: time.monotonic() - began >= HUNG, "the end of ten seconds")
    assert redis.status() == psutil.STATUS_STOPPED
    assert site.in_the_middle()
    redis.resume()
    all_is_done(site, busy)


def test_redis_drops_all_connections_again_and_again(site, busy):
    site.send(HALF, LOAD)
    client = site.redis.client()
    for part in range(2, 7):
        site.wait_for_effects(part * LOAD // 10)
        assert client.client_kill_filter(_type="normal", skipme=True) > 1
    all_is_done(site, busy)


def test_redis_has_no_memory_left(site, busy):
    """Under `noeviction` it refuses what is new and keeps what it has. What cannot be sent waits in
    the table.

    A worker of Celery 5.7.0 ends then, with «Unrecoverable error»: it could not note down what it
    takes. That is better than to go on, for what it takes would be lost to the queue. Supervisor
    starts it again.
    """
    client = site.redis.client()
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    busy.popen.send_signal(signal.SIGSTOP)  # it is to find a message when it goes on
    wait_for(lambda: client.llen("celery"), "a message that waits")
    assert client.info("memory")["maxmemory"] == 0  # as it is shipped: no limit
    client.config_set("maxmemory", "1mb")
    busy.popen.send_signal(signal.SIGCONT)
    send_the_rest(site)
    assert busy.wait(60) == 1
    assert re.search("Unrecoverable error: .*OutOfMemoryError", busy.output)
    memory = client.info("memory")
    assert memory["used_memory"] > memory["maxmemory"] * 3 / 4
    client.config_set("maxmemory", 0)
    all_is_done(site, site.worker())
