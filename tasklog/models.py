"""The table of calls."""

from celery import current_app, states
from django.db import connections, models
from django.db.models import Case, Exists, OuterRef, Q, Value, When
from django.db.models.constants import OnConflict
from django.db.models.functions import Cast, Coalesce, Now
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend as ResultsInDjango
from django_celery_results.models import TaskResult

from .databases import still
from .fields import MessageField, ResultField, Unreadable
from .rows import delete_in_batches, execute, stored_fields

SCHEDULED = "SCHEDULED"  # waits in the table for its ETA
SCHEDULED_SENT = "SCHEDULED_SENT"  # was sent after its ETA; no worker has begun it

# Options that tie a call to its canvas, and to its caller.
TIES = {"chord", "group_id", "group_index", "parent_id", "reply_to", "root_id", "task_id"}

# Columns of results that can be large.
LARGE = ("result", "traceback", "meta", "task_args", "task_kwargs")

STATE = Coalesce(
    "result__status",
    Case(
        When(eta=None, then=Value(states.PENDING)),
        When(sent_at=None, then=Value(SCHEDULED)),
        default=Value(SCHEDULED_SENT),
    ),
)

RESULT = TaskResult.objects.filter(task_id=OuterRef("task_id"))

# JSON from Python that databases refuse. One would end a whole query.
NOT_JSON = (
    r"(^|[ ,:\[])(NaN|-?Infinity)($|[,}\]])",
    r"\\u0000",
    r"\\ud[89ab]..(?!\\ud[c-f])",
    r"(?<!\\ud[89ab]..)\\ud[c-f]",
)

NOTE_SENT = "UPDATE tasklog_taskcall SET sent_at = statement_timestamp() WHERE task_id = %s"


class NotReplayable(ValueError):
    """Not to be called, or not again. The message says why."""


class TaskCallQuerySet(models.QuerySet):
    """Questions to the table."""

    def in_state(self, *wanted):
        """Calls in one of these states: Celery's, SCHEDULED or SCHEDULED_SENT."""
        if not {states.PENDING, SCHEDULED, SCHEDULED_SENT} & set(wanted):
            return self.filter(result__status__in=wanted)  # which an index finds
        return self.alias(state=STATE).filter(state__in=wanted)

    def due(self):
        """Unclaimed calls whose ETA has come, by the database's clock, the oldest first."""
        waiting = self.filter(sent_at=None, claimed_at=None)
        return waiting.filter(eta__lte=Now()).order_by("eta", "pk")

    def unsent(self):
        """Calls without an ETA that nobody has sent yet."""
        return self.filter(sent_at=None, eta=None)

    def stale(self, older_than, acceptable_states=()):
        """Calls that have not ended, and have been silent for long.

        Those that were sent and ignore their result are left out.

        Args:
            older_than (timedelta): how long they have been silent.
            acceptable_states (Iterable[str]): are fine, however long they last.

        Returns:
            TaskCallQuerySet: with ``heard_at``, the longest silent first.
        """
        return (
            self.alias(state=STATE)
            .annotate(heard_at=Coalesce("result__date_done", "sent_at", "eta", "submitted_at"))
            .filter(heard_at__lt=Now() - older_than)
            .exclude(state__in=[*states.READY_STATES, *acceptable_states])
            .exclude(ignore_result=True, sent_at__isnull=False)
            .order_by("heard_at", "pk")
        )

    def stale_scheduled(self, older_than):
        """Unsent calls whose ETA is longer ago than a timedelta, the oldest first.

        No dispatcher runs, or one was cut off between the claim (``claimed_at``) and the sending.
        """
        return (
            self.filter(sent_at=None, eta__lt=Now() - older_than)
            .exclude(Exists(RESULT))
            .order_by("eta", "pk")
        )

    def with_value(self):
        """Annotate ``value``, the result, for lookups into its JSON: ``value__words__gt=100``.

        https://docs.djangoproject.com/en/5.2/topics/db/queries/#querying-jsonfield
        Of a FAILURE it has ``exc_type``, ``exc_message`` and ``exc_module``. It is None where the
        database can read none. Each is parsed: filter by something with an index too.
        """
        readable = Q(result__content_type="application/json")
        for pattern in NOT_JSON:
            readable &= ~Q(result__result__regex=pattern)
        json = models.JSONField(null=True)
        value = Case(When(readable, then=Cast("result__result", json)), output_field=json)
        return self.annotate(value=value)

    def without_messages(self):
        """Leave in the database what can be large."""
        return self.defer("args", "kwargs", "options", *(f"result__{name}" for name in LARGE))

    def clean_up(self, older_than, ended_as=states.READY_STATES):
        """Delete calls that ended long ago, with their results, each batch in a transaction.

        A call whose result is ignored, or stored elsewhere, counts as a SUCCESS that ended when it
        was sent.

        Args:
            older_than (timedelta): how long ago they ended.
            ended_as (Iterable[str]): SUCCESS, FAILURE, REVOKED.

        Returns:
            int: how many calls.
        """
        before = Now() - older_than
        ended = TaskResult.objects.using(self.db).filter(
            Exists(self.order_by().filter(task_id=OuterRef("task_id"))),
            status__in=set(ended_as) & states.READY_STATES,
            date_done__lt=before,
        )
        deleted = delete_in_batches(ended.order_by("date_done"), self.model._meta.label)
        if states.SUCCESS in ended_as:
            silent = self.filter(sent_at__lt=before, submitted_at__lt=before)
            silent = silent.exclude(Exists(RESULT)).order_by("submitted_at")
            if isinstance(current_app.backend, ResultsInDjango):
                silent = silent.filter(ignore_result=True)
            deleted += delete_in_batches(silent)
        return deleted


class TaskCall(models.Model):
    """A call of a task: what was asked for, when, and how it was sent.

    ``args`` and ``kwargs`` are None where the caller hides them (``argsrepr``, ``kwargsrepr``).
    """

    # CASCADE: `forget()` and the cleanup of results take the call too.
    result = ResultField(
        TaskResult,
        to_field="task_id",
        on_delete=models.CASCADE,
        db_constraint=False,
        null=True,
        related_name="call",
    )
    name = models.CharField("task", max_length=255)
    args = MessageField("positional arguments", null=True, editable=False)
    kwargs = MessageField("keyword arguments", null=True, editable=False)
    options = MessageField(default=dict, editable=False, help_text="As for apply_async().")
    queue = models.CharField(max_length=255, blank=True)
    ignore_result = models.BooleanField(default=False)
    eta = models.DateTimeField("ETA", null=True, blank=True, help_text="When it is to be sent.")
    submitted_at = models.DateTimeField(db_default=Now())
    claimed_at = models.DateTimeField(
        null=True, blank=True, help_text="When a dispatcher took it, to send it."
    )
    sent_at = models.DateTimeField(null=True, blank=True)
    retry_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries"
    )

    objects = TaskCallQuerySet.as_manager()

    class Meta:
        verbose_name = "call"
        permissions = [
            ("retry_taskcall", "Can send a call again under a new id"),
            ("resend_taskcall", "Can send a call again under its own id"),
            ("revoke_taskcall", "Can revoke a call"),
            ("terminate_taskcall", "Can terminate a running task"),
        ]
        indexes = [
            # All that dispatchers ask for. Small: a call leaves it when it is sent.
            models.Index(fields=["eta"], condition=Q(sent_at=None), name="tasklog_unsent"),
            models.Index(fields=["name", "-id"], name="tasklog_name"),
            models.Index(fields=["submitted_at"], name="tasklog_submitted"),
        ]

    def __str__(self):
        return f"{self.name}[{self.task_id}]"

    @property
    def status(self):
        """Celery's word for how it goes, or SCHEDULED or SCHEDULED_SENT."""
        if self.result:
            return self.result.status
        if self.eta is None:
            return states.PENDING
        return SCHEDULED_SENT if self.sent_at else SCHEDULED

    @property
    def replayable(self):
        """Whether the caller shows the arguments."""
        return self.args is not None

    def check_replayable(self):
        """Raise NotReplayable where arguments or options are hidden, or cannot be read here."""
        if not self.replayable:
            raise NotReplayable(f"{self} hides its arguments, so they were not stored.")
        if any(isinstance(part, Unreadable) for part in (self.args, self.kwargs, self.options)):
            raise NotReplayable(f"{self} carries a type that nobody registered with kombu here.")

    def store(self, alias):
        """Insert it into a database, in one statement, or replace the row with its task id."""
        fields = stored_fields(TaskCall)
        TaskCall.objects.using(alias)._insert(
            [self],
            fields=fields,
            using=alias,
            on_conflict=OnConflict.UPDATE,
            update_fields=[field for field in fields if field.name != "result"],
            unique_fields=[self._meta.get_field("result")],
        )

    def mark_sent(self, alias):
        """Note in a database that the broker has its message."""
        if connections[alias].vendor == "postgresql":
            execute(alias, NOTE_SENT, [self.task_id], lasting=False)  # else: sent again
        else:
            TaskCall.objects.using(alias).filter(task_id=self.task_id).update(sent_at=Now())

    def retry(self):
        """Call the task again, at once: the same arguments and options, under a new id.

        An expiry is counted anew. Its canvas is left out, which has had its result. What follows
        it, in a chain or as a link, has new ids too.

        Returns:
            AsyncResult: of the new call, whose ``retry_of`` is this one.

        Raises:
            NotReplayable: the arguments are hidden, or cannot be read here.
            kombu.exceptions.OperationalError: the broker is away, and there is no outbox.
        """
        self.check_replayable()
        options = untied(self.options)
        options.pop("eta", None)
        if options.get("expires") is not None:
            options["expires"] = (options["expires"] - self.submitted_at).total_seconds()
        return current_app.send_task(self.name, self.args, self.kwargs, retry_of=self, **options)

    def resend(self):
        """Send the message again, under its own id. If it was not lost, the task runs twice.

        Returns:
            AsyncResult: of this call.

        Raises:
            NotReplayable: the arguments are hidden, or cannot be read here. Or the call has ended,
                waits for its ETA, or somebody else has just taken it.
            kombu.exceptions.OperationalError: the broker is away.
        """
        self.check_replayable()
        if self.status in states.READY_STATES:
            raise NotReplayable(f"{self} has ended: {self.status}. Retry it instead.")
        if self.status == SCHEDULED and not self.claimed_at and self.eta > timezone.now():
            raise NotReplayable(f"{self} waits for its ETA.")
        # Dispatchers change the claim, people both.
        rows = TaskCall.objects.using(self._state.db).filter(
            still("claimed_at", self.claimed_at), still("sent_at", self.sent_at), pk=self.pk
        )
        if not rows.update(claimed_at=Now()):
            raise NotReplayable(f"{self} has just been taken by somebody else.")
        current_app.send_call(self, self.args, self.kwargs, self.options)
        self.mark_sent(self._state.db)
        return current_app.AsyncResult(self.task_id)

    def revoke(self, terminate=False):
        """Keep the call from running. With `terminate` (bool) the process that runs it is killed.

        Raises:
            kombu.exceptions.OperationalError: the broker is away.
        """
        current_app.control.revoke(self.task_id, terminate=terminate)


def untied(options):
    """Return options (dict) without TIES, and so those of the signatures in them."""
    return {key: anew(value) for key, value in options.items() if key not in TIES}


def anew(value):
    if isinstance(value, dict):
        value = {key: anew(part) for key, part in value.items()}
        if {"subtask_type", "options"} <= set(value):  # a signature
            value["options"] = untied(value["options"])
    return [anew(part) for part in value] if isinstance(value, list) else value
