"""The weekly digest: who gets it, and what is in it. Knows nothing of Celery."""

import logging
from datetime import datetime, time, timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.db.models import Max, Q
from django.template.loader import render_to_string
from django.utils import timezone

from .mailing import Mailer, NotTaken, Refused
from .models import DigestMail, Post

logger = logging.getLogger(__name__)


def this_monday():
    """Return the Monday of this week in the site's time zone, a date."""
    today = timezone.localdate()
    return today - timedelta(days=today.weekday())


def midnight(day):
    """Return the start of a date in the site's time zone, an aware datetime."""
    return timezone.make_aware(datetime.combine(day, time.min))


def send_digest(week):
    """Mail to each member of the staff what has come out since the last mail to them.

    That is: from the Monday of the last digest that they got, or else for one week, until the
    Monday given. Whoever has nothing to read gets no mail. A claim in the database comes before
    each mail: what runs at the same time, or again, finds it taken. It is given back when the
    server does not take the mail; when the connection breaks after that, the mail may be out, and
    one mail too few is better than two.

    Args:
        week (date): a Monday. Posts that came out before it are in.

    Returns:
        dict: ``{"sent": mails, "refused": mails}``.

    Raises:
        OSError: the mail server cannot be reached, hung up, or asks to try later. Send again:
            nobody gets two.
    """
    sent = refused = 0
    later = None
    staff = get_user_model().objects.filter(is_staff=True, is_active=True).exclude(email="")
    staff = staff.annotate(last=Max("digestmail__week", filter=Q(digestmail__week__lt=week)))
    with Mailer() as mailer:
        for recipient in staff.order_by("pk"):
            since = recipient.last or week - timedelta(days=7)
            posts = list(posts_between(since, week))
            if not posts:
                continue
            mailer.open()  # With no server nobody is claimed.
            claim, created = DigestMail.objects.get_or_create(recipient=recipient, week=week)
            if not created:
                continue
            try:
                mailer.send(compose(recipient, posts))
                sent += 1
            except NotTaken as error:
                claim.delete()
                later = error
            except Refused as error:
                claim.delete()
                logger.warning("The digest for %s was refused: %s", recipient, error)
                refused += 1
    if later:
        raise later
    return {"sent": sent, "refused": refused}


def posts_between(since, until):
    """Return the published posts from one date on until before another, oldest first."""
    dates = {"published_at__gte": midnight(since), "published_at__lt": midnight(until)}
    return Post.objects.published().filter(**dates).order_by("published_at", "pk")


def compose(recipient, posts):
    """Return one recipient's mail.

    Args:
        recipient (User): who gets it.
        posts (list[Post]): what is in it, at least one.
    """
    context = {"recipient": recipient, "posts": posts, "site_url": settings.SITE_URL}
    number = "a new post" if len(posts) == 1 else f"{len(posts)} new posts"
    return EmailMessage(
        subject=f"Later: {number}",
        body=render_to_string("posts/mail/digest.txt", context),
        to=[recipient.email],
    )
