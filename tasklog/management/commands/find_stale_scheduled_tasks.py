from celery import current_app
from django.core.management.base import CommandError
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from tasklog.databases import aliases, still
from tasklog.management.base import FOUND, CallsCommand
from tasklog.models import NotReplayable, TaskCall


class Command(CallsCommand):
    help = (
        "List the calls whose ETA passed long ago, and which are still not sent: id, task, ETA, "
        "and when a dispatcher claimed them, if one did. With --resend, send them. Exit status: "
        "0 there are none, or all were sent; 1 there are some; 2 the arguments are wrong."
    )

    def add_arguments(self, parser):
        self.add_age_arguments(parser, "How long ago the ETA was.")
        parser.add_argument(
            "--resend",
            action="store_true",
            help="Send them, under their own ids. One that was claimed may have been sent by the "
            "dispatcher that was cut off, and then runs twice.",
        )
        self.add_json_argument(parser)

    def handle(self, *, resend, **options):
        """List them, or send them.

        Raises:
            CommandError: some are still not sent, the broker is away, or no age was given.
        """
        age, left, sent = self.age(options), 0, 0
        for alias in aliases():
            for call in list(TaskCall.objects.using(alias).stale_scheduled(age)):
                outcome = {}
                if resend:
                    outcome["refused"] = refused = self.resend(call)
                    sent += refused is None
                left += not resend or outcome["refused"] is not None
                known = {"id": call.task_id, "task": call.name, "eta": call.eta}
                self.line({**known, "claimed_at": call.claimed_at, **outcome}, options["json"])
        if resend:
            self.summary(f"{sent} sent.")
        if left:
            raise CommandError(f"Scheduled calls that were not sent: {left}", returncode=FOUND)

    def resend(self, call):
        """Send a call, unless a dispatcher has just taken it. Returns why not, or None.

        The claim is what keeps a dispatcher that comes back, and a second of these commands, from
        sending it too.
        """
        same = TaskCall.objects.using(call._state.db).filter(pk=call.pk, sent_at=None)
        if not same.filter(still("claimed_at", call.claimed_at)).update(claimed_at=Now()):
            return "has just been taken by a dispatcher"
        try:
            call.resend()
        except NotReplayable as error:
            return str(error)
        except OperationalError as error:
            broker = current_app.connection_for_write().as_uri()
            raise CommandError(f"The broker, {broker}, is away: {error}") from None
        except Exception as error:  # a queue that is gone: the others can still be sent
            return f"{type(error).__name__}: {error}"
