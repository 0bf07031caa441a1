from datetime import datetime

from celery import states
from django.core.management.base import CommandError
from django.utils import timezone

from tasklog.databases import aliases
from tasklog.management.base import WRONG_USE, CallsCommand
from tasklog.models import TaskCall

FILTERS = {"name": "name", "queue": "queue", "since": "submitted_at__gte",
           "until": "submitted_at__lt"}  # fmt: skip


def time(text):
    """Return the aware datetime of an argument: ISO 8601, a day alone is its first moment."""
    when = datetime.fromisoformat(text)
    return timezone.make_aware(when) if timezone.is_naive(when) else when


class Command(CallsCommand):
    help = (
        "Call tasks again, each with its arguments and options under a new id: those whose ids "
        "are given, or those that the filters find. The filters leave out what was retried before, "
        "so a run that was cut off can be repeated. Exit status: 0 done, 1 some were refused or "
        "the broker is away, 2 the arguments are wrong."
    )

    def add_arguments(self, parser):
        parser.add_argument("ids", nargs="*", metavar="ID", help="Task ids, whatever their state.")
        which = parser.add_argument_group("filters", "All of them apply. The oldest come first.")
        which.add_argument("--name", metavar="TASK", help="The task's full name.")
        which.add_argument("--queue", help="The queue it was sent to.")
        which.add_argument(
            "--state",
            action="append",
            type=str.upper,
            help="FAILURE if none is given. Can be given several times.",
        )
        which.add_argument("--since", type=time, help="Called then or later: 2026-01-31T18:30.")
        which.add_argument("--until", type=time, help="Called before that.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--yes", action="store_true", help="With filters: really do it.")
        self.add_json_argument(parser)

    def handle(self, *, ids, state, yes, dry_run, **options):
        """Retry them. For each a line: the old id, the new one or why it was refused, the task.

        Raises:
            CommandError: some were refused, the broker is away, or the arguments are wrong.
        """
        filters = {lookup: options[name] for name, lookup in FILTERS.items() if options[name]}
        filtered = bool(filters or state)
        if bool(ids) == filtered:
            text = (
                "Name calls by their ids, or choose them with --name, --queue, --state, --since "
                "and --until, not both. --state FAILURE alone finds all failures."
            )
            raise CommandError(text, returncode=WRONG_USE)
        ids = list(dict.fromkeys(ids)) or find(filters, state or [states.FAILURE])
        if filtered and ids and not (yes or dry_run):
            text = f"{len(ids)} calls would be retried. See --dry-run, then add --yes."
            raise CommandError(text, returncode=WRONG_USE)
        done = refused = 0
        try:
            for task_id in ids:
                call = get(task_id)
                new, reason = self.retry(call, dry_run)
                done, refused = done + (not reason), refused + bool(reason)
                outcome = {"id": task_id, "retried_as": new, "refused": reason}
                self.line({**outcome, "task": call and call.name}, options["json"])
        finally:
            word = "would be retried" if dry_run else "retried"
            self.summary(f"{done} {word}, {refused} refused.")
        if refused:
            raise CommandError(f"Refused: {refused}")

    def retry(self, call, dry_run):
        """Retry a call. Returns its new id or None, and why it was refused or None."""
        if call is None:
            return None, "there is no such call"
        if dry_run:
            return None, None if call.replayable else "its arguments are hidden"
        return self.attempt(lambda: call.retry().id)


def find(filters, wanted):
    """Return the task ids of the calls that were not retried yet, the oldest first."""
    found = []
    for alias in aliases():
        calls = TaskCall.objects.using(alias).filter(**filters, retries=None).in_state(*wanted)
        found += calls.order_by("pk").values_list("task_id", flat=True)
    return found


def get(task_id):
    """Return a call, in whichever database it is, or None."""
    found = (TaskCall.objects.using(alias).filter(task_id=task_id).first() for alias in aliases())
    return next(filter(None, found), None)
