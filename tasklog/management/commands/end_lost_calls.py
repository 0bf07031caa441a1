from datetime import timedelta

from celery import current_app

from tasklog.lost import GRACE, end_lost_calls
from tasklog.management.base import CallsCommand, CommandError


class Command(CallsCommand):
    help = (
        "End the calls that were running in a worker which was killed: their time limit passed "
        "long ago. They become FAILURE, with WorkerLostError. Exit status: 0 there were none, "
        "1 there were some, 2 the arguments are wrong."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--grace",
            type=float,
            default=GRACE.total_seconds(),
            metavar="SECONDS",
            help="How long past the time limit. Default: %(default).0f.",
        )
        self.add_json_argument(parser)

    def handle(self, *, grace, **options):
        """End them.

        Raises:
            CommandError: there were some.
        """
        # A worker knows all tasks. Here nobody may have imported those of CELERY_INCLUDE yet.
        current_app.loader.import_default_modules()
        ended = end_lost_calls(timedelta(seconds=grace))
        for call in ended:
            known = {"id": call.task_id, "task": call.name, "worker": call.result.worker}
            self.line({**known, "heard_at": call.result.date_done}, options["json"])
        if ended:
            raise CommandError(f"Lost calls, now FAILURE: {len(ended)}")
