from django.core.management.base import BaseCommand, CommandError
from kombu.exceptions import OperationalError

from tasklog import dispatcher


class Command(BaseCommand):
    help = (
        "Send the calls whose ETA has come, and those left unsent, for sites without beat. Exit "
        "status: 0 done, 1 the broker is away."
    )

    def handle(self, **options):
        try:
            self.stdout.write(f"{dispatcher.send_due_calls()} sent.")
        except OperationalError as error:
            raise CommandError(f"The broker is away: {error}") from None
