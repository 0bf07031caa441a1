from tasklog.management.base import FindCommand


class Command(FindCommand):
    help = (
        "List the calls whose ETA passed long ago, and which are still not sent: id, task, ETA, "
        "and when a dispatcher claimed them, if one did."
    )
    age_is = "How long ago the ETA was."
    resend_is = (
        "Send them. One that was claimed may have been sent by the dispatcher that was cut off: "
        "then it runs twice."
    )
    found = "Scheduled calls that were not sent"

    def find(self, calls, age, options):
        return calls.stale_scheduled(age)

    def about(self, call):
        claimed_at = call.claimed_at
        return {"id": call.task_id, "task": call.name, "eta": call.eta, "claimed_at": claimed_at}
