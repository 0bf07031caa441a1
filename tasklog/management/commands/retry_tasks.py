from datetime import datetime

from celery import states
from django.core.management.base import CommandError
from django.utils import timezone

from tasklog.databases import tables
from tasklog.management.base import WRONG_USE, CallsCommand


def time(text):
    """Return the aware datetime of an argument in ISO 8601."""
    when = datetime.fromisoformat(text)
    return timezone.make_aware(when) if timezone.is_naive(when) else when


class Command(CallsCommand):
    help = (
        "Call tasks again, under new ids: those given, or those that the filters find, without "
        "what was retried before. A line has the old id, the new one or why not, and the task."
    )

    def add_arguments(self, parser):
        super().add_arguments(parser)
        add = parser.add_argument
        add("ids", nargs="*", metavar="ID", help="Task ids, whatever their state.")
        add("--name", metavar="TASK", help="The task's full name.")
        add("--queue", help="The queue it was sent to.")
        add("--state", action="append", type=str.upper, help="Several, or FAILURE if none.")
        add("--since", dest="submitted_at__gte", type=time, help="2026-01-31T18:30, or later.")
        add("--until", dest="submitted_at__lt", type=time, help="Before that.")
        add("--dry-run", action="store_true", help="Only say what would be done.")
        add("--yes", action="store_true", help="With filters: really do it.")

    def handle(self, *, ids, state, yes, dry_run, **options):
        names = ("name", "queue", "submitted_at__gte", "submitted_at__lt")
        filters = {name: options[name] for name in names if options[name]}
        filtered = bool(filters or state)
        if bool(ids) == filtered:
            text = "Give ids, or filters (--name, --queue, --state, --since, --until), not both."
            raise CommandError(text, returncode=WRONG_USE)
        ids = list(dict.fromkeys(ids)) or [
            task_id
            for calls in tables()
            for task_id in calls.filter(**filters, retries=None)
            .in_state(*(state or [states.FAILURE]))
            .order_by("pk")
            .values_list("task_id", flat=True)
        ]
        if filtered and ids and not (yes or dry_run):
            text = f"{len(ids)} calls would be retried. See --dry-run, then add --yes."
            raise CommandError(text, returncode=WRONG_USE)
        done = refused = 0
        try:
            for task_id in ids:
                found = (calls.filter(task_id=task_id).first() for calls in tables())
                call = next(filter(None, found), None)
                new, reason = self.retry(call, dry_run)
                done, refused = done + (not reason), refused + bool(reason)
                name = call and call.name
                self.line(options, id=task_id, retried_as=new, refused=reason, task=name)
        finally:
            word = "would be retried" if dry_run else "retried"
            self.stderr.write(f"{done} {word}, {refused} refused.", self.style.NOTICE)
        if refused:
            raise CommandError(f"Refused: {refused}")

    def retry(self, call, dry_run):
        """Retry a call. Returns its new id or None, and why it was refused or None."""
        if call is None:
            return None, "there is no such call"
        if dry_run:
            return self.attempt(call.check_replayable)
        return self.attempt(lambda: call.retry().id)
