from django.core.management.base import CommandError
from kombu.exceptions import OperationalError

from tasklog import dispatcher
from tasklog.management.base import CallsCommand, positive


class Command(CallsCommand):
    help = (
        "Send the calls whose ETA has come, and those that their process left unsent: what the "
        "task tasklog.send_due_calls does, for sites whose schedules are cron's or systemd's. Safe "
        "to run while others do. Exit status: 0 done, 1 the broker is away."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--seconds", type=positive, help="Stop after so long. Default: when nothing is due."
        )

    def handle(self, *, seconds, **options):
        """Send them.

        Raises:
            CommandError: the broker is away.
        """
        try:
            sent = dispatcher.send_due_calls(seconds)
        except OperationalError as error:
            raise CommandError(f"The broker is away: {error}") from None
        self.stdout.write(f"{sent} sent.")
