from celery import current_app
from django.core.management.base import CommandError
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from tasklog.databases import aliases, still
from tasklog.management.base import FOUND, CallsCommand
from tasklog.models import NotReplayable, TaskCall


class Command(CallsCommand):
    help = (
        "List the calls that have not ended, and of which nothing was heard for a long time: id, "
        "task, state, and since when. With --resend, send those that no worker has begun. Exit "
        "status: 0 there are none, or all were sent; 1 there are some; 2 the arguments are wrong."
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
        parser.add_argument(
            "--resend",
            action="store_true",
            help="Send those that were sent and not begun, under their own ids: their message was "
            "lost with a worker. Look at the queue first: if it still waits there, it runs twice.",
        )
        self.add_json_argument(parser)

    def handle(self, *, resend, **options):
        """List them, the one that has been silent for longest first, or send them.

        Raises:
            CommandError: there are some left, the broker is away, or no age was given.
        """
        age, left, sent = self.age(options), 0, 0
        for alias in aliases():
            calls = TaskCall.objects.using(alias).stale(age, options["terminal_state"])
            calls = calls.select_related("result").without_messages()
            for call in list(calls) if resend else calls.iterator():
                outcome = {}
                if resend:
                    outcome["refused"] = self.resend(call)
                    sent += outcome["refused"] is None
                left += not resend or outcome["refused"] is not None
                found = {"id": call.task_id, "task": call.name, "state": call.status}
                self.line({**found, "since": call.heard_at, **outcome}, options["json"])
        if resend:
            self.summary(f"{sent} sent.")
        if left:
            raise CommandError(f"Stale calls: {left}", returncode=FOUND)

    def resend(self, call):
        """Send a call, unless somebody else just did. Returns why not, or None."""
        if call.result:
            return "a worker has begun it: see end_lost_calls and retry_tasks"
        if call.sent_at is None:
            return "was not sent yet: see send_due_calls and find_stale_scheduled_tasks"
        same = TaskCall.objects.using(call._state.db).filter(pk=call.pk)
        if not same.filter(still("sent_at", call.sent_at)).update(sent_at=Now()):
            return "has just been sent"
        try:
            call.resend()
        except NotReplayable as error:
            return str(error)
        except OperationalError as error:
            same.update(sent_at=call.sent_at)
            broker = current_app.connection_for_write().as_uri()
            raise CommandError(f"The broker, {broker}, is away: {error}") from None
        except Exception as error:  # a queue that is gone: the others can still be sent
            return f"{type(error).__name__}: {error}"
