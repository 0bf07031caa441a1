"""Subscribing and leaving: double opt-in, and nobody learns who is a subscriber."""

import importlib
import re
from datetime import timedelta

import pytest
from django.apps import apps
from django.core import mail
from django.core.mail.backends import locmem
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import OperationalError

from posts import subscribing
from posts.mailing import NotTaken
from posts.models import Subscriber
from posts.tasks.newsletter import remove_unconfirmed_subscribers, send_confirmation

from .helpers import text_of

ADA = "ada@example.org"


@pytest.fixture
def work(monkeypatch):
    """Do at once what a worker would do."""
    monkeypatch.setattr(send_confirmation, "delay", send_confirmation.run)


def ask(client, email=ADA):
    return client.post("/newsletter/", {"email": email}, follow=True)


def path_in_mail(number=-1):
    return re.search(r"http://127.0.0.1:8000(/newsletter/\S+)", mail.outbox[number].body)[1]


def is_active(email=ADA):
    return Subscriber.objects.active().filter(email=email).exists()


def test_from_the_footer_to_a_confirmed_address(client, db, work):
    assert 'href="/newsletter/"' in text_of(client.get("/"))
    assert "Subscribe" in text_of(client.get("/newsletter/"))
    assert "Look into your mailbox" in text_of(ask(client))
    assert mail.outbox[0].to == [ADA]
    assert not is_active()
    path = path_in_mail()
    assert "Send me the newsletter" in text_of(client.get(path))
    assert not is_active()  # A program that looks into mails has opened the link.
    assert "Welcome" in text_of(client.post(path))
    assert is_active()


def test_the_answer_is_the_same_for_known_and_unknown_addresses(client, db, work):
    Subscriber.objects.create(email="known@example.org", confirmed_at=timezone.now())
    Subscriber.objects.create(
        email="left@example.org", confirmed_at=timezone.now(), unsubscribed_at=timezone.now()
    )
    emails = ["known@example.org", "left@example.org", "new@example.org", "new@example.org"]
    answers = [ask(client, email) for email in emails]
    assert len({(a.status_code, str(a.redirect_chain), a.content) for a in answers}) == 1
    assert [message.to for message in mail.outbox] == [["left@example.org"], ["new@example.org"]]


@pytest.mark.parametrize("same", ["ada@example.org", "ADA@Example.org", " ada@example.org "])
def test_one_address_is_one_subscriber_and_gets_one_mail_in_ten_minutes(client, db, work, same):
    ask(client, "Ada@example.org")
    ask(client, same)
    assert Subscriber.objects.get().email == "Ada@example.org"
    assert len(mail.outbox) == 1
    Subscriber.objects.update(confirmation_sent_at=timezone.now() - timedelta(minutes=11))
    ask(client, same)
    assert len(mail.outbox) == 2


def test_the_database_refuses_a_second_subscriber_in_other_letters(db):
    Subscriber.objects.create(email=ADA)
    with pytest.raises(IntegrityError), transaction.atomic():
        Subscriber.objects.create(email=ADA.upper())


@pytest.mark.parametrize("email", ["", "ada", "a@b", "a@example.org\nBcc: b@example.org"])
def test_a_wrong_address_is_named_at_its_field(client, db, email):
    page = text_of(ask(client, email))
    named = f"“{email}” is not an e-mail address." if email else "Type the address"
    assert named in page
    assert not Subscriber.objects.exists()


def test_a_broker_that_is_down_is_said_plainly(client, db, monkeypatch):
    def fail(**kwargs):
        raise OperationalError("no broker")

    monkeypatch.setattr(send_confirmation, "delay", fail)
    response = ask(client)
    assert response.status_code == 503
    assert "Please try again in a few minutes" in text_of(response)
    assert ADA in text_of(response)


def test_with_the_mail_server_away_the_mail_can_be_sent_again(db, monkeypatch):
    subscriber = Subscriber.objects.create(email=ADA)

    def refuse(self):
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(locmem.EmailBackend, "open", refuse)
        with pytest.raises(NotTaken):
            subscribing.send_confirmation(subscriber.pk)
    assert subscribing.send_confirmation(subscriber.pk)
    assert len(mail.outbox) == 1
    assert NotTaken in send_confirmation.autoretry_for


def test_a_subscriber_who_is_gone_gets_no_mail(db):
    assert subscribing.send_confirmation(1) is False


def test_a_confirmation_twice_keeps_the_date(client, db, work):
    ask(client)
    client.post(path_in_mail())
    first = Subscriber.objects.get().confirmed_at
    client.post(path_in_mail())
    assert Subscriber.objects.get().confirmed_at == first


def test_whoever_left_can_come_back(client, db, work):
    Subscriber.objects.create(
        email=ADA, confirmed_at=timezone.now(), unsubscribed_at=timezone.now()
    )
    ask(client)
    client.post(path_in_mail())
    assert is_active()


def test_addresses_that_nobody_confirms_are_forgotten(db):
    now = timezone.now()
    for name, days, asked, confirmed in (
        ("never", 4, 4, None),
        ("no mail server", 4, None, None),
        ("asked again", 9, 1, None),
        ("new", 1, 1, None),
        ("confirmed", 9, 9, now),
    ):
        Subscriber.objects.create(
            email=f"{name}@example.org",
            confirmation_sent_at=asked and now - timedelta(days=asked),
            confirmed_at=confirmed,
        )
        Subscriber.objects.filter(email=f"{name}@example.org").update(
            created_at=now - timedelta(days=days)
        )
    assert (remove_unconfirmed_subscribers(), remove_unconfirmed_subscribers()) == (2, 0)
    left = {email.partition("@")[0] for email in Subscriber.objects.values_list("email", flat=True)}
    assert left == {"asked again", "new", "confirmed"}


def test_the_schedule_that_forgets_them(db):
    PeriodicTask.objects.all().delete()
    migration = importlib.import_module("posts.migrations.0007_unconfirmed_subscribers")
    migration.create_schedule(apps, None)
    PeriodicTask.objects.update(enabled=False)
    migration.create_schedule(apps, None)
    schedule = PeriodicTask.objects.get()
    assert schedule.task == remove_unconfirmed_subscribers.name
    assert (schedule.enabled, schedule.expire_seconds) == (False, 12 * 60 * 60)
    schedule.full_clean()


@pytest.fixture
def ada(db):
    return Subscriber.objects.create(email=ADA, confirmed_at=timezone.now())


@pytest.fixture
def stop(ada):
    """The path of Ada's unsubscribe link."""
    link = subscribing.link("posts:newsletter_unsubscribe", subscribing.UNSUBSCRIBE, ada)
    return link.removeprefix("http://127.0.0.1:8000")


def test_one_click_in_the_mail_program(stop):
    """RFC 8058: a POST without cookies, answered without a redirect."""
    stranger = Client(enforce_csrf_checks=True)
    response = stranger.post(stop, {"List-Unsubscribe": "One-Click"})
    assert response.status_code == 200
    assert not is_active()


def test_unsubscribing_by_hand(client, stop):
    assert "Unsubscribe" in text_of(client.get(stop))
    assert is_active()  # Opening the link changes nothing.
    assert "Unsubscribed" in text_of(client.post(stop))
    assert not is_active()
    assert "Unsubscribed" in text_of(client.post(stop))


def test_unsubscribing_after_the_address_was_deleted_is_fine(client, ada, stop):
    ada.delete()
    assert client.post(stop).status_code == 200


def test_links_do_not_work_for_each_other_nor_changed(client, ada, stop, work):
    token = stop.split("/")[-2]
    other = Subscriber.objects.create(email="joan@example.org", confirmed_at=timezone.now())
    forged = token.replace(f"{ada.pk}:", f"{other.pk}:")
    for path in (f"confirm/{token}", f"unsubscribe/{forged}", "unsubscribe/1", "confirm/1:2:3"):
        for method in (client.get, client.post):
            response = method(f"/newsletter/{path}/")
            assert response.status_code == 404
            assert "This link does not work" in text_of(response)
    assert is_active()
    assert is_active("joan@example.org")


def test_a_confirmation_link_expires_and_an_unsubscribe_link_never(client, ada, stop, monkeypatch):
    confirm = subscribing.link("posts:newsletter_confirm", subscribing.CONFIRM, ada)
    confirm = confirm.removeprefix("http://127.0.0.1:8000")
    monkeypatch.setattr(subscribing, "CONFIRM_WITHIN", timedelta(seconds=-1))
    assert client.post(confirm).status_code == 404
    assert subscribing.UNSUBSCRIBE.sign(1) == subscribing.UNSUBSCRIBE.sign(1)  # No time in it.
    assert client.post(stop).status_code == 200


def test_a_confirmation_of_a_subscriber_who_is_gone(client, ada):
    confirm = subscribing.link("posts:newsletter_confirm", subscribing.CONFIRM, ada)
    ada.delete()
    assert client.post(confirm.removeprefix("http://127.0.0.1:8000")).status_code == 404


def test_confirming_needs_the_pages_own_form(ada):
    confirm = subscribing.link("posts:newsletter_confirm", subscribing.CONFIRM, ada)
    stranger = Client(enforce_csrf_checks=True)
    assert stranger.post(confirm.removeprefix("http://127.0.0.1:8000")).status_code == 403
