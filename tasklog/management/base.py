"""What the commands have in common: ages, moments, exit statuses, and lines that cron can mail."""

import argparse
import json
from datetime import datetime, time, timedelta

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

UNITS = ("weeks", "days", "hours", "minutes", "seconds")

FOUND = 1  # something that somebody should look at, or could not be done
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
            raise CommandError(
                "Say how old they have to be, for example --minutes 30.", returncode=WRONG_USE
            )
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
        if as_json:
            self.stdout.write(json.dumps(values))
        else:
            self.stdout.write("\t".join(str(v) for v in values.values() if v is not None))

    def summary(self, text):
        self.stderr.write(text, self.style.NOTICE)


def moment(text):
    """Return the aware datetime of an argument: ISO 8601, a day alone is its first moment."""
    try:
        when = parse_datetime(text)
        if when is None and (day := parse_date(text)):
            when = datetime.combine(day, time())
    except ValueError as error:  # well formed, and no such day
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if when is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time. Write it as 2026-01-31, or as 2026-01-31T18:30."
        )
    return timezone.make_aware(when) if timezone.is_naive(when) else when


def positive(text):
    """Return the positive whole number of an argument."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number.")
    return int(text)
