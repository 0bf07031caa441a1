"""Subscribing to the newsletter and leaving it. Knows nothing of Celery.

Double opt-in: an address gets mail only after its owner has opened a signed link and pressed a
button. The links carry the subscriber's number and a signature made with SECRET_KEY, no more.
"""

import logging
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMessage
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from .mailing import Mailer, MaybeSent, NotTaken, Refused
from .models import Subscriber

logger = logging.getLogger(__name__)

CONFIRM_WITHIN = timedelta(days=3)
CONFIRM_AGAIN_AFTER = timedelta(minutes=10)  # One address gets no more confirmation mails.

CONFIRM = signing.TimestampSigner(salt="posts.newsletter.confirm")
UNSUBSCRIBE = signing.Signer(salt="posts.newsletter.unsubscribe")  # In old mails too: for ever.


def subscriber_of(email):
    """Return the subscriber with an address, however it is written; made when there is none.

    Args:
        email (str): a valid address.
    """
    return Subscriber.objects.get_or_create(email__iexact=email, defaults={"email": email})[0]


def send_confirmation(subscriber_id):
    """Mail the link that confirms an address.

    Nothing is sent to those who get the newsletter already, nor twice within ten minutes: somebody
    else may have typed the address.

    Args:
        subscriber_id (int): primary key of the subscriber.

    Returns:
        bool: whether a mail went out.

    Raises:
        NotTaken: the mail server is away. Call it again.
    """
    now = timezone.now()
    subscriber = Subscriber.objects.filter(pk=subscriber_id).first()
    lately = Q(confirmation_sent_at__gt=now - CONFIRM_AGAIN_AFTER)
    mine = Subscriber.objects.filter(pk=subscriber_id).exclude(lately)
    active = Subscriber.objects.active().filter(pk=subscriber_id)
    if active.exists() or not mine.update(confirmation_sent_at=now):
        return False
    context = {"link": link("posts:newsletter_confirm", CONFIRM, subscriber)}
    message = EmailMessage(
        subject="Later: please confirm your address",
        body=render_to_string("posts/mail/confirm.txt", context),
        to=[subscriber.email],
    )
    try:
        with Mailer() as mailer:
            mailer.send(message)
    except (Refused, MaybeSent) as error:
        logger.warning("The confirmation for subscriber %s: %s", subscriber_id, error)
        return False
    except NotTaken:
        before = subscriber.confirmation_sent_at
        Subscriber.objects.filter(pk=subscriber_id).update(confirmation_sent_at=before)
        raise
    return True


def confirm(token):
    """Let the newsletter go to the subscriber of a confirmation link.

    Args:
        token (str): what stands in the link.

    Raises:
        django.core.signing.BadSignature: the link is broken, too old, or of somebody who is gone.
    """
    subscribers = of_token(CONFIRM, token, max_age=CONFIRM_WITHIN)
    if not subscribers.exists():
        raise signing.BadSignature("The subscriber is gone.")
    inactive = Q(confirmed_at=None) | Q(unsubscribed_at__isnull=False)
    subscribers.filter(inactive).update(confirmed_at=timezone.now(), unsubscribed_at=None)


def unsubscribe(token):
    """Send nothing more to the subscriber of an unsubscribe link. Doing it twice is fine.

    Args:
        token (str): what stands in the link.

    Raises:
        django.core.signing.BadSignature: the link is broken.
    """
    subscribers = of_token(UNSUBSCRIBE, token).filter(unsubscribed_at=None)
    subscribers.update(unsubscribed_at=timezone.now())


def remove_unconfirmed():
    """Delete addresses that nobody has confirmed and nobody can confirm any more.

    Returns:
        int: how many.
    """
    oldest = timezone.now() - CONFIRM_WITHIN
    unconfirmed = Subscriber.objects.filter(confirmed_at=None, created_at__lt=oldest)
    return unconfirmed.exclude(confirmation_sent_at__gt=oldest).delete()[0]


def link(name, signer, subscriber):
    """Return the address of one subscriber's page, to be put into a mail."""
    return settings.SITE_URL + reverse(name, args=[signer.sign(subscriber.pk)])


def of_token(signer, token, **options):
    """Return the subscriber of a token, as a query set.

    Raises:
        django.core.signing.BadSignature: it is broken or too old.
    """
    return Subscriber.objects.filter(pk=signer.unsign(token, **options))
