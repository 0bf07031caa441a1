"""What changes where RabbitMQ is the broker."""

import signal

import pytest
from django_celery_results.models import TaskResult

from blog.celery import square
from tasklog.models import TaskCall
from tests.conftest import need
from tests.services import wait_for

from .rabbitmq import RabbitMQ

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory):
    server = need(lambda: RabbitMQ(tmp_path_factory.mktemp("rabbit") / "mq"))
    yield server.start()
    server.stop()


SEND = """
from blog.celery import square
from posts.tasks.basics import add
{}
print("sent")
"""


@pytest.fixture
def site(rabbitmq, start):
    """Start programs of a site on RabbitMQ: its settings see the address."""
    rabbitmq.empty()
    start.env["CELERY_BROKER_URL"] = rabbitmq.url

    def send(*calls):
        code = SEND.format("\n".join(calls))
        return start("python", "manage.py", "shell", "-v0", "-c", code)

    start.send = send
    yield start
    for process in start.started:
        process.stop(signal.SIGKILL)


@pytest.mark.proves("CELERY_WORKER_PREFETCH_MULTIPLIER")
def test_worker_prefetch_multiplier(site):
    """Without it, a worker on RabbitMQ takes four more messages than it can work on, and those wait
    behind a slow task while other workers are idle. On Redis no worker takes any."""
    busy = site.worker("-c", "1")
    calls = ["add.delay(1, 2, seconds=60)", *[f"square.delay({n})" for n in range(4)]]
    site.send(*calls).wait_for_output("sent")
    busy.wait_for_output("square[")
    site.worker("-c", "1")
    done = TaskResult.objects.filter(task_name=square.name, status="SUCCESS")
    wait_for(lambda: done.count() == 3, lambda: f"three of four, not {done.count()}")


@pytest.mark.proves("CELERY_WORKER_DISABLE_PREFETCH#2")
def test_worker_disable_prefetch(site):
    """Without it, each worker on RabbitMQ starts with a warning."""
    worker = site.worker()
    assert "worker_disable_prefetch is only supported for Redis" not in worker.output


@pytest.mark.proves("CELERY_BROKER_TRANSPORT_OPTIONS.confirm_publish")
def test_confirm_publish(site, rabbitmq):
    """Without it, a call returns before RabbitMQ has the message. What a full queue refuses, or a
    crash loses, is lost without a word."""
    site.send("square.delay(1)").wait_for_output("sent")
    full = '{"max-length": 1, "overflow": "reject-publish"}'
    rabbitmq.ctl("set_policy", "--apply-to", "queues", "full", "^celery$", full)
    site.send("square.delay(2)").wait_for_output("sent")
    rabbitmq.ctl("clear_policy", "full")
    assert TaskCall.objects.unsent().count() == 1, "refused, so it is sent later"


def test_what_is_handed_to_a_process_at_a_stop_runs_once(site, folder):
    """As tests/system/test_warm_shutdown.py shows for Redis."""
    journal = folder / "journal"
    worker = site.worker("-c", "1", "--include", "tests.tasks")
    (pool_process,) = worker.family()[1:]
    pool_process.suspend()
    call = "from tests.tasks import early; early.delay({!r}, {}, 0)"
    site.send(call.format(str(journal), 1)).wait_for_output("sent")
    worker.wait_for_output("received")
    # It answers when it has handed the task over.
    assert site("celery", "-A", "blog", "inspect", "ping", "-t", "5").wait(60) == 0
    worker.popen.terminate()
    worker.wait_for_output("have to accept")
    pool_process.resume()
    assert worker.wait() == 0
    site.send(call.format(str(journal), 2)).wait_for_output("sent")
    site.worker("--include", "tests.tasks")
    wait_for(lambda: "end 2" in journal.read_text(), "the next task")
    assert journal.read_text().count("start 1") == 1
