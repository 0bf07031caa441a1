"""Tasks that beat sends at night and once a week."""

import time
from datetime import timedelta

from celery import shared_task
from celery.utils.log import get_task_logger
from django.conf import settings
from django.utils import timezone

from ..digest import send_digest, this_monday
from ..models import Export

logger = get_task_logger(__name__)

LEFT_BEHIND_AFTER = 60 * 60  # seconds; much longer than an export may take


@shared_task
def remove_old_exports():
    """Delete exports that are older than EXPORT_KEEP_DAYS, and files that no export names.

    First the rows, then the files: a page never offers a file that is gone. A file without a row
    is what a run left that was killed between the two, or the `.partial-*` file of a killed export;
    it has to be an hour old, so that a running export keeps its own. Safe to run twice, and from
    two beats at once: what is gone is gone. Queue «celery», the default time limits.

    Returns:
        dict: ``{"exports": rows deleted, "files": files deleted}``.

    Raises:
        OSError: a file cannot be deleted. The next run tries again.
    """
    oldest = timezone.now() - timedelta(days=settings.EXPORT_KEEP_DAYS)
    exports, _ = Export.objects.filter(created_at__lt=oldest).delete()
    named = set(Export.objects.values_list("file", flat=True))
    files = 0
    for path in settings.EXPORT_ROOT.glob("*.zip"):  # `.partial-*.zip` too
        if path.name not in named and age(path) > LEFT_BEHIND_AFTER:
            path.unlink(missing_ok=True)
            files += 1
    if exports or files:
        logger.info("Removed %d exports, %d files.", exports, files)
    return {"exports": exports, "files": files}


def age(path):
    """Return the seconds since a file was written; 0 when it is gone by now."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0


@shared_task(autoretry_for=(OSError,), retry_backoff=60, max_retries=3)
def send_weekly_digest():
    """Mail the posts of the last week to the staff, see `posts.digest.send_digest`.

    Safe to run twice, and from two beats at once: each recipient is claimed in the database before
    the mail goes out, once for each week. A week that was missed is in the next mail. Queue
    «celery», the default time limits. With a mail server that is away it is tried again after 1, 2
    and 4 minutes at most, which is less than the visibility timeout.

    Returns:
        dict: ``{"sent": mails, "refused": mails}``.

    Raises:
        OSError: the mail server was away each time.
    """
    return send_digest(this_monday())
