from datetime import timedelta

from celery import current_app

from tasklog.lost import GRACE, end_lost_calls
from tasklog.management.base import CallsCommand, CommandError


class Command(CallsCommand):
    help = (
        "End the calls whose worker was killed, when their time limit has passed, as FAILURE with "
        "WorkerLostError."
    )

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument(
            "--grace",
            type=int,
            default=GRACE.seconds,
            metavar="SECONDS",
            help="How long past the time limit. Default: %(default)d.",
        )

    def handle(self, *, grace, **options):
        # As a worker does: nobody may have imported those of CELERY_INCLUDE.
        current_app.loader.import_default_modules()
        ended = end_lost_calls(timedelta(seconds=grace))
        for call in ended:
            about = {"worker": call.result.worker, "heard_at": call.result.date_done}
            self.line(options, id=call.task_id, task=call.name, **about)
        if ended:
            raise CommandError(f"Lost calls, now FAILURE: {len(ended)}")
