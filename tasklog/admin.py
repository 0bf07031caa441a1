"""Calls, results and periodic tasks in Django's admin.

With an AdminSite of your own: ``site.register(TaskCall, TaskCallAdmin)``, and so on.
"""

from functools import cache

import django_celery_results.admin as stock_results
from celery import current_app, states
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django_celery_results.models import TaskResult
from kombu.exceptions import OperationalError

from .changelist import CallList, ResultList, ResultQuerySet
from .highlight import show_json, show_stored, show_traceback
from .models import SCHEDULED, SCHEDULED_SENT, NotReplayable, TaskCall

STATES = (
    SCHEDULED, SCHEDULED_SENT, states.PENDING, states.STARTED, "PROGRESS", states.RETRY,
    states.SUCCESS, states.FAILURE, states.REVOKED,
)  # fmt: skip
NOTHING = "–"
NAMED = 10  # calls that a message names


@cache
def known_tasks():
    """The names of the tasks that this process knows, sorted."""
    current_app.loader.import_default_modules()  # as the worker does; a web process may not have
    return sorted(current_app.tasks)


class StateFilter(admin.SimpleListFilter):
    """All states there are: which of them occur would take a look at each row."""

    title = parameter_name = "state"

    def lookups(self, request, model_admin):
        return [(state, state) for state in STATES]

    def queryset(self, request, calls):
        return calls.in_state(self.value()) if self.value() else calls


class NameFilter(admin.SimpleListFilter):
    """The tasks that this process knows, without what Celery's canvas is made of."""

    title, parameter_name = "task", "name"

    def lookups(self, request, model_admin):
        names = (name for name in known_tasks() if not name.startswith("celery."))
        return [(name, name) for name in (*names, "celery.backend_cleanup")]

    def queryset(self, request, calls):
        return calls.filter(name=self.value()) if self.value() else calls


class QueueFilter(admin.SimpleListFilter):
    """The site's queues."""

    title = parameter_name = "queue"

    def lookups(self, request, model_admin):
        return [(name, name) for name in sorted(current_app.amqp.queues)]

    def queryset(self, request, calls):
        return calls.filter(queue=self.value()) if self.value() else calls


class Log:
    """What the admins of calls and of results have in common: people look, and may delete."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they would count all rows, for each choice
    sortable_by = ()
    ordering = ()

    class Media:
        css = {"all": ["tasklog/admin.css"]}

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def response_action(self, request, queryset):
        """Refuse what is meant for more than one page: nobody has seen what it would do."""
        if request.POST.get("select_across") == "1":
            text = "Choose calls on this page. For more of them there is the command retry_tasks."
            self.message_user(request, text, messages.ERROR)
            return None
        return super().response_action(request, queryset)

    @admin.display(description="task id")
    def id_(self, row):
        return format_html('<span class="tasklog-id" title="{0}">{0}</span>', row.task_id)

    def url(self, view, *args):
        """Return the address of a page of this admin site, or None: the model is not in it."""
        try:
            return reverse(f"admin:{view}", args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return None

    def link(self, view, pk, text):
        url = self.url(view, pk)
        return format_html('<a href="{}">{}</a>', url, text) if url else text


class TaskCallAdmin(Log, admin.ModelAdmin):
    """Calls and what came of them."""

    list_display = ["state", "task", "when", "waited", "ran", "queue", "worker", "id_"]
    list_display_links = ["task"]
    list_filter = [StateFilter, QueueFilter, NameFilter]
    search_fields = ["task_id"]
    search_help_text = "A task id, or the name of a task: all of it, or its last part."
    actions = ["retry", "resend", "revoke", "terminate"]
    fieldsets = [
        (None, {"fields": ["state", "task", "id_", "queue", "worker", "result_row"]}),
        ("Call", {"fields": ["positional", "named", "options_", "retry_of_", "retries_"]}),
        ("Times", {"fields": ["called_at", "eta_", "claimed", "sent", "started", "heard_of",
                              "waited", "ran"]}),
        ("Result", {"fields": ["value", "traceback"]}),
    ]  # fmt: skip
    readonly_fields = [name for _, section in fieldsets for name in section["fields"]]

    # --- Finding ----------------------------------------------------------------------------------

    def get_changelist(self, request, **kwargs):
        return CallList

    def get_search_results(self, request, queryset, term):
        """Search by task id or exact name. Both have an index; parts of a text have none."""
        if names := self.searched_names(term):
            return queryset.filter(name__in=names), False
        return queryset.filter(task_id=term.strip()) if term.strip() else queryset, False

    def searched_names(self, term):
        """Return the names of the tasks that are meant, or nothing: it is a task id."""
        term = term.strip()
        names = [name for name in known_tasks() if term and f".{name}".endswith(f".{term}")]
        if names or not term:
            return names
        # One that was known once: its calls are still here.
        return [term] if TaskCall.objects.filter(name=term).exists() else []

    # --- Showing ----------------------------------------------------------------------------------

    def change_view(self, request, object_id, form_url="", extra_context=None):
        allowed = [
            {"name": name, "label": LABELS[name]}
            for name in self.actions
            if request.user.has_perm(f"tasklog.{name}_taskcall")
        ]
        context = {"call_actions": allowed, "ended": states.READY_STATES, "title": "Call"}
        context |= extra_context or {}
        return super().change_view(request, object_id, form_url, context)

    @admin.display(description="state")
    def state(self, call):
        return badge(call.status)

    @admin.display(description="task")
    def task(self, call):
        return call.name

    @admin.display(description="worker")
    def worker(self, call):
        return (call.result and call.result.worker) or NOTHING

    @admin.display(description="called")
    def when(self, call):
        return moment(call.submitted_at)

    @admin.display(description="called")
    def called_at(self, call):
        return exact(call.submitted_at)

    @admin.display(description="ETA")
    def eta_(self, call):
        return exact(call.eta)

    @admin.display(description="claimed by a dispatcher")
    def claimed(self, call):
        return exact(call.claimed_at)

    @admin.display(description="sent")
    def sent(self, call):
        return exact(call.sent_at)

    @admin.display(description="started")
    def started(self, call):
        return exact(call.result and call.result.date_started)

    @admin.display(description="last heard of")
    def heard_of(self, call):
        return exact(call.result and call.result.date_done)

    @admin.display(description="waited")
    def waited(self, call):
        """From when it was sent until a worker began it."""
        started = call.result and call.result.date_started
        return duration(call.sent_at, started)

    @admin.display(description="ran")
    def ran(self, call):
        result = call.result
        if not result or not result.date_started:
            return NOTHING
        ended = result.status in states.READY_STATES
        return duration(result.date_started, result.date_done if ended else timezone.now())

    @admin.display(description="positional arguments")
    def positional(self, call):
        if call.replayable:
            return show_json(call.args)
        return format_html("hidden by the caller: {}", call.options.get("argsrepr", "all"))

    @admin.display(description="keyword arguments")
    def named(self, call):
        if call.replayable:
            return show_json(call.kwargs)
        return format_html("hidden by the caller: {}", call.options.get("kwargsrepr", "all"))

    @admin.display(description="options")
    def options_(self, call):
        return show_json(call.options)

    @admin.display(description="retries the call")
    def retry_of_(self, call):
        return self.link_to(call.retry_of) if call.retry_of else NOTHING

    @admin.display(description="retried by")
    def retries_(self, call):
        retries = call.retries.select_related("result").without_messages().order_by("pk")[:NAMED]
        lines = [(self.link_to(retry), badge(retry.status)) for retry in retries]
        return format_html_join(mark_safe("<br>"), "{} {}", lines) or NOTHING

    @admin.display(description="result")
    def value(self, call):
        if not call.result or call.result.result is None:
            return "ignored by the task" if call.ignore_result else NOTHING
        return show_stored(call.result.result, call.result.content_type)

    @admin.display(description="traceback")
    def traceback(self, call):
        text = call.result and call.result.traceback
        return show_traceback(text) if text else NOTHING

    @admin.display(description="result row")
    def result_row(self, call):
        if not call.result:
            return NOTHING
        view = "django_celery_results_taskresult_change"
        return self.link(view, call.result.pk, f"Task result {call.result.pk}")

    def link_to(self, call):
        return self.link("tasklog_taskcall_change", call.pk, call.task_id)

    # --- Doing ------------------------------------------------------------------------------------

    @admin.action(description="Retry: call again under a new id", permissions=["retry"])
    def retry(self, request, calls):
        self.do(request, calls, "retried", lambda call: call.retry().id)

    @admin.action(description="Resend: again under the same id", permissions=["resend"])
    def resend(self, request, calls):
        self.do(request, calls, "sent again", lambda call: call.resend().id)

    @admin.action(description="Revoke: keep from running", permissions=["revoke"])
    def revoke(self, request, calls):
        self.do(request, calls, "revoked", lambda call: revoke(call))

    @admin.action(description="Terminate: kill its process", permissions=["terminate"])
    def terminate(self, request, calls):
        self.do(request, calls, "terminated", lambda call: revoke(call, terminate=True))

    def do(self, request, calls, done_word, act):
        """Do something with each call, and say of how many it was done, and why not of others.

        Args:
            done_word (str): what is said to have happened.
            act (Callable[[TaskCall], str | None]): does it, and returns the task id that it has
                from then on. Raises ValueError where that makes no sense.
        """
        done, refused = [], []
        for call in calls.select_related("result").order_by("pk"):
            try:
                done.append((call, act(call)))
            except OperationalError as error:
                text = f"The broker is away ({error}). {call} and what follows it were left alone."
                self.message_user(request, text, messages.ERROR)
                break
            except Exception as error:  # a queue that is gone, say: the others can still be done
                expected = isinstance(error, NotReplayable)
                refused.append(str(error) if expected else f"{call}: {error!r}")
        if done:
            lines = [(self.outcome(call, task_id),) for call, task_id in done[:NAMED]]
            self.tell(request, messages.SUCCESS, len(done), done_word, lines)
        if refused:
            lines = [(reason,) for reason in refused[:NAMED]]
            self.tell(request, messages.WARNING, len(refused), f"not {done_word}", lines)

    def outcome(self, call, task_id):
        if task_id in (None, call.task_id):
            return self.link_to(call)
        new = TaskCall.objects.using(call._state.db).filter(task_id=task_id).first()
        return format_html("{} → {}", self.link_to(call), self.link_to(new) if new else task_id)

    def tell(self, request, level, number, what, lines):
        what = f"{number} {'call was' if number == 1 else 'calls were'} {what}."
        items = format_html_join("", "<li>{}</li>", lines)
        more = format_html("<li>… and {} more</li>", number - NAMED) if number > NAMED else ""
        self.message_user(request, format_html("{}<ul>{}{}</ul>", what, items, more), level)

    def has_retry_permission(self, request):
        return request.user.has_perm("tasklog.retry_taskcall")

    def has_resend_permission(self, request):
        return request.user.has_perm("tasklog.resend_taskcall")

    def has_revoke_permission(self, request):
        return request.user.has_perm("tasklog.revoke_taskcall")

    def has_terminate_permission(self, request):
        return request.user.has_perm("tasklog.terminate_taskcall")

    def delete_model(self, request, call):
        self.delete_queryset(request, TaskCall.objects.filter(pk=call.pk))

    def delete_queryset(self, request, calls):
        """Delete calls with their results, which nobody would find any more."""
        ids = list(calls.values_list("task_id", flat=True))
        TaskResult.objects.filter(task_id__in=ids).delete()
        TaskCall.objects.filter(task_id__in=ids).delete()


LABELS = {"retry": "Retry", "resend": "Resend", "revoke": "Revoke", "terminate": "Terminate"}


def revoke(call, terminate=False):
    """Revoke a call that has not ended.

    Raises:
        NotReplayable: it has.
        kombu.exceptions.OperationalError: the broker is away.
    """
    if call.status in states.READY_STATES:
        raise NotReplayable(f"{call} has ended: {call.status}.")
    call.revoke(terminate=terminate)


def badge(state):
    """A state as everywhere: the word and its colour."""
    return format_html(
        '<span class="tasklog-state tasklog-{}">{}</span>',
        state.lower() if state in STATES else "other",
        state,
    )


def moment(when):
    """A moment as people say it; the exact one is in the tooltip."""
    if not when:
        return NOTHING
    return format_html('<time title="{}">{}</time>', digits(when), naturaltime(when))


def exact(when):
    """A moment in digits, and as people say it."""
    return f"{digits(when)} ({naturaltime(when)})" if when else NOTHING


def digits(when):
    return f"{timezone.localtime(when):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def duration(start, end):
    """The time between two moments, which different clocks may have told."""
    if not start or not end:
        return NOTHING
    seconds = max(0, (end - start).total_seconds())
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, hours = seconds // 60, seconds // 3600
    return f"{minutes:.0f} min" if hours < 1 else f"{hours:.0f} h {minutes % 60:.0f} min"


class NamedResultFilter(NameFilter):
    def queryset(self, request, results):
        return results.filter(task_name=self.value()) if self.value() else results


class ResultStateFilter(StateFilter):
    """Result rows know nothing of what is scheduled."""

    def lookups(self, request, model_admin):
        return [(state, state) for state in STATES if state not in (SCHEDULED, SCHEDULED_SENT)]

    def queryset(self, request, results):
        return results.filter(status=self.value()) if self.value() else results


class TaskResultAdmin(Log, stock_results.TaskResultAdmin):
    """django-celery-results' admin, without what takes seconds with a million rows.

    Its filters asked the whole table for the names and workers that occur, its search looked for
    parts of each argument, and its pages counted all rows.
    """

    list_display = ["state", "task_name", "when", "worker", "periodic_task_name", "id_"]
    list_display_links = ["task_name"]
    list_filter = [ResultStateFilter, "date_done", NamedResultFilter]
    search_fields = ["task_id__exact", "task_name__exact", "worker__exact"]
    search_help_text = "A task id, the full name of a task, or a worker."
    ordering = ["-date_done"]

    def get_changelist(self, request, **kwargs):
        return ResultList

    def get_queryset(self, request):
        return ResultQuerySet(TaskResult).order_by(*self.ordering)

    @admin.display(description="state")
    def state(self, result):
        return badge(result.status)

    @admin.display(description="when")
    def when(self, result):
        return moment(result.date_done)


def replace(model, stock, ours):
    """Register an admin where the stock one is: whoever has registered another keeps it."""
    if admin.site.is_registered(model) and type(admin.site.get_model_admin(model)) is stock:
        admin.site.unregister(model)
        admin.site.register(model, ours)


admin.site.register(TaskCall, TaskCallAdmin)
replace(TaskResult, stock_results.TaskResultAdmin, TaskResultAdmin)

if apps.is_installed("django_celery_beat"):
    import django_celery_beat.admin as stock_beat
    from django_celery_beat.models import PeriodicTask

    from .periodic import RunNow

    class PeriodicTaskAdmin(RunNow, stock_beat.PeriodicTaskAdmin):
        """django-celery-beat's admin, with a "run now" that keeps all options."""

        # Its own has an inline script, which a Content-Security-Policy forbids. It put the chosen
        # crontab into words before it was saved; now those of the saved one stand below it.
        change_form_template = None

        def get_actions(self, request):
            """Its own actions that enable and disable ask for no right: all who see the list."""
            actions = super().get_actions(request)
            if not self.has_change_permission(request):
                for name in ("enable_tasks", "disable_tasks", "toggle_tasks"):
                    actions.pop(name, None)
            return actions

    replace(PeriodicTask, stock_beat.PeriodicTaskAdmin, PeriodicTaskAdmin)
