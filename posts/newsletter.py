"""The newsletter: who gets it, what is in it, and who has had it. Knows nothing of Celery.

Double opt-in: an address gets mail only after its owner has opened a signed link and pressed a
button. The links carry the subscriber's number and a signature made with SECRET_KEY, no more.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMessage
from django.db.models import Count, Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from .analysis import analyse
from .mailing import INVALID, Mailer, MaybeSent, NotTaken, Refused
from .models import Delivery, Newsletter, Post, Subscriber

logger = logging.getLogger(__name__)

CONFIRM_WITHIN = timedelta(days=3)
CONFIRM_AGAIN_AFTER = timedelta(minutes=10)  # One address gets no more confirmation mails.
BATCH_SIZE = 50
# Seconds that a batch goes on beginning mails. The rest is for its next try, so that a mail server
# which answers slowly never brings it near the time limit.
BATCH_SECONDS = 120

CONFIRM = signing.TimestampSigner(salt="posts.newsletter.confirm")
UNSUBSCRIBE = signing.Signer(salt="posts.newsletter.unsubscribe")  # In old mails too: for ever.


# --- Subscribing ----------------------------------------------------------------------------------


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


# --- Sending --------------------------------------------------------------------------------------


def promise(post):
    """Make sure that a post which has just been published is mailed, once and for all.

    Call it in the transaction that publishes. A post that comes out a second time has its
    newsletter already, unless it was taken back before that was finished.

    Args:
        post (Post): a published post.

    Returns:
        Newsletter | None: what has to be sent after the commit, None when it has been.
    """
    newsletter, created = Newsletter.objects.get_or_create(post=post)
    if newsletter.finished_at:
        return None
    if not created:
        newsletter.promised_at, newsletter.queued_at = timezone.now(), None
        newsletter.save(update_fields=["promised_at", "queued_at"])
    return newsletter


def audience(newsletter):
    """Return the subscribers who should have a newsletter and have not.

    Those who had confirmed when it was promised: later ones read the post on the site.
    """
    return (
        Subscriber.objects.active()
        .filter(confirmed_at__lte=newsletter.promised_at)
        .exclude(delivery__newsletter=newsletter)
        .order_by("pk")
    )


def batches(newsletter):
    """Return the primary keys of the audience in lists of at most BATCH_SIZE."""
    ids = list(audience(newsletter).values_list("pk", flat=True))
    return [ids[first : first + BATCH_SIZE] for first in range(0, len(ids), BATCH_SIZE)]


@dataclass
class Outcome:
    """What became of a batch. ``waiting`` may get the newsletter at the next try."""

    sent: int = 0
    refused: int = 0
    uncertain: int = 0
    waiting: list[int] = field(default_factory=list)


def deliver(newsletter_id, subscriber_ids):
    """Mail a newsletter to some subscribers, over one connection.

    Each is claimed by a row before the mail goes out, so none gets two, whatever runs at the same
    time or again. The claim is given back when the server has certainly not taken the mail. It
    stays, as «claimed», when nobody can know: the connection broke after the mail was handed over,
    or the process was killed between claim and answer. One mail too few is better than two.

    Args:
        newsletter_id (int): primary key of the newsletter.
        subscriber_ids (list[int]): primary keys of subscribers. Who has unsubscribed meanwhile, or
            has the newsletter, is passed over.

    Returns:
        Outcome: what became of them.
    """
    outcome = Outcome()
    newsletter = published(newsletter_id)
    if newsletter is None:
        return outcome
    write = letter(newsletter)
    stop_at = time.monotonic() + BATCH_SECONDS
    subscribers = list(audience(newsletter).filter(pk__in=subscriber_ids))
    with Mailer() as mailer:
        for number, subscriber in enumerate(subscribers):
            try:
                mailer.open()  # With no server nobody is claimed.
            except NotTaken as error:
                logger.warning("%s: %s", newsletter, error)
                stop_at = 0
            if time.monotonic() > stop_at:
                outcome.waiting += [left.pk for left in subscribers[number:]]
                break
            claim, created = Delivery.objects.get_or_create(
                newsletter=newsletter, subscriber=subscriber
            )
            if created:
                deliver_one(mailer, claim, write, outcome)
    return outcome


def deliver_one(mailer, claim, write, outcome):
    """Mail to one subscriber who has been claimed, and note what became of it.

    Args:
        mailer (Mailer): an open connection.
        claim (Delivery): the row. Updated, or deleted when the mail has to be sent again.
        write (Callable[[Subscriber], EmailMessage]): makes the mail.
        outcome (Outcome): where to count.
    """
    try:
        mailer.send(write(claim.subscriber))
        claim.status = Delivery.Status.SENT
        outcome.sent += 1
    except NotTaken as error:
        logger.info("%s: %s", claim, error)
        claim.delete()
        outcome.waiting.append(claim.subscriber_id)
        return
    except MaybeSent as error:
        claim.reason = str(error)
        outcome.uncertain += 1
    except (Refused, *INVALID) as error:  # The latter: no mail can be made for this address.
        claim.status, claim.reason = Delivery.Status.REFUSED, str(error) or repr(error)
        outcome.refused += 1
    claim.reason = claim.reason[: Delivery._meta.get_field("reason").max_length]
    claim.save(update_fields=["status", "reason"])


def finish(newsletter_id):
    """Write what became of a newsletter on its row.

    Counted from the deliveries, not from what batches say: those may have run twice, or died.

    Args:
        newsletter_id (int): primary key of the newsletter.

    Returns:
        str: such as «1,248 sent, 2 refused».
    """
    newsletter = Newsletter.objects.select_related("post").filter(pk=newsletter_id).first()
    if newsletter is None:
        return "The post is gone."
    deliveries = Delivery.objects.filter(newsletter=newsletter).values_list("status")
    count = Counter(dict(deliveries.annotate(Count("pk"))))
    waiting = audience(newsletter).count()
    newsletter.summary = f"{count['sent']:,} sent, {count['refused']:,} refused"
    if count["claimed"]:
        newsletter.summary += f", {count['claimed']:,} uncertain"
    if waiting:
        newsletter.summary += f", {waiting:,} waiting"
    elif newsletter.post.status == Post.Status.PUBLISHED:
        newsletter.finished_at = timezone.now()
    newsletter.save(update_fields=["summary", "finished_at"])
    return newsletter.summary


def published(newsletter_id):
    """Return a newsletter whose post is public, or None: it may have been taken back."""
    newsletters = Newsletter.objects.select_related("post__author")
    return newsletters.filter(pk=newsletter_id, post__status=Post.Status.PUBLISHED).first()


def letter(newsletter):
    """Return a function that writes the newsletter to one subscriber.

    What is the same for all is made once; a mistake in it stops the batch here, before anybody is
    claimed, instead of making each recipient look bad.

    Args:
        newsletter (Newsletter): with its post.

    Returns:
        Callable[[Subscriber], EmailMessage]: the mail has the headers for one-click unsubscribing
        (RFC 8058), which big providers ask of bulk mail. They trust them in mails with a DKIM
        signature, which is the mail server's part.
    """
    post = newsletter.post
    context = {"post": post, "summary": analyse(post.body).summary, "site_url": settings.SITE_URL}
    host = urlsplit(settings.SITE_URL).hostname

    def write(subscriber):
        stop = link("posts:newsletter_unsubscribe", UNSUBSCRIBE, subscriber)
        return EmailMessage(
            subject=" ".join(post.title.split()),
            body=render_to_string("posts/mail/newsletter.txt", {**context, "unsubscribe": stop}),
            to=[subscriber.email],
            headers={
                "List-Unsubscribe": f"<{stop}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                # The same whenever it is sent: mailboxes show a second copy once.
                "Message-ID": f"<newsletter-{newsletter.pk}-{subscriber.pk}@{host}>",
            },
        )

    write(Subscriber(pk=0, email="nobody@example.org")).message()
    return write
