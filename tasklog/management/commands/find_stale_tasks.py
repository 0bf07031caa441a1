from tasklog.management.base import FindCommand


class Command(FindCommand):
    help = (
        "List the calls that have not ended, and of which nothing was heard for a long time: id, "
        "task, state, and since when."
    )
    age_is = "How long they have been silent."
    resend_is = (
        "Send those again that were sent and not begun. If a message still waits in its queue, "
        "they run twice."
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
            help="A state which is fine, however long it lasts. Can be given several times.",
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
