from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from tasklog import dispatcher


class Command(BaseCommand):
    help = (
        "Send the calls whose ETA has come, and those that their process left unsent: what the "
        "task tasklog.send_due_calls does, for sites whose schedules are cron's or systemd's. Safe "
        "to run while others do. Exit status: 0 done, 1 the broker is away."
    )

    def handle(self, **options):
        """Send them.

        Raises:
            CommandError: the broker is away.
        """
        try:
            self.stdout.write(f"{dispatcher.send_due_calls()} sent.")
        except OperationalError as error:
            raise CommandError(f"The broker is away: {error}") from None
