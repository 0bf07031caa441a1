"""Calls, results and periodic tasks in Django's admin.

With an AdminSite of your own: ``site.register(TaskCall, TaskCallAdmin)``.
"""

from datetime import timedelta
from functools import cache, partial

from celery import current_app, states
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django_celery_results import admin as stock_results
from django_celery_results.models import TaskResult

from .actions import NAMED, do_each
from .changelist import CallList, ResultList, ResultQuerySet
from .highlight import printable, show_json, show_stored, show_traceback
from .models import SCHEDULED, SCHEDULED_SENT, NotReplayable, TaskCall

STATES = (
    SCHEDULED, SCHEDULED_SENT, states.PENDING, states.STARTED, "PROGRESS", states.RETRY,
    states.SUCCESS, states.FAILURE, states.REVOKED,
)  # fmt: skip
NOTHING = "–"


@cache
def known_tasks():
    """Return the names (list[str]) of all tasks."""
    current_app.loader.import_default_modules()  # a web process may not have
    return sorted(current_app.tasks)


class Choice(admin.SimpleListFilter):
    """Offers what the site knows. To see which values occur, a database reads all rows."""

    def lookups(self, request, model_admin):
        return [(value, value) for value in self.known()]

    def queryset(self, request, calls):
        return calls.filter(**{self.parameter_name: self.value()}) if self.value() else calls


class StateFilter(Choice):
    title = parameter_name = "state"

    def known(self):
        return STATES

    def queryset(self, request, calls):
        return calls.in_state(self.value()) if self.value() else calls


class QueueFilter(Choice):
    title = parameter_name = "queue"

    def known(self):
        return sorted(current_app.amqp.queues)


class NameFilter(Choice):
    title, parameter_name = "task", "name"
    template = "admin/tasklog/closed_filter.html"

    def known(self):
        """All but what Celery's canvas is made of."""
        return [name for name in known_tasks() if not name.startswith("celery.")]


class StatusFilter(Choice):
    title, parameter_name = "state", "status"

    def known(self):
        return STATES[2:]  # results know nothing of what is scheduled


class Log:
    """What the admins of calls and results share: people look, and may delete."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # they would count all rows
    sortable_by = ()

    class Media:
        css = {"all": ["tasklog/admin.css"]}

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def response_action(self, request, queryset):
        """Refuse what is meant for all pages: nobody has seen them."""
        if request.POST.get("select_across") == "1":
            text = "Choose from this page. For more calls there is the command retry_tasks."
            return self.message_user(request, text, messages.ERROR)
        return super().response_action(request, queryset)

    @admin.display(description="state")
    def state(self, row):
        return badge(row.status)

    @admin.display(description="task id")
    def id_(self, row):
        return format_html('<span class="tasklog-id" title="{0}">{0}</span>', row.task_id)


def column(label, read):
    """A column or field: what `read` makes of a call."""
    return admin.display(description=label)(lambda self, call: read(call) or NOTHING)


def result(call):
    return call.result or TaskResult()


class TaskCallAdmin(Log, admin.ModelAdmin):
    list_display = ["state", "name", "when", "waited", "ran", "queue", "worker", "id_"]
    list_display_links = ["name"]
    list_filter = [StateFilter, QueueFilter, NameFilter]
    search_fields = ["task_id"]
    search_help_text = "A task id, or the name of a task: all of it, or its last part."
    fieldsets = [
        (None, {"fields": ["state", "name", "id_", "queue", "worker"]}),
        ("Call", {"fields": ["positional", "named", "options_", "retry_of_", "retries_"]}),
        ("Times", {"fields": ["called", "eta_", "claimed", "sent", "started", "heard_of",
                              "waited", "ran"]}),
        ("Result", {"fields": ["value", "traceback"]}),
    ]  # fmt: skip
    readonly_fields = [name for _, section in fieldsets for name in section["fields"]]

    when = column("called", lambda call: moment(call.submitted_at))
    called = column("called", lambda call: exact(call.submitted_at))
    eta_ = column("ETA", lambda call: exact(call.eta))
    claimed = column("claimed by a dispatcher", lambda call: exact(call.claimed_at))
    sent = column("sent", lambda call: exact(call.sent_at))
    started = column("started", lambda call: exact(result(call).date_started))
    heard_of = column("last heard of", lambda call: exact(result(call).date_done))
    waited = column("waited", lambda call: duration(call.sent_at, result(call).date_started))
    ran = column("ran", lambda call: duration(result(call).date_started, ended_at(call)))
    worker = column("worker", lambda call: result(call).worker)
    positional = column("positional arguments", lambda call: arguments(call, "args"))
    named = column("keyword arguments", lambda call: arguments(call, "kwargs"))
    options_ = column("options", lambda call: show_json(call.options))
    value = column("result", lambda call: show_stored(call.result))
    traceback = column("traceback", lambda call: show_traceback(result(call).traceback))

    @admin.display(description="retries the call")
    def retry_of_(self, call):
        return self.link(call.retry_of) if call.retry_of else NOTHING

    @admin.display(description="retried by")
    def retries_(self, call):
        retries = call.retries.select_related("result").without_messages().order_by("pk")[:NAMED]
        lines = [(self.link(retry), badge(retry.status)) for retry in retries]
        return format_html_join(mark_safe("<br>"), "{} {}", lines) or NOTHING

    def link(self, call):
        view = "admin:tasklog_taskcall_change"
        url = reverse(view, args=[call.pk], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, call.task_id)

    def change_view(self, request, object_id, form_url="", extra_context=None):
        allowed = [name for name in ACTIONS if self.may(request, name)]
        context = {"call_actions": allowed, "ended": states.READY_STATES, "title": "Call"}
        context |= extra_context or {}
        return super().change_view(request, object_id, form_url, context)

    def get_changelist(self, request, **kwargs):
        return CallList

    def get_search_results(self, request, queryset, term):
        """Search by task id or exact name, which have an index."""
        if not (term := term.strip()):
            return queryset, False
        names = [name for name in known_tasks() if f".{name}".endswith(f".{term}")]
        if names or TaskCall.objects.filter(name=term).exists():  # one that was known once
            return queryset.filter(name__in=names or [term]), False
        return queryset.filter(task_id=term), False

    def may(self, request, action):
        return request.user.has_perm(f"tasklog.{action}_taskcall")

    def get_actions(self, request):
        return super().get_actions(request) | {
            name: (partial(TaskCallAdmin.do, name=name), name, label)
            for name, (label, *_) in ACTIONS.items()
            if self.may(request, name)
        }

    def do(self, request, calls, name):
        """Do one of ACTIONS with each call, and say which ids they have from then on."""
        _, done, act = ACTIONS[name]

        def outcome(call):
            sent = act(call)
            if sent is None or sent.id == call.task_id:
                return self.link(call)
            new = TaskCall.objects.using(call._state.db).get(task_id=sent.id)
            return format_html("{} → {}", self.link(call), self.link(new))

        do_each(self, request, calls.select_related("result").order_by("pk"), done, outcome)

    def delete_model(self, request, call):
        self.delete_queryset(request, TaskCall.objects.filter(pk=call.pk))

    def delete_queryset(self, request, calls):
        """Delete calls with their results."""
        ids = list(calls.values_list("task_id", flat=True))
        TaskResult.objects.filter(task_id__in=ids).delete()
        TaskCall.objects.filter(task_id__in=ids).delete()


def revoke(call, terminate=False):
    if call.status in states.READY_STATES:
        raise NotReplayable(f"{call} has ended: {call.status}.")
    call.revoke(terminate=terminate)


# What is done with calls: how it is offered, the word when it is done, and how.
ACTIONS = {
    "retry": ("Retry: call again under a new id", "retried", TaskCall.retry),
    "resend": ("Resend: again under the same id", "sent again", TaskCall.resend),
    "revoke": ("Revoke: keep from running", "revoked", revoke),
    "terminate": ("Terminate: kill its process", "terminated", partial(revoke, terminate=True)),
}


def arguments(call, which):
    """The "args" or "kwargs" of a call, as far as its caller shows them."""
    if call.replayable:
        return show_json(getattr(call, which))
    return printable(f"hidden by the caller: {call.options.get(f'{which}repr', 'all')}")


def badge(state):
    colour = state.lower() if state in STATES else "other"
    return format_html('<span class="tasklog-state tasklog-{}">{}</span>', colour, state)


def moment(when):
    return format_html('<time title="{}">{}</time>', exact(when), naturaltime(when))


def exact(when):
    return when and f"{timezone.localtime(when):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def ended_at(call):
    return result(call).date_done if call.status in states.READY_STATES else timezone.now()


def duration(start, end):
    """The time between two moments, which different clocks may have told."""
    if not start or not end:
        return None
    seconds = max(0, (end - start).total_seconds())
    return f"{seconds:.2f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


class TaskResultAdmin(Log, stock_results.TaskResultAdmin):
    """django-celery-results' admin, without the filters and searches that read the whole table."""

    list_display = ["state", "task_name", "date_done", "worker", "periodic_task_name", "id_"]
    list_display_links = ["task_name"]
    list_filter = [StatusFilter, "date_done"]
    search_fields = ["task_id__exact", "task_name__exact", "worker__exact"]
    search_help_text = "A task id, the full name of a task, or a worker."

    def get_changelist(self, request, **kwargs):
        return ResultList

    def get_queryset(self, request):
        return ResultQuerySet(TaskResult)


def replace(model, stock, ours):
    """Register an admin in place of the stock one, but not of another."""
    if admin.site.is_registered(model) and type(admin.site.get_model_admin(model)) is stock:
        admin.site.unregister(model)
        admin.site.register(model, ours)


admin.site.register(TaskCall, TaskCallAdmin)
replace(TaskResult, stock_results.TaskResultAdmin, TaskResultAdmin)

if apps.is_installed("django_celery_beat"):
    from . import periodic

    stock = periodic.stock.PeriodicTaskAdmin
    replace(stock.model, stock, periodic.PeriodicTaskAdmin)
