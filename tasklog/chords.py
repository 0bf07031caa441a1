"""When the body of a chord is sent."""

import json

from celery import group, maybe_signature, states
from celery.app.task import Context
from celery.exceptions import ChordError
from celery.result import ResultSet
from celery.utils.log import get_logger
from django.db import transaction
from django.db.models import F
from django_celery_results.models import ChordCounter

logger = get_logger(__name__)


class Chords:
    """The part of the results backend that knows of chords.

    The counter of a chord only saves work. Each member of the header stores its result, then counts
    down in one statement; whoever finds 1 looks at the results. So a member that is delivered twice
    makes somebody look too early, never send too early.

    Of several who find all finished, the one who deletes the counter sends the body, in the same
    transaction: with the outbox both happen or neither. A worker that is killed before that leaves
    the chord waiting; with `acks_late` the member comes again. With a RESULTS_DATABASE the body may
    be sent twice.
    """

    def apply_chord(self, header_result_args, body, **kwargs):
        """Write down which tasks a chord waits for, before they are sent."""
        header = self.app.GroupResult(*header_result_args)
        counter = ChordCounter(
            group_id=header.id,
            sub_tasks=json.dumps([result.as_tuple() for result in header]),
            count=len(members(header)),
        )
        counters = ChordCounter.objects.using(self.alias)
        self._ensure_retryable(counters.bulk_create, [counter], ignore_conflicts=True)

    def on_chord_part_return(self, request, state, result, **kwargs):
        """Count a member of a header that has ended, and send the body after the last."""
        if not (request.id and request.group):
            return
        if request.ignore_result and state:  # the body needs it all the same
            self.store_result(request.id, result, state, request=request)
        self._ensure_retryable(self._count_down, request)

    def _count_down(self, request):
        counters = ChordCounter.objects.using(self.alias).filter(group_id=request.group)
        if counters.filter(count__gt=1).update(count=F("count") - 1):
            return
        counter = counters.first()
        if counter is None:
            logger.warning("%s ended after its chord: it was delivered twice", request.id)
            return
        header = counter.group_result(self.app)
        found = self.finished(members(header), self.alias)
        if len(found) < len(members(header)):
            return
        with transaction.atomic(using=self.alias):
            if counters.delete()[0]:
                self._send_body(maybe_signature(request.chord, app=self.app), header, found)

    def _send_body(self, body, header, found):
        """Call the body with the header's results, or fail it with the first failure."""
        try:
            for task_id in members(header):
                if found[task_id]["status"] in states.PROPAGATE_STATES:
                    error = found[task_id]["result"]
                    raise ChordError(f"Dependency {task_id} raised {error!r}") from error
            body.delay(values(header, found))
        except Exception as error:
            if not isinstance(error, ChordError):
                error = ChordError(f"Callback error: {error!r}")
            logger.exception("The body of the chord %s is not called: %s", header.id, error)
            self.chord_error_from_stack(body, error)
            # A body may itself be in a header, and Celery does not count it down there.
            for part in body.tasks if isinstance(body, group) else [body]:
                ended = Context(part.options)
                ended.id, ended.group = ended.get("task_id"), ended.get("group_id")
                if ended.chord:
                    self.on_chord_part_return(ended, states.FAILURE, error)


def members(header):
    """Return the ids (list[str]) of the tasks in a header, those of nested groups too."""
    if isinstance(header, ResultSet):
        return list(dict.fromkeys(task_id for part in header for task_id in members(part)))
    return [header.id]


def values(header, found):
    """Return what the members returned, in lists nested as the groups are."""
    if isinstance(header, ResultSet):
        return [values(part, found) for part in header]
    return found[header.id]["result"]
