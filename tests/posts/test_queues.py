"""The figures of the queues: with a real Redis, without workers."""

from datetime import timedelta

import pytest
from celery import current_app
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu import Connection
from prometheus_client.parser import text_string_to_metric_families

from posts import queues
from posts.queues import read_figures
from posts.tasks.basics import add
from tests.services import free_port

from .helpers import text_of


@pytest.fixture
def broker(redis_server, monkeypatch, transactional_db):
    """An empty broker without workers, so that a ping need not wait."""
    monkeypatch.setattr(queues, "PING_TIMEOUT", 0.01)
    client = redis_server.client()
    client.flushdb()
    return client


def use_broker(url, monkeypatch):
    monkeypatch.setattr(current_app, "connection_for_write", lambda **options: Connection(url))
    # A pool that is made now would keep this address.
    monkeypatch.setattr(current_app, "_pool", None)
    monkeypatch.setattr(current_app.amqp, "_producer_pool", None)


@pytest.fixture
def no_broker(monkeypatch):
    use_broker(f"redis://127.0.0.1:{free_port()}/0", monkeypatch)


@pytest.fixture
def long_ago(monkeypatch):
    """Let messages be sent a number of seconds ago: ``long_ago(60)``; ``long_ago(0)`` is now."""
    now = queues.time.time

    def shift(seconds):
        monkeypatch.setattr(queues.time, "time", lambda: now() - seconds)

    return shift


def send(queue="celery", **options):
    return add.apply_async((1, 2), queue=queue, **options)


def by_name(figures):
    return {queue.name: queue for queue in figures.queues}


def samples_of(response):
    """Return what a scrape says: {(name, label values): value}."""
    families = text_string_to_metric_families(response.content.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_lengths_by_queue_and_priority_and_nothing_is_taken(broker, db):
    for options in ({}, {"priority": 9}, {"queue": "slow"}):
        send(**options)
    for _ in range(2):
        found = by_name(read_figures())
        assert {name: queue.length for name, queue in found.items()} == {"celery": 2, "slow": 1}


def test_the_oldest_message_counts(broker, db, long_ago):
    for seconds in (300, 90, 10):
        long_ago(seconds)
        send()
    long_ago(0)
    found = by_name(read_figures())
    assert found["celery"].waiting == pytest.approx(300, abs=5)
    assert found["slow"].waiting is None


def test_the_oldest_message_of_all_priorities_counts(broker, db, long_ago):
    long_ago(70)
    send(priority=9)
    long_ago(0)
    send(priority=0)
    assert by_name(read_figures())["celery"].waiting == pytest.approx(70, abs=5)


def test_a_message_of_somebody_else_has_an_unknown_age(broker, db):
    with current_app.connection_for_write() as connection:
        connection.SimpleQueue(current_app.amqp.queues["celery"]).put("a message")
    queue = by_name(read_figures())["celery"]
    assert (queue.length, queue.waiting) == (1, None)


def test_what_workers_hold_is_counted(broker, db):
    send()
    send()
    with current_app.connection_for_read() as connection:
        queue = connection.SimpleQueue(current_app.amqp.queues["celery"])
        message = queue.get(timeout=5)
        figures = read_figures()
        assert (figures.unacked, by_name(figures)["celery"].length) == (1, 1)
        message.ack()
        assert read_figures().unacked == 0


def test_a_broker_that_lets_nobody_look_gives_lengths_alone(db, monkeypatch):
    """As RabbitMQ: a queue is asked for its length, and one that nobody has made is empty."""
    monkeypatch.setattr(queues, "PING_TIMEOUT", 0.01)
    use_broker("memory://", monkeypatch)
    with Connection("memory://") as connection:
        simple = connection.SimpleQueue("slow")
        simple.put("a message")
        simple.put("another")
        figures = read_figures()
        simple.clear()
    lengths = {name: queue.length for name, queue in by_name(figures).items()}
    assert lengths == {"celery": 0, "slow": 2}
    assert by_name(figures)["slow"].waiting is None
    assert figures.unacked is None


def make_result(status, hours=0, **fields):
    row = TaskResult.objects.create(task_id=f"{status}-{hours}", status=status, **fields)
    moment = timezone.now() - timedelta(hours=hours)
    TaskResult.objects.filter(pk=row.pk).update(date_done=moment, date_created=moment)


def test_results_of_the_last_day_by_state(broker, db):
    for status, hours in (("SUCCESS", 1), ("SUCCESS", 23), ("SUCCESS", 25), ("FAILURE", 2)):
        make_result(status, hours)
    assert read_figures().results == {
        "STARTED": 0, "PROGRESS": 0, "RETRY": 0, "SUCCESS": 2, "FAILURE": 1, "REVOKED": 0,
    }  # fmt: skip


def test_the_longest_running_task(broker, db):
    """One that reports progress runs too; one that has ended does not."""
    now = timezone.now()
    for minutes, status in ((1, "STARTED"), (5, "PROGRESS"), (9, "SUCCESS")):
        started = now - timedelta(minutes=minutes)
        make_result(status, minutes, task_name=f"posts.tasks.{status}", date_started=started)
    figures = read_figures()
    assert figures.oldest_task == "PROGRESS"
    assert figures.oldest_started == now - timedelta(minutes=5)


def test_results_elsewhere_are_unknown(broker, db, writer, monkeypatch):
    monkeypatch.setattr(queues, "DatabaseBackend", type("Another", (), {}))
    make_result("SUCCESS")
    assert read_figures().results is None
    assert "Unknown: results are not in the database" in text_of(writer.get("/tasks/queues/"))


def test_two_queries_whatever_there_is(broker, db, django_assert_num_queries):
    for hours in range(5):
        make_result("SUCCESS", hours)
    with django_assert_num_queries(2):
        read_figures()


def test_the_page(broker, writer):
    send()
    page = text_of(writer.get("/tasks/queues/"))
    assert "<html" in page
    assert 'hx-get="/tasks/queues/"' in page
    assert "No worker answers." in page
    assert "No beat answers." in page
    assert '<td class="number" data-label="Length">1</td>' in page
    assert 'href="/tasks/queues/"' in text_of(writer.get("/tasks/"))


def test_htmx_gets_the_part_that_changes(broker, writer):
    response = writer.get("/tasks/queues/", headers={"HX-Request": "true"})
    assert text_of(response).startswith('<div id="queues"')
    assert "no-store" in response.headers["Cache-Control"]


def test_the_page_says_that_the_broker_is_away_and_keeps_its_rows(no_broker, writer):
    page = text_of(writer.get("/tasks/queues/"))
    assert "The broker does not answer." in page
    assert page.count('data-label="Length">unknown</td>') == 2
    assert "No worker answers." not in page


def test_the_page_is_for_staff(client, reader):
    assert reader.get("/tasks/queues/").status_code == 403
    reader.logout()
    assert reader.get("/tasks/queues/").url == "/accounts/login/?next=/tasks/queues/"


def test_metrics(broker, writer, long_ago):
    long_ago(60)
    send("slow")
    long_ago(0)
    make_result("STARTED", date_started=timezone.now() - timedelta(minutes=2))
    response = writer.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert "no-store" in response.headers["Cache-Control"]
    samples = samples_of(response)
    assert samples.pop(("celery_oldest_waiting_seconds", "slow")) == pytest.approx(60, abs=5)
    assert samples.pop(("celery_oldest_started_seconds",)) == pytest.approx(120, abs=5)
    states = {"STARTED": 1, "PROGRESS": 0, "RETRY": 0, "SUCCESS": 0, "FAILURE": 0, "REVOKED": 0}
    assert samples == {
        ("celery_broker_up",): 1,
        ("celery_queue_length", "celery"): 0,
        ("celery_queue_length", "slow"): 1,
        ("celery_unacked_messages",): 0,
        ("celery_workers",): 0,
        ("celery_beats",): 0,
        **{("celery_results", state): number for state, number in states.items()},
    }


def test_metrics_leave_out_what_is_unknown(no_broker, writer):
    samples = samples_of(writer.get("/metrics"))
    assert samples[("celery_broker_up",)] == 0
    names = {name for name, *_ in samples}
    assert names == {"celery_broker_up", "celery_results"}


@pytest.mark.parametrize(
    ("token", "header", "status"),
    [
        ("a-token", "Bearer a-token", 200),
        ("a-token", "Bearer another", 403),
        ("a-token", "Bearer ", 403),
        ("a-token", "a-token", 403),
        ("a-token", None, 403),
        ("", "Bearer ", 403),
        ("", "", 403),
    ],
)
def test_metrics_for_whoever_knows_the_token(
    client, no_broker, db, settings, token, header, status
):
    settings.METRICS_TOKEN = token
    headers = {} if header is None else {"Authorization": header}
    response = client.get("/metrics", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert "METRICS_TOKEN" in text_of(response)
        assert "celery_" not in text_of(response)


def test_metrics_are_for_staff_and_not_for_every_account(reader, no_broker):
    assert reader.get("/metrics").status_code == 403
