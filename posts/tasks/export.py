"""The slow form: work too long for a request, with progress, cancel and a file at the end."""

import time

from celery import shared_task
from django.conf import settings

from ..exports import write_export
from ..models import Export
from .cancelling import CancellableTask


@shared_task(bind=True, base=CancellableTask, soft_time_limit=2 * 60, time_limit=150)
def export_blog(self, owner_id):
    """Write all posts into an archive and tell how far it is.

    Safe to run twice: the archive has one place, and a second run replaces it with an equal one.
    Acknowledged early all the same: whoever asked can ask again. Queue `slow`, limits 2 minutes
    (soft) and 150 s (hard). While it runs, its state is PROGRESS and its info
    ``{"done": posts, "total": posts}``. May be cancelled at any time: Celery's SIGTERM is a
    SystemExit in here, and `write_export` then removes what is half-written. What a killed process
    leaves is for `remove_old_exports`.

    Args:
        owner_id (int): primary key of the user who may download it.

    Returns:
        dict: ``{"posts": number written, "bytes": size of the archive}``.

    Raises:
        OSError: the archive cannot be written.
        SoftTimeLimitExceeded: it took too long; nothing is left behind.
    """

    def report(done, total):
        self.update_state(state="PROGRESS", meta={"done": done, "total": total})
        if done:
            time.sleep(settings.EXPORT_SECONDS / total)

    # The task's id is the name: no two exports share one.
    path = settings.EXPORT_ROOT / f"{self.request.id}.zip"
    posts = write_export(path, report)
    Export.objects.update_or_create(
        task_id=self.request.id, defaults={"owner_id": owner_id, "file": path.name}
    )
    return {"posts": posts, "bytes": path.stat().st_size}
