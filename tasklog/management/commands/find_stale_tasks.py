from tasklog.management.base import FindCommand


class Command(FindCommand):
    help = (
        "List the calls that have not ended, and have been silent for long: id, task, state, since "
        "when."
    )
    age_is = "How long they have been silent."
    resend_is = (
        "Send again those that no worker has begun. What still waits in its queue runs twice."
    )
    found = "Stale calls"

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument(
            "--terminal-state",
            action="append",
            type=str.upper,
            default=[],
            metavar="STATE",
            help="A state that is fine, however long it lasts. Several can be given.",
        )

    def find(self, calls, age, options):
        calls = calls.stale(age, options["terminal_state"])
        return calls.select_related("result").without_messages()

    def about(self, call):
        return {"state": call.status, "since": call.heard_at}

    def resend(self, call):
        if call.result:
            return "a worker has begun it: see end_lost_calls and retry_tasks"
        if call.sent_at is None and call.replayable:
            return "was not sent yet: see send_due_calls and find_stale_scheduled_tasks"
        return super().resend(call)
