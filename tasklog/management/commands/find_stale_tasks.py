from django.core.management.base import CommandError

from tasklog.databases import aliases
from tasklog.management.base import FOUND, CallsCommand
from tasklog.models import TaskCall


class Command(CallsCommand):
    help = (
        "List the calls that have not ended, and of which nothing was heard for a long time: id, "
        "task, state, and since when. Exit status: 0 there are none, 1 there are some, 2 the "
        "arguments are wrong."
    )

    def add_arguments(self, parser):
        self.add_age_arguments(parser, "How long they have been silent.")
        parser.add_argument(
            "--terminal-state",
            action="append",
            type=str.upper,
            default=[],
            metavar="STATE",
            help="A state which is fine, however long it lasts. Can be given several times.",
        )
        self.add_json_argument(parser)

    def handle(self, **options):
        """List them, the one that has been silent for longest first.

        Raises:
            CommandError: there are some, or no age was given.
        """
        age, number = self.age(options), 0
        for alias in aliases():
            calls = TaskCall.objects.using(alias).stale(age, options["terminal_state"])
            for call in calls.select_related("result").without_messages().iterator():
                number += 1
                found = {"id": call.task_id, "task": call.name, "state": call.status}
                self.line({**found, "since": call.heard_at}, options["json"])
        if number:
            raise CommandError(f"Stale calls: {number}", returncode=FOUND)
