"""Tasks that hang, and messages that no worker understands, among others."""

import json

import pytest

from tests.services import wait_for

from .site import HELD, LOAD

pytestmark = pytest.mark.timeout(600)

HALF = LOAD // 2
TASKS = "tests.system.faults.tasks"


def failure_of(site, task_id):
    status, result = site.result_of(task_id)
    return status, result and result["exc_type"]


def all_is_done(site, worker):
    wait_for(lambda: len(site.in_state("SUCCESS")) == LOAD, site.report, 180)
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete()
    assert worker.running


def test_tasks_that_hang(site):
    """The soft limit ends those that listen, the hard one the others. The rest goes on."""
    worker = site.worker()
    calls = [[f"{TASKS}.{name}", [stubborn], {}] for name in ("hang", "hang_late")
             for stubborn in (False, True)]  # fmt: skip
    site.send(0, LOAD)
    ids = site.call(*calls)
    all_is_done(site, worker)
    site.wait_for_all_calls_to_end()
    assert [failure_of(site, task_id) for task_id in ids] == [
        ("FAILURE", "SoftTimeLimitExceeded"),
        ("FAILURE", "TimeLimitExceeded"),
    ] * 2
    wait_for(lambda: not site.redis.client().hlen("unacked"), "the last acknowledgement")
    assert site.end() == []


def test_messages_that_no_worker_understands(site):
    """The worker says so, and goes on with the others.

    A task that does not exist, and one that does not take these arguments, are FAILURE. What is not
    JSON is never read, says PENDING for ever, and is found by `find_stale_tasks`.
    """
    site.send(0, HALF).wait(120)
    unknown, wrong, pickled = site.call(
        ["no.such.task", [1], {}],
        [f"{TASKS}.early", [], {}],
        [f"{TASKS}.early", [LOAD], {"serializer": "pickle"}],
    )
    client = site.redis.client()
    message = json.loads(client.lindex("celery", -1))
    broken = {**message, "body": "bm8gSlNPTg=="}  # base64 of «no JSON», which it says that it is
    nameless = {**message, "headers": {}}
    for number, made_up in enumerate((broken, nameless)):
        made_up["properties"] = {**message["properties"], "delivery_tag": f"made-up-{number}"}
        client.rpush("celery", json.dumps(made_up))
    site.send(HALF, LOAD)
    worker = site.worker()
    site.wait_for_calls_that_have_not_ended(1)
    all_is_done(site, worker)
    assert failure_of(site, unknown) == ("FAILURE", "NotRegistered")
    assert failure_of(site, wrong) == ("FAILURE", "TypeError")
    assert "Received unregistered task of type 'no.such.task'" in worker.output
    assert "Refusing to deserialize untrusted content of type pickle" in worker.output
    assert "Can't decode message body" in worker.output
    assert "Received and deleted unknown message" in worker.output
    stale = site.manage("find_stale_tasks", "--seconds", "1")
    assert f"{pickled}\t" in stale.output
    assert "Stale calls: 1" in stale.output
    assert site.end() == []


def test_garbage_that_no_celery_has_sent(site):
    """Written into the queue by hand, it ends the worker of Celery 5.7.0: «Unrecoverable error».

    What runs is finished first, the garbage is gone, and the worker that Supervisor starts next
    goes on. Nothing is lost.
    """
    worker = site.worker("-c", "3")  # one is free, and takes the garbage
    site.send(0, LOAD, *HELD)
    site.wait_for_the_middle_of(*HELD)
    site.redis.client().rpush("celery", "no JSON")
    worker.wait_for_output("Unrecoverable error", 60)
    assert worker.running
    site.let_go()
    assert worker.wait(60) == 1
    assert site.in_the_middle()
    worker = site.worker()
    all_is_done(site, worker)
    assert site.end() == []
