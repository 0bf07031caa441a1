"""Who gets the newsletter and who does not, with a real mail server."""

import importlib
import smtplib
from datetime import timedelta

import pytest
from celery import current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.mail.backends import locmem
from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from posts import mailing, newsletter, signals
from posts.models import Delivery, Newsletter, Post, Subscriber
from posts.tasks import newsletter as tasks
from posts.tasks.publishing import publish_due_posts
from tests.smtp import MailServer

ADA, JOAN, GRACE = "ada@example.org", "joan@example.org", "grace@example.org"


@pytest.fixture
def mail_server(settings):
    server = MailServer().start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_TIMEOUT = 5
    yield server
    server.stop()


@pytest.fixture
def subscribe(db):
    """Make confirmed subscribers: ``subscribe("ada@example.org")`` returns them."""

    def make(*emails, **fields):
        fields.setdefault("confirmed_at", timezone.now() - timedelta(days=1))
        return [Subscriber.objects.create(email=email, **fields) for email in emails]

    return make


@pytest.fixture
def letter(make_post):
    """The newsletter of a published post."""
    return newsletter.promise(make_post("Good <news> & more", slug="news"))


def deliver(letter):
    """Send to all who are waiting. Returns (sent, refused, uncertain, number of waiting)."""
    ids = [pk for batch in newsletter.batches(letter) for pk in batch]
    outcome = newsletter.deliver(letter.pk, ids)
    return outcome.sent, outcome.refused, outcome.uncertain, len(outcome.waiting)


def statuses():
    return dict(Delivery.objects.values_list("subscriber__email", "status"))


# --- One batch ------------------------------------------------------------------------------------


def test_each_gets_one_mail_over_one_connection(mail_server, subscribe, letter):
    subscribe(ADA, JOAN, GRACE)
    assert deliver(letter) == (3, 0, 0, 0)
    assert mail_server.recipients == [ADA, JOAN, GRACE]
    assert mail_server.connections == 1
    assert newsletter.finish(letter.pk) == "3 sent, 0 refused"


def test_what_is_in_the_mail(mail_server, subscribe, letter, settings, client):
    settings.SITE_URL = "https://blog.example.org"
    (ada,) = subscribe(ADA)
    deliver(letter)
    (mail,) = mail_server.mails
    text = mail.get_content().replace("\r\n", "\n")
    assert mail["Subject"] == "Good <news> & more"
    assert "Good <news> & more\nby Ada, " in text
    assert "The text of Good & more." in text
    assert "https://blog.example.org/posts/news/" in text
    link = mail["List-Unsubscribe"].strip(" <>")
    assert link in text
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Message-ID"] == f"<newsletter-{letter.pk}-{ada.pk}@blog.example.org>"
    client.post(link.removeprefix("https://blog.example.org"))
    ada.refresh_from_db()
    assert ada.unsubscribed_at


def test_only_those_who_confirmed_before_it_was_promised_and_stayed(mail_server, subscribe, letter):
    subscribe(ADA)
    subscribe("unconfirmed@example.org", confirmed_at=None)
    subscribe("gone@example.org", unsubscribed_at=timezone.now())
    subscribe("late@example.org", confirmed_at=timezone.now() + timedelta(seconds=1))
    assert deliver(letter) == (1, 0, 0, 0)
    assert mail_server.recipients == [ADA]


def test_a_second_batch_at_the_same_time_sends_nothing_twice(
    mail_server, subscribe, letter, monkeypatch
):
    """While the first batch sends its first mail, a second one runs from start to end."""
    ids = [subscriber.pk for subscriber in subscribe(ADA, JOAN, GRACE)]
    send, others = mailing.Mailer.send, []

    def send_while_another_runs(self, message):
        if not others:
            others.append(None)
            others[0] = newsletter.deliver(letter.pk, ids)
        send(self, message)

    monkeypatch.setattr(mailing.Mailer, "send", send_while_another_runs)
    outcome = newsletter.deliver(letter.pk, ids)
    assert (others[0].sent, outcome.sent) == (2, 1)
    assert sorted(mail_server.recipients) == [ADA, GRACE, JOAN]


def test_a_second_run_sends_nothing(mail_server, subscribe, letter):
    subscribe(ADA)
    assert [deliver(letter)[0] for _ in range(2)] == [1, 0]
    assert len(mail_server.mails) == 1


def test_the_database_refuses_a_second_claim(subscribe, letter):
    (ada,) = subscribe(ADA)
    Delivery.objects.create(newsletter=letter, subscriber=ada)
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.create(newsletter=letter, subscriber=ada)


def test_who_unsubscribes_after_the_batches_were_made_gets_nothing(mail_server, subscribe, letter):
    ada, joan = subscribe(ADA, JOAN)
    Subscriber.objects.filter(pk=ada.pk).update(unsubscribed_at=timezone.now())
    assert newsletter.deliver(letter.pk, [ada.pk, joan.pk]).sent == 1
    assert mail_server.recipients == [JOAN]


def test_a_post_that_was_taken_back_stops_the_batches(mail_server, subscribe, letter):
    subscribe(ADA)
    Post.objects.update(status=Post.Status.DRAFT)
    assert deliver(letter) == (0, 0, 0, 0)
    assert not mail_server.mails
    newsletter.finish(letter.pk)
    letter.refresh_from_db()
    assert letter.finished_at is None


def test_a_post_that_was_taken_back_is_not_finished_without_readers(letter):
    """They may be there when it comes out again."""
    Post.objects.update(status=Post.Status.DRAFT)
    newsletter.finish(letter.pk)
    assert Newsletter.objects.get().finished_at is None


def test_an_unknown_recipient_is_refused_for_good(mail_server, subscribe, letter):
    subscribe(ADA, JOAN, GRACE)
    mail_server.answers[JOAN] = "550 no such user"
    assert deliver(letter) == (2, 1, 0, 0)
    assert deliver(letter) == (0, 0, 0, 0)
    assert mail_server.tries.count(JOAN) == 1
    assert Delivery.objects.get(status="refused").reason == "550 no such user"
    assert newsletter.finish(letter.pk) == "2 sent, 1 refused"


def test_a_mail_that_is_refused_as_a_whole(mail_server, subscribe, letter):
    subscribe(ADA, JOAN)
    mail_server.answers[ADA] = "data 554 looks like spam"
    assert deliver(letter) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    "answer", ["451 try later", "421 too busy", "data 452 mailbox full", "hang up"]
)
def test_what_the_server_has_not_taken_is_sent_at_the_next_try(
    mail_server, subscribe, letter, answer
):
    subscribe(ADA, JOAN, GRACE)
    mail_server.answers[JOAN] = [answer]
    assert deliver(letter) == (2, 0, 0, 1)
    assert statuses() == {ADA: "sent", GRACE: "sent"}
    assert newsletter.finish(letter.pk) == "2 sent, 0 refused, 1 waiting"
    assert deliver(letter) == (1, 0, 0, 0)
    assert mail_server.recipients == [ADA, GRACE, JOAN]


def test_a_mail_that_may_be_out_is_not_sent_again(mail_server, subscribe, letter):
    """The connection breaks when the server has the mail: nobody knows, so the claim stays."""
    subscribe(ADA, JOAN)
    mail_server.answers[ADA] = ["hang up after"]
    assert deliver(letter) == (1, 0, 1, 0)
    assert deliver(letter) == (0, 0, 0, 0)
    assert statuses() == {ADA: "claimed", JOAN: "sent"}
    assert mail_server.recipients.count(ADA) == 1
    assert "SMTPServerDisconnected" in Delivery.objects.get(status="claimed").reason
    assert newsletter.finish(letter.pk) == "1 sent, 0 refused, 1 uncertain"


def test_a_server_that_falls_silent_with_the_mail_in_its_hands(
    mail_server, subscribe, letter, settings
):
    settings.EMAIL_TIMEOUT = 2
    subscribe(ADA, JOAN)
    mail_server.answers[ADA] = "hold"
    assert deliver(letter) == (1, 0, 1, 0)
    assert "timed out" in Delivery.objects.get(status="claimed").reason


def test_without_a_mail_server_nobody_is_claimed(mail_server, subscribe, letter, monkeypatch):
    subscribe(ADA, JOAN)
    mail_server.stop()
    with monkeypatch.context() as patch:
        patch.setattr(Delivery.objects, "get_or_create", None)  # Not even for a moment.
        assert deliver(letter) == (0, 0, 0, 2)
    mail_server.start()
    assert deliver(letter) == (2, 0, 0, 0)


def test_a_server_that_takes_nothing_from_this_site_refuses_no_recipient(
    mail_server, subscribe, letter
):
    """5xx to the sender is a mistake in the site's settings, and not in the address."""
    subscribe(ADA)
    mail_server.sender_answer = "530 log in first"
    assert deliver(letter) == (0, 0, 0, 1)
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    "address",
    ["a@example.org\nBcc: victim@example.org", "", "ä@example.org", "no address", "a@" + "ü" * 70],
    ids=["header injection", "empty", "not ASCII", "no address", "no host name"],
)
def test_a_poisoned_recipient_does_not_stop_the_rest(mail_server, subscribe, letter, address):
    subscribe(ADA, address, GRACE)
    sent, refused, uncertain, waiting = deliver(letter)
    assert (uncertain, waiting) == (0, 0)
    assert mail_server.recipients[0] == ADA
    assert mail_server.recipients[-1] == GRACE
    assert "victim@example.org" not in mail_server.tries
    assert sent + refused == 3
    assert len(statuses()) == 3


def test_a_header_injection_is_refused_with_its_reason(mail_server, subscribe, letter):
    subscribe("a@example.org\nBcc: victim@example.org")
    deliver(letter)
    assert "BadHeaderError" in Delivery.objects.get(status="refused").reason


def test_a_time_limit_says_nothing_of_the_recipient(subscribe, letter, monkeypatch):
    """It may come in the middle of a mail, so the claim stays, and the batch ends."""
    subscribe(ADA)

    def hit_the_limit(self, messages):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(locmem.EmailBackend, "send_messages", hit_the_limit)
    with pytest.raises(SoftTimeLimitExceeded):
        deliver(letter)
    assert statuses() == {ADA: "claimed"}


def test_a_mistake_in_the_template_blames_no_recipient(mail_server, subscribe, letter, monkeypatch):
    subscribe(ADA)

    def fail(*args):
        raise LookupError("no template")

    monkeypatch.setattr(newsletter, "render_to_string", fail)
    with pytest.raises(LookupError):
        deliver(letter)
    assert not Delivery.objects.exists()


def test_a_slow_server_leaves_the_rest_to_the_next_try(mail_server, subscribe, letter, monkeypatch):
    subscribe(ADA, JOAN)
    monkeypatch.setattr(newsletter, "BATCH_SECONDS", 0)
    assert deliver(letter) == (0, 0, 0, 2)
    assert not Delivery.objects.exists()


def test_the_other_backends_work_too(subscribe, letter, mailoutbox):
    subscribe(ADA)
    assert deliver(letter) == (1, 0, 0, 0)
    assert mailoutbox[0].to == [ADA]


def test_an_error_of_another_backend_counts_as_maybe_sent(subscribe, letter, monkeypatch):
    subscribe(ADA)

    def break_off(self, messages):
        raise smtplib.SMTPServerDisconnected("gone")

    monkeypatch.setattr(locmem.EmailBackend, "send_messages", break_off)
    assert deliver(letter) == (0, 0, 1, 0)


# --- The tasks ------------------------------------------------------------------------------------


def test_batches_hold_at_most_fifty(subscribe, letter):
    subscribe(*(f"{n}@example.org" for n in range(120)))
    assert [len(batch) for batch in newsletter.batches(letter)] == [50, 50, 20]


def test_no_subscriber_is_a_summary_at_once(letter):
    assert tasks.send_newsletter(post_id=letter.post_id) == "0 sent, 0 refused"
    letter.refresh_from_db()
    assert letter.finished_at


@pytest.mark.parametrize("status", ["draft", "scheduled"])
def test_a_post_that_is_not_published_is_not_mailed(make_post, subscribe, status):
    subscribe(ADA)
    post = make_post(status=status)
    assert tasks.send_newsletter(post_id=post.pk) == "The post is not published."
    assert not Newsletter.objects.exists()


def test_a_finished_newsletter_says_how_it_went(letter, subscribe):
    Newsletter.objects.update(finished_at=timezone.now(), summary="9 sent, 0 refused")
    subscribe(ADA)
    assert tasks.send_newsletter(post_id=letter.post_id) == "9 sent, 0 refused"


def test_large_numbers_are_readable(letter, subscribe):
    people = [Subscriber(email=f"{n}@example.org") for n in range(1250)]
    people = Subscriber.objects.bulk_create(people)
    Delivery.objects.bulk_create(
        Delivery(newsletter=letter, subscriber=person, status="refused" if n < 2 else "sent")
        for n, person in enumerate(people)
    )
    assert newsletter.finish(letter.pk) == "1,248 sent, 2 refused"


def test_a_post_that_is_gone_has_no_summary(db):
    assert newsletter.finish(1) == "The post is gone."


def test_a_batch_ends_when_its_tries_are_over_and_says_who_is_left(mail_server, subscribe, letter):
    (ada,) = subscribe(ADA)
    mail_server.stop()
    task = tasks.send_batch
    task.push_request(retries=task.max_retries)
    try:
        counts = task.run(newsletter_id=letter.pk, subscriber_ids=[ada.pk])
    finally:
        task.pop_request()
    assert counts == {"sent": 0, "refused": 0, "uncertain": 0, "waiting": 1}


@pytest.mark.parametrize("name", ["send_newsletter", "send_batch", "finish_newsletter"])
def test_who_may_run_twice_is_acknowledged_late(name):
    assert getattr(tasks, name).acks_late


def test_the_pauses_are_shorter_than_the_visibility_timeout():
    timeout = current_app.conf.broker_transport_options["visibility_timeout"]
    assert timeout > 60  # send_batch: at most a minute
    longest = tasks.send_confirmation.retry_backoff * 2**tasks.send_confirmation.max_retries
    assert longest < timeout
    assert current_app.conf.task_soft_time_limit > newsletter.BATCH_SECONDS


# --- Publishing promises it -----------------------------------------------------------------------


@pytest.fixture
def no_analysis(monkeypatch):
    """Saved posts send no task of their own: there is no broker in these tests."""
    monkeypatch.setattr(signals.analyse_post, "delay", lambda pk: None)


@pytest.fixture
def sent(monkeypatch, no_analysis):
    """The posts whose newsletter was given to the broker."""
    ids = []
    monkeypatch.setattr(tasks.send_newsletter, "delay", lambda post_id: ids.append(post_id))
    return ids


@pytest.fixture
def broker_down(monkeypatch, no_analysis):
    def fail(**kwargs):
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.send_newsletter, "delay", fail)


def test_the_sweep_mails_what_it_publishes_after_the_commit(
    make_post, sent, django_capture_on_commit_callbacks
):
    due = make_post("due", status="scheduled")
    make_post("later", status="scheduled", days=1)
    make_post("out")
    with django_capture_on_commit_callbacks() as callbacks:
        publish_due_posts()
    assert not sent
    for callback in callbacks:
        callback()
    assert sent == [due.pk]
    assert Newsletter.objects.get().queued_at


def test_a_second_sweep_mails_nothing(make_post, sent, django_capture_on_commit_callbacks):
    make_post(status="scheduled")
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            publish_due_posts()
    assert len(sent) == 1


def test_moving_or_cancelling_the_date(make_post, sent, django_capture_on_commit_callbacks):
    moved, cancelled = (make_post(name, status="scheduled") for name in ("moved", "cancelled"))
    moved.schedule(timezone.now() + timedelta(hours=1))
    moved.save()
    cancelled.unpublish()
    cancelled.save()
    with django_capture_on_commit_callbacks(execute=True):
        assert publish_due_posts() == 0
    assert not sent
    moved.schedule(timezone.now() - timedelta(minutes=1))
    moved.save()
    with django_capture_on_commit_callbacks(execute=True):
        assert publish_due_posts() == 1
    assert sent == [moved.pk]


def click(writer, post, action, **fields):
    return writer.post(f"/write/{post.pk}/{action}/", fields)


def test_a_click_mails_once_and_not_again_after_unpublishing(
    writer, make_post, sent, django_capture_on_commit_callbacks
):
    post = make_post(status="draft")
    with django_capture_on_commit_callbacks(execute=True):
        click(writer, post, "publish")
    assert sent == [post.pk]
    newsletter.finish(Newsletter.objects.get().pk)
    with django_capture_on_commit_callbacks(execute=True):
        click(writer, post, "publish")
        click(writer, post, "unpublish")
        click(writer, post, "publish")
    assert sent == [post.pk]


@pytest.mark.parametrize(
    ("status", "action"),
    [("draft", "schedule"), ("scheduled", "unpublish"), ("published", "publish")],
)
def test_a_click_that_publishes_nothing_mails_nothing(
    writer, make_post, sent, django_capture_on_commit_callbacks, status, action
):
    post = make_post(status=status)
    with django_capture_on_commit_callbacks(execute=True):
        assert click(writer, post, action, publish_at="2100-01-01T09:00").status_code == 302
    assert not sent
    assert not Newsletter.objects.exists()


def test_what_was_taken_back_before_it_was_mailed_is_mailed_when_it_comes_out(
    writer, make_post, subscribe, sent, django_capture_on_commit_callbacks
):
    post = make_post(status="draft")
    with django_capture_on_commit_callbacks(execute=True):
        click(writer, post, "publish")
    click(writer, post, "unpublish")
    assert not Newsletter.objects.waiting().exists()
    with django_capture_on_commit_callbacks(execute=True):
        click(writer, post, "publish")
    assert sent == [post.pk, post.pk]


def test_the_admin_mails_what_it_publishes(
    admin_client, make_post, sent, django_capture_on_commit_callbacks
):
    post = make_post(status="draft")
    date, clock = timezone.now().strftime("%Y-%m-%d %H:%M:%S").split()
    fields = {
        "title": post.title, "slug": post.slug, "body": "Text", "author": post.author.pk,
        "status": "published", "published_at_0": date, "published_at_1": clock,
        "analysis-TOTAL_FORMS": 0, "analysis-INITIAL_FORMS": 0,
    }  # fmt: skip
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            response = admin_client.post(f"/admin/posts/post/{post.pk}/change/", fields)
            assert response.status_code == 302, response.context["errors"]
    assert sent == [post.pk]


def test_an_edit_of_a_public_post_mails_nothing(
    writer, make_post, sent, django_capture_on_commit_callbacks
):
    post = make_post()
    with django_capture_on_commit_callbacks(execute=True):
        writer.post(f"/write/{post.pk}/", {"title": "New", "body": "New"})
    assert not sent
    assert not Newsletter.objects.exists()


def test_a_rollback_takes_the_promise_along(make_post, sent, django_capture_on_commit_callbacks):
    post = make_post(status="draft")
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        post.publish()
        post.save()
        tasks.announce(post)
        transaction.set_rollback(True)
    assert not Newsletter.objects.exists()
    assert not sent


def test_with_the_broker_down_the_post_comes_out_and_the_sweep_mails_it_later(
    writer, make_post, broker_down, sent_later, django_capture_on_commit_callbacks
):
    post = make_post(status="draft")
    with django_capture_on_commit_callbacks(execute=True):
        assert click(writer, post, "publish").status_code == 302
    assert Post.objects.get().status == "published"
    sent = sent_later()
    publish_due_posts()
    assert not sent  # For a minute the one who published it may be at it himself.
    Newsletter.objects.update(promised_at=timezone.now() - timedelta(seconds=61))
    publish_due_posts()
    publish_due_posts()
    assert sent == [post.pk]


@pytest.fixture
def sent_later(monkeypatch):
    """Bring the broker back: returns the list of what is sent from then on."""

    def bring_back():
        ids = []
        monkeypatch.setattr(tasks.send_newsletter, "delay", lambda post_id: ids.append(post_id))
        return ids

    return bring_back


@pytest.mark.parametrize(
    ("fields", "again"),
    [
        ({"queued_at": timedelta(minutes=61)}, True),
        ({"queued_at": timedelta(minutes=59)}, False),
        ({"queued_at": timedelta(minutes=61), "finished_at": timedelta(0)}, False),
        ({"queued_at": timedelta(hours=2), "promised_at": timedelta(hours=47)}, True),
        ({"queued_at": timedelta(hours=2), "promised_at": timedelta(hours=49)}, False),
    ],
)
def test_an_unfinished_newsletter_goes_on_each_hour_for_two_days(letter, sent, fields, again):
    now = timezone.now()
    Newsletter.objects.update(**{name: now - ago for name, ago in fields.items()})
    publish_due_posts()
    assert bool(sent) == again


def test_a_newsletter_whose_post_was_taken_back_waits(letter, sent):
    Newsletter.objects.update(queued_at=timezone.now() - timedelta(hours=2))
    Post.objects.update(status=Post.Status.DRAFT)
    publish_due_posts()
    assert not sent


def test_posts_from_before_the_newsletter_are_never_mailed(make_post, subscribe, sent, writer,
    django_capture_on_commit_callbacks):  # fmt: skip
    post = make_post()
    draft = make_post("draft", status="draft")
    module = "posts.migrations.0005_posts_from_before_the_newsletter"
    importlib.import_module(module).mark_published_posts(apps, None)
    subscribe(ADA)
    with django_capture_on_commit_callbacks(execute=True):
        click(writer, post, "unpublish")
        click(writer, post, "publish")
        click(writer, draft, "publish")
    assert sent == [draft.pk]


# --- Staff can see and repeat ---------------------------------------------------------------------


def test_the_admin_lists_claimed_deliveries_and_sends_them_again(
    admin_client, letter, subscribe, sent, django_capture_on_commit_callbacks
):
    ada, joan = subscribe(ADA, JOAN)
    stuck = Delivery.objects.create(newsletter=letter, subscriber=ada)
    done = Delivery.objects.create(newsletter=letter, subscriber=joan, status="sent")
    newsletter.finish(letter.pk)
    page = admin_client.get("/admin/posts/delivery/?status__exact=claimed").content.decode()
    assert ADA in page
    assert JOAN not in page
    fields = {"action": "send_again", "_selected_action": [stuck.pk, done.pk]}
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post("/admin/posts/delivery/", fields)
    assert statuses() == {JOAN: "sent"}
    assert sent == [letter.post_id]
    assert list(newsletter.audience(Newsletter.objects.get())) == [ada]


def test_sending_again_is_for_those_who_may_delete(writer, author, letter, subscribe, sent):
    (ada,) = subscribe(ADA)
    stuck = Delivery.objects.create(newsletter=letter, subscriber=ada)
    author.user_permissions.add(Permission.objects.get(codename="view_delivery"))
    page = writer.get("/admin/posts/delivery/").content.decode()
    assert ADA in page
    assert "Send again" not in page
    fields = {"action": "send_again", "_selected_action": [stuck.pk]}
    writer.post("/admin/posts/delivery/", fields)
    assert statuses() == {ADA: "claimed"}
