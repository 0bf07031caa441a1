"""What the commands have in common."""

import json
from datetime import datetime, timedelta

from celery import current_app
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone
from kombu.exceptions import OperationalError

from tasklog.databases import tables

UNITS = ("weeks", "days", "hours", "minutes", "seconds")
WRONG_USE = 2  # as argparse's own


class CallsCommand(BaseCommand):
    """Base of the commands: lines go to standard output, the summary to standard error."""

    age_is = ""  # makes the command ask for an age

    def add_arguments(self, parser):
        parser.epilog = (
            "Exit status: 0 all is well, 1 something was found, or refused, 2 wrong arguments."
        )
        parser.add_argument("--json", action="store_true", help="A JSON object a line.")
        if self.age_is:
            ages = parser.add_argument_group("age", f"{self.age_is} The parts are added up.")
            for unit in UNITS:
                ages.add_argument(f"--{unit}", type=float, default=0, metavar="N")

    def age(self, options):
        """Return the age in the options, a timedelta above 0."""
        try:
            age = timedelta(**{unit: options[unit] for unit in UNITS})
        except (OverflowError, ValueError) as error:  # ValueError: nan
            raise CommandError(f"That is no age: {error}", returncode=WRONG_USE) from None
        if age <= timedelta():
            text = "Say how old they have to be, for example --minutes 30."
            raise CommandError(text, returncode=WRONG_USE)
        return age

    def line(self, options, **values):
        """Write a line: with --json an object, else tab-separated what is not None."""
        for name, value in values.items():
            if isinstance(value, datetime):
                values[name] = timezone.localtime(value).isoformat(timespec="seconds")
        known = (str(value) for value in values.values() if value is not None)
        self.stdout.write(json.dumps(values) if options["json"] else "\t".join(known))

    def attempt(self, act):
        """Do something with a call. Returns what comes of it or None, and why not or None.

        Raises:
            CommandError: the broker is away.
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
    """Base of the commands that list (``find``, ``about``) and resend calls silent for too long."""

    resend_is = found = ""

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--resend", action="store_true", help=self.resend_is)

    def resend(self, call):
        """Send a call. Returns why not, or None."""
        return self.attempt(call.resend)[1]

    def handle(self, *, resend, **options):
        age = self.age(options)
        found = [call for calls in tables() for call in self.find(calls, age, options)]
        sent = 0
        for call in found:
            outcome = {"refused": self.resend(call)} if resend else {}
            sent += outcome == {"refused": None}
            self.line(options, id=call.task_id, task=call.name, **self.about(call), **outcome)
        if resend:
            self.stderr.write(f"{sent} sent.", self.style.NOTICE)
        if left := len(found) - sent:
            raise CommandError(f"{self.found}: {left}")
