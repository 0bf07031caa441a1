from tasklog.management.base import FindCommand


class Command(FindCommand):
    help = (
        "List the calls whose ETA passed long ago, and which are not sent: id, task, ETA, when a "
        "dispatcher claimed them."
    )
    age_is = "How long ago the ETA was."
    resend_is = "Send them. One that was claimed may have been sent: then it runs twice."
    found = "Scheduled calls that were not sent"

    def find(self, calls, age, options):
        return calls.stale_scheduled(age)

    def about(self, call):
        return {"eta": call.eta, "claimed_at": call.claimed_at}
