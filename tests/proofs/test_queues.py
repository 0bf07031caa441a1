"""Which queue a call goes to, and who takes it from there."""

import pytest
from celery import current_app
from celery.exceptions import QueueNotFound

from blog.celery import square
from posts.tasks.basics import add
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue(redis_server):
    """How many messages wait in a queue of an empty broker: ``queue("slow")``."""
    client = redis_server.client()
    client.flushdb()
    yield client.llen
    client.flushdb()


@pytest.mark.proves("CELERY_TASK_QUEUES", without='[Queue("celery"), Queue("slow")]')
def test_task_queues_each_with_an_exchange_of_its_own(queue):
    """Without exchange and routing key, a message for the exchange and key «celery», which is how
    other programs name the queue, goes to both queues and runs twice."""
    with current_app.connection_for_write() as connection:
        for each in current_app.amqp.queues.values():
            each.bind(connection).declare()
    square.apply_async([1], exchange="celery", routing_key="celery")
    assert (queue("celery"), queue("slow")) == (1, 0)


@pytest.mark.proves("CELERY_TASK_QUEUES", fails="QueueNotFound")
def test_task_queues(start):
    """Without it, a worker without `-Q` does not know of «slow», and neither does a call."""
    start.worker()
    result = square.apply_async([3], queue="slow")
    wait_for(result.ready, "the result from the queue «slow»")


@pytest.mark.proves("CELERY_TASK_CREATE_MISSING_QUEUES")
def test_task_create_missing_queues(queue):
    """Without it, a call to a misspelt queue waits for ever in a queue that nobody serves."""
    with pytest.raises(QueueNotFound, match="slwo"):
        square.apply_async([1], queue="slwo")


@pytest.mark.proves("CELERY_TASK_ROUTES")
def test_task_routes(queue):
    """Without it, exports and imports go to the queue of the short tasks, and hold them up."""
    # One for each entry of the table.
    slow = ("export.export_blog", "feeds.import_feed", "images.make_thumbnails")
    for number, name in enumerate((*slow, "newsletter.send_batch"), 1):
        assert f"posts.tasks.{name}" in current_app.tasks
        current_app.send_task(f"posts.tasks.{name}", [1])
        assert (queue("celery"), queue("slow")) == (0, number), name
    add.delay(1, 2)
    assert (queue("celery"), queue("slow")) == (1, 4)


@pytest.mark.proves("CELERY_WORKER_DISABLE_PREFETCH")
def test_worker_disable_prefetch(start):
    """Without it, a busy worker holds tasks that an idle one could do, and they are stranded for a
    visibility timeout when Redis restarts."""
    busy = start.worker("-c", "1", "-n", "busy@here")
    add.delay(1, 2, seconds=60)
    busy.wait_for_output("add[")
    waiting = square.delay(3)
    # Two answers later it would have taken the second message.
    for _ in range(2):
        assert current_app.control.ping(["busy@here"], timeout=5, limit=1)
    start.worker("-c", "1", "-n", "idle@here")
    wait_for(waiting.ready, "the idle worker to do it")
    for process in start.started:
        process.stop(9)
