import sys
from itertools import groupby
from operator import itemgetter

from celery import states
from django.core.management.base import CommandError
from django.db import DatabaseError
from kombu.exceptions import OperationalError

from tasklog.databases import aliases
from tasklog.management.base import FOUND, WRONG_USE, CallsCommand, moment, positive
from tasklog.models import TaskCall

BATCH = 500  # calls in memory


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
        which.add_argument("--since", type=moment, metavar="TIME", help="Called then or later.")
        which.add_argument("--until", type=moment, metavar="TIME", help="Called before that.")
        parser.add_argument(
            "--again", action="store_true", help="With filters: also what was retried before."
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="N at most.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
        parser.add_argument("--yes", action="store_true", help="With filters: do not ask.")
        self.add_json_argument(parser)

    def handle(self, *, ids, yes, dry_run, **options):
        """Retry them. For each a line: the old id, the new one or why it was refused, the task.

        Raises:
            CommandError: some were refused, the broker is away, or the arguments are wrong.
        """
        filtered = any(options[name] for name in ("name", "queue", "state", "since", "until"))
        if bool(ids) == filtered:
            raise CommandError(
                "Name calls by their ids, or choose them with --name, --queue, --state, --since "
                "and --until, not both. --state FAILURE alone finds all failures.",
                returncode=WRONG_USE,
            )
        found = self.by_id(ids) if ids else self.by_filter(**options)
        found = found[: options["limit"]]
        if filtered and found and not (yes or dry_run):
            self.confirm(len(found))
        done = refused = 0
        for alias, pks in batches(found):
            calls = TaskCall.objects.using(alias).in_bulk(pks) if alias else {}
            for pk in pks:
                call = calls.get(pk)
                new, reason = self.retry(call, dry_run, done)
                done += not reason
                refused += bool(reason)
                outcome = {"id": call.task_id if call else pk, "retried_as": new}
                outcome |= {"refused": reason, "task": call.name if call else None}
                self.line(outcome, options["json"])
        self.summary(f"{done} {'would be retried' if dry_run else 'retried'}, {refused} refused.")
        if refused:
            raise CommandError(f"Refused: {refused}", returncode=FOUND)

    def by_id(self, ids):
        """Return [(database, pk)] in the order given; (None, id) where there is no such call."""
        found = {}
        for alias in aliases():
            rows = TaskCall.objects.using(alias).filter(task_id__in=ids)
            found |= {task_id: (alias, pk) for task_id, pk in rows.values_list("task_id", "pk")}
        return [found.get(task_id, (None, task_id)) for task_id in dict.fromkeys(ids)]

    def by_filter(self, *, name, queue, state, since, until, again, limit, **options):
        """Return [(database, pk)], the oldest first."""
        wanted = {"name": name, "queue": queue, "submitted_at__gte": since}
        wanted = {field: value for field, value in wanted.items() if value is not None}
        if until:
            wanted["submitted_at__lt"] = until
        found = []
        for alias in aliases():
            calls = TaskCall.objects.using(alias).filter(**wanted)
            calls = calls.in_state(*(state or [states.FAILURE])).order_by("pk")
            if not again:
                calls = calls.filter(retries=None)
            found += [(alias, pk) for pk in calls.values_list("pk", flat=True)[:limit]]
        return found

    def confirm(self, number):
        """Ask whether so many are to be retried; where nobody can answer, refuse."""
        if not sys.stdin.isatty():
            raise CommandError(
                f"{number} calls would be retried. Look at them with --dry-run, then add --yes.",
                returncode=WRONG_USE,
            )
        if input(f"Retry {number} calls? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was retried.", returncode=FOUND)

    def retry(self, call, dry_run, done):
        """Retry a call. Returns its new id or None, and why it was refused or None."""
        if call is None:
            return None, "there is no such call"
        if dry_run:
            return None, None if call.replayable else "its arguments are hidden"
        try:
            return call.retry().id, None
        except OperationalError as error:
            raise CommandError(f"The broker is away: {error}. {done} were retried.") from None
        except DatabaseError:
            raise
        except Exception as error:  # hidden arguments, a queue that is gone: the others go on
            return None, f"{type(error).__name__}: {error}"


def batches(found):
    """Yield (database, pks), as many at a time as fit into memory."""
    for alias, group in groupby(found, key=itemgetter(0)):
        pks = [pk for _, pk in group]
        for start in range(0, len(pks), BATCH):
            yield alias, pks[start : start + BATCH]
