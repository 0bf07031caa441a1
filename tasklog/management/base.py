"""What the commands have in common: ages, exit statuses, and lines that cron can mail."""

import json
from datetime import datetime, timedelta

from celery import current_app
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.db.models.functions import Now
from django.utils import timezone
from kombu.exceptions import OperationalError

from tasklog.databases import aliases, still
from tasklog.models import TaskCall

UNITS = ("weeks", "days", "hours", "minutes", "seconds")
WRONG_USE = 2  # as argparse's own


class CallsCommand(BaseCommand):
    """Base of the commands.

    Exit status 0: all is well. 1: something was found, or refused; each such call has a line.
    2: the arguments are wrong. Lines go to standard output, tab-separated or as one JSON object
    each, and the summary to standard error.
    """

    def add_age_arguments(self, parser, what):
        ages = parser.add_argument_group("age", f"{what} They are added up; give one at least.")
        for unit in UNITS:
            ages.add_argument(f"--{unit}", type=float, default=0, metavar="N")

    def age(self, options):
        """Return the age that the options add up to, as a timedelta.

        Raises:
            CommandError: it is nothing, or less.
        """
        try:
            age = timedelta(**{unit: options[unit] for unit in UNITS})
        except (OverflowError, ValueError) as error:  # ValueError: nan
            raise CommandError(f"That is no age: {error}", returncode=WRONG_USE) from None
        if age <= timedelta():
            text = "Say how old they have to be, for example --minutes 30."
            raise CommandError(text, returncode=WRONG_USE)
        return age

    def add_json_argument(self, parser):
        parser.add_argument("--json", action="store_true", help="A JSON object a line.")

    def line(self, values, as_json):
        """Write a line.

        Args:
            values (dict): by name; datetimes become ISO 8601 in the site's time zone.
            as_json (bool): with the names, or else without those that are None.
        """
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = timezone.localtime(value).isoformat(timespec="seconds")
        values_alone = (str(value) for value in values.values() if value is not None)
        self.stdout.write(json.dumps(values) if as_json else "\t".join(values_alone))

    def summary(self, text):
        self.stderr.write(text, self.style.NOTICE)

    def attempt(self, act):
        """Do something with a call. Returns what comes of it or None, and why not or None.

        Raises:
            CommandError: the broker is away, so nothing else can be done either.
        """
        try:
            return act(), None
        except OperationalError as error:
            broker = current_app.connection_for_write().as_uri()
            raise CommandError(f"The broker is away ({broker}): {error}") from None
        except DatabaseError:
            raise
        except Exception as error:  # hidden arguments, a queue that is gone: the others go on
            return None, f"{type(error).__name__}: {error}"


class FindCommand(CallsCommand):
    """Base of the commands that list calls which are silent for too long, and send them again."""

    age_is = "How long they have been silent."
    resend_is = ""
    found = ""

    def add_arguments(self, parser):
        self.add_age_arguments(parser, self.age_is)
        parser.add_argument("--resend", action="store_true", help=self.resend_is)
        self.add_json_argument(parser)

    def find(self, calls, age, options):
        """Return the QuerySet of those that are found among all calls of a database."""
        raise NotImplementedError

    def tell(self, call):
        """Return what the line of a call says, as a dict."""
        raise NotImplementedError

    def resend(self, call):
        """Send a call, unless somebody else has just done so. Returns why not, or None."""
        # Dispatchers change the claim, so does another of these commands, and the admin the rest.
        unchanged = [still(name, getattr(call, name)) for name in ("claimed_at", "sent_at")]
        rows = TaskCall.objects.using(call._state.db).filter(*unchanged, pk=call.pk)
        if not rows.update(claimed_at=Now()):
            return "has just been taken by somebody else"
        return self.attempt(call.resend)[1]

    def handle(self, *, resend, **options):
        """List them, or send them.

        Raises:
            CommandError: there are some left, the broker is away, or no age was given.
        """
        age, left, sent = self.age(options), 0, 0
        for alias in aliases():
            for call in list(self.find(TaskCall.objects.using(alias), age, options)):
                outcome = {"refused": self.resend(call)} if resend else {}
                done = resend and outcome["refused"] is None
                sent, left = sent + done, left + (not done)
                self.line({**self.tell(call), **outcome}, options["json"])
        if resend:
            self.summary(f"{sent} sent.")
        if left:
            raise CommandError(f"{self.found}: {left}")
