import json

from celery import states

from tasklog.cleanup import clean_up_calls
from tasklog.management.base import CallsCommand


class Command(CallsCommand):
    help = (
        "Delete calls that ended long ago, with their results. What has not ended stays, however "
        "old it is."
    )
    age_is = "How long ago they ended."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument(
            "--state",
            action="append",
            type=str.upper,
            choices=sorted(states.READY_STATES),
            help="Only what ended like this. Several can be given.",
        )

    def handle(self, *, state, **options):
        number = clean_up_calls(self.age(options), state or states.READY_STATES)
        text = f"{number} deleted."
        self.stdout.write(json.dumps({"deleted": number}) if options["json"] else text)
