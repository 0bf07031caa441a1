"""Results with a real worker: chords of every shape, messages that come twice, odd values."""

import json
import uuid

import pytest
from celery import chain, chord, current_app, group
from celery.exceptions import ChordError
from celery.result import AsyncResult
from django_celery_results.models import ChordCounter, TaskResult
from kombu.exceptions import EncodeError

from blog.celery import square
from posts.tasks.basics import add
from tests.services import wait_for
from tests.tasks import total

from .backend_tasks import as_it_is, fail, gives, quiet

BACKEND = "tasklog.backends:DatabaseBackend"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", autouse=True)
def worker(start_once):
    """A worker that stores results with tasklog, as this process does."""
    app = current_app._get_current_object()
    before = app.conf.result_backend

    def use(name):
        app.conf.result_backend = name
        app._backend_cache = None
        vars(app._local).pop("backend", None)

    use(BACKEND)
    include = "tests.tasks,tests.tasklog.backend_tasks"
    yield start_once.worker("--include", include, env={"CELERY_RESULT_BACKEND": BACKEND})
    use(before)


A = as_it_is
SHAPES = {
    "plain": (chord([A.s(1), A.s(2)], A.s()), [1, 2]),
    "one member": (chord([A.s(5)], A.s()), [5]),
    "no member": (chord([], A.s()), []),
    "generator": (chord((A.s(n) for n in range(3)), A.s()), [0, 1, 2]),
    "groups": (chord([group(A.s(1), A.s(2)), group(A.s(3))], A.s()), [1, 2, 3]),
    "chain": (chord([A.s(1), chain(A.s(2), A.s())], A.s()), [1, 2]),
    "chain that ends in a group": (
        chord([A.s(1), chain(A.s(2), group(A.s(), A.s()))], A.s()),
        [1, [2, 2]],
    ),
    "groups in groups": (
        chord([chain(A.s(1), group(A.s(), chain(A.s(), group(A.s(), A.s()))))], A.s()),
        [[1, [1, 1]]],
    ),
    "chord": (chord([A.s(1), chord([A.s(2), A.s(3)], A.s())], A.s()), [1, [2, 3]]),
    "chord whose body is a group": (
        chord([A.s(1), chord([A.s(2)], group(A.s(), A.s()))], A.s()),
        [1, [[2], [2]]],
    ),
    "body is a group": (chord([A.s(1), A.s(2)], group(A.s(), A.s())), [[1, 2], [1, 2]]),
    "a member ignores its result": (chord([A.s(1), quiet.s(2)], A.s()), [1, 2]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_chords(shape):
    """What may stand in a header. With the stock backend five of these wait for ever."""
    signature, expected = SHAPES[shape]
    signature = (
        signature() if callable(signature) and not hasattr(signature, "delay") else signature
    )
    found = signature.delay().get(timeout=30)
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert not ChordCounter.objects.exists()


FAILING = {
    "task": fail.s("no"),
    "chain": chain(fail.s("no"), A.s()),
    "chord": chord([fail.s("no")], A.s()),
    "chord whose body is a group": chord([fail.s("no")], group(A.s(), A.s())),
}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_a_failed_member_fails_the_body(failing):
    """R11: wherever it is. With Celery's own backends the outer of two chords waits for ever."""
    body = chord([A.s(1), failing], A.s()).delay()
    wait_for(lambda: AsyncResult(body.id).ready(), "the end of the body")
    assert isinstance(body.result, ChordError)
    assert "Dependency" in str(body.result)
    assert "ValueError('no')" in str(body.result)
    assert not ChordCounter.objects.exists()


def test_a_large_chord():
    assert chord(square.s(n) for n in range(300))(total.s()).get(timeout=60) == sum(
        n * n for n in range(300)
    )


@pytest.fixture
def queue(redis_server):
    """The raw messages of a queue that the worker leaves alone until ``queue.release()``."""
    client, control = redis_server.client(), current_app.control

    class Queue:
        def messages(self):
            return [json.loads(raw) for raw in client.lrange("celery", 0, -1)]

        def deliver_again(self, message):
            message["properties"]["delivery_tag"] = str(uuid.uuid4())
            client.rpush("celery", json.dumps(message))  # the next to be taken

        def release(self):
            control.add_consumer("celery", reply=True)

    wait_for(lambda: control.cancel_consumer("celery", reply=True), "the worker's answer")
    yield Queue()
    control.add_consumer("celery", reply=True)


def test_messages_that_are_delivered_twice(queue):
    """The body of a chord runs once, with the results of all."""
    body = chord(as_it_is.s(n) for n in range(5))(total.s().set(link=as_it_is.s()))
    first, *more = queue.messages()
    for message in (first, more[0], more[1], first):
        queue.deliver_again(message)
    assert len(queue.messages()) == 9
    queue.release()
    assert body.get(timeout=30) == 10
    as_it_is.delay("after the others").get(timeout=30)
    assert TaskResult.objects.filter(task_name=total.name, status="SUCCESS").count() == 1
    wait_for(lambda: TaskResult.objects.filter(task_name=as_it_is.name, result="10"), "the link")
    assert TaskResult.objects.filter(task_name=as_it_is.name, result="10").count() == 1
    assert not ChordCounter.objects.exists()


def test_a_failure_with_odd_characters():
    """The worker goes on."""
    message = "nul \x00, emoji 😀, lone surrogate \ud800"
    result = fail.delay(message)
    with pytest.raises(ValueError, match="nul") as error:
        result.get(timeout=30)
    assert error.value.args == (message,)
    assert "backend_tasks.py" in result.traceback
    assert add.delay(1, 2, seconds=0).get(timeout=30) == 3


@pytest.mark.parametrize("what", ["set", "object", "endless"])
def test_a_value_that_json_cannot_carry(what):
    """It is a failure that says so, and the worker goes on."""
    result = gives.delay(what)
    with pytest.raises(EncodeError, match=r"backend_tasks\.gives gave a .* json cannot carry"):
        result.get(timeout=30)
    assert result.name == "tests.tasklog.backend_tasks.gives"
    assert add.delay(1, 2, seconds=0).get(timeout=30) == 3


def test_ten_megabytes():
    assert len(gives.delay("much").get(timeout=60)) == 10_000_000


def test_who_ran_what():
    """R3."""
    result = add.delay(2, 3, seconds=0)
    assert result.get(timeout=30) == 5
    assert (result.name, result.args) == (add.name, "(2, 3)")
    assert result.worker.startswith("test")
    row = TaskResult.objects.get(task_id=result.id)
    assert row.date_started <= row.date_done
    assert row.date_done == result.date_done
