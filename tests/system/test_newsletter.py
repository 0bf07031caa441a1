"""From a click to mails in mailboxes: web, broker, workers and a mail server."""

import signal
from datetime import timedelta

import psutil
import pytest
from django.utils import timezone
from django_celery_results.models import TaskResult

from posts import newsletter
from posts.models import Delivery, Newsletter, Post, Subscriber
from posts.tasks.newsletter import send_batch, send_newsletter
from posts.tasks.publishing import publish_due_posts
from tests.services import Visitor, free_port, wait_for
from tests.smtp import MailServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def mail_server():
    server = MailServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def worker(start_once, mail_server):
    return start_once.worker(env={"EMAIL_URL": mail_server.url})


@pytest.fixture(autouse=True)
def no_mails(mail_server):
    mail_server.mails.clear()
    mail_server.tries.clear()
    mail_server.answers.clear()


@pytest.fixture
def post(make_posts):
    """A draft."""
    return make_posts(1)[0]


@pytest.fixture
def published(post):
    post.publish()
    Post.objects.filter(pk=post.pk).update(status=post.status, published_at=post.published_at)
    return post


def subscribe(*emails):
    yesterday = timezone.now() - timedelta(days=1)
    people = [Subscriber(email=email, confirmed_at=yesterday) for email in emails]
    return Subscriber.objects.bulk_create(people)


def finished():
    return wait_for(
        lambda: Newsletter.objects.filter(finished_at__isnull=False).first(),
        lambda: (
            f"the newsletter: {Newsletter.objects.values()} {Delivery.objects.values()} "
            f"{TaskResult.objects.values('task_name', 'status', 'result', 'traceback')}"
        ),
    )


def test_from_a_click_to_mails_and_a_summary(worker, web, staff, post, mail_server, monkeypatch):
    """Three batches, one unknown recipient, one who is taken at the second try."""
    emails = [f"reader{n}@example.org" for n in range(2 * newsletter.BATCH_SIZE + 1)]
    subscribe(*emails)
    mail_server.answers[emails[0]] = "550 no such user"
    mail_server.answers[emails[1]] = ["451 later"]
    editor = Visitor(web.url)
    editor.sign_in("editor", "correct horse")
    assert editor.post(f"/write/{post.pk}/publish/").status == 200
    assert finished().summary == "100 sent, 1 refused"
    assert sorted(mail_server.recipients) == sorted(emails[1:])
    assert mail_server.tries.count(emails[1]) == 2


def test_the_summary_is_the_result_and_the_batches_are_in_the_slow_queue(
    worker, published, mail_server
):
    subscribe("ada@example.org")
    result = send_newsletter.delay(post_id=published.pk)
    assert result.get(timeout=30) == "1 sent, 0 refused"
    batch = TaskResult.objects.get(task_name="posts.tasks.newsletter.send_batch")
    assert batch.status == "SUCCESS"


def test_not_more_than_one_batch_a_second_begins(worker, published, mail_server):
    people = subscribe("ada@example.org", "joan@example.org", "grace@example.org")
    letter = Newsletter.objects.create(post=published)
    calls = [
        send_batch.delay(newsletter_id=letter.pk, subscriber_ids=[reader.pk]) for reader in people
    ]
    for call in calls:
        assert call.get(timeout=30)["sent"] == 1
    first, _, last = Delivery.objects.order_by("claimed_at").values_list("claimed_at", flat=True)
    assert last - first > timedelta(seconds=1)  # About two, as far as the machine is even.


def test_a_second_call_and_a_second_sweep_mail_nobody_twice(worker, published, mail_server):
    subscribe("ada@example.org", "joan@example.org")
    results = [send_newsletter.delay(post_id=published.pk) for _ in range(3)]
    for result in results:
        result.get(timeout=30)
    finished()
    assert sorted(mail_server.recipients) == ["ada@example.org", "joan@example.org"]


def test_a_scheduled_post_comes_out_and_is_mailed(worker, post, mail_server):
    subscribe("ada@example.org")
    due = timezone.now() - timedelta(minutes=1)
    Post.objects.update(status="scheduled", published_at=due)
    results = [publish_due_posts.delay() for _ in range(4)]  # Four beats.
    assert sum(result.get(timeout=30) for result in results) == 1
    finished()
    assert mail_server.recipients == ["ada@example.org"]


def test_a_batch_whose_process_is_killed_leaves_a_summary_and_the_rest_waiting(
    worker, published, mail_server
):
    """The chord has failed then, and its error callback counts. An hour later the rest follow."""
    subscribe("ada@example.org", "joan@example.org", "grace@example.org")
    mail_server.answers["joan@example.org"] = "hold"
    result = send_newsletter.delay(post_id=published.pk)
    wait_for(mail_server.holding.is_set, "the mail server to hold a mail")
    (peer,) = [
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.raddr and connection.raddr.port == mail_server.port and connection.pid
    ]
    assert peer in [process.pid for process in worker.family()]
    psutil.Process(peer).send_signal(signal.SIGKILL)
    mail_server.release()
    summary = "1 sent, 0 refused, 1 uncertain, 1 waiting"
    wait_for(
        lambda: Newsletter.objects.get().summary == summary,
        lambda: f"{Newsletter.objects.values()} {worker.output[-3000:]}",
    )
    assert "ChordError" in wait_for(lambda: result.ready() and repr(result.result), "the failure")
    Newsletter.objects.update(queued_at=timezone.now() - timedelta(hours=2))
    publish_due_posts.delay()
    assert finished().summary == "2 sent, 0 refused, 1 uncertain"
    assert "grace@example.org" in mail_server.recipients


def test_with_the_broker_down_nothing_is_lost(worker, start_once, staff, post, mail_server):
    """The post comes out, the promise of its newsletter is in the database, the sweep keeps it."""
    subscribe("ada@example.org")
    web = start_once.web(env={"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"})
    editor = Visitor(web.url)
    editor.sign_in("editor", "correct horse")
    assert editor.post(f"/write/{post.pk}/publish/").status == 200
    web.stop()
    assert Post.objects.get().status == "published"
    earlier = timezone.now() - timedelta(hours=2)  # An hour later it is sent at the latest.
    Newsletter.objects.update(queued_at=earlier)
    publish_due_posts.delay()
    finished()
    assert mail_server.recipients == ["ada@example.org"]


def test_the_confirmation_mail_leaves_from_the_worker(worker, web, mail_server, transactional_db):
    visitor = Visitor(web.url)
    visitor.get("/newsletter/")
    assert "Look into your mailbox" in visitor.post("/newsletter/", email="ada@example.org").text
    wait_for(lambda: mail_server.mails, "the mail")
    assert "/newsletter/confirm/" in mail_server.mails[0].get_content()
