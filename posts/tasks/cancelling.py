"""A base for tasks that stay cancelled, whatever happens to the workers."""

from celery.contrib.django.task import DjangoTask
from celery.exceptions import Ignore

from ..models import Run


class CancellableTask(DjangoTask):
    """Does not begin when its run was cancelled.

    A revoked task is known to the workers that were there to hear of it, in memory, for three
    hours. A worker that starts later would run it. This asks the database: one query before each
    task, so it is for tasks that people may cancel. It holds for all parts of a run: they carry
    the id of the first as ``root_id``.
    """

    stays_cancelled = True

    def before_start(self, task_id, args, kwargs):
        root_id = self.request.root_id or task_id
        if Run.objects.filter(task_id=root_id, cancelled_at__isnull=False).exists():
            self.backend.mark_as_revoked(task_id, "cancelled", request=self.request)
            raise Ignore
