"""Periodic tasks of django-celery-beat in the admin."""

from celery import current_app
from django.contrib import admin
from django.utils import timezone
from django_celery_beat import admin as stock
from django_celery_beat.schedulers import ModelEntry

from .actions import do_each
from .models import NotReplayable


def run_now(task):
    """Call a periodic task (PeriodicTask) with all that its row says, as beat reads it.

    Returns:
        AsyncResult: of the call.

    Raises:
        NotReplayable: it has expired, or no task of that name is known here.
        kombu.exceptions.OperationalError: the broker is away, and there is no outbox.
    """
    current_app.loader.import_default_modules()
    if task.task not in current_app.tasks:
        raise NotReplayable(f"“{task.name}” is for the task {task.task}, which does not exist.")
    if task.expires and task.expires <= timezone.now():
        raise NotReplayable(f"“{task.name}” has expired ({task.expires}): workers would drop it.")
    entry = ModelEntry(task, app=current_app)
    return current_app.tasks[task.task].apply_async(entry.args, entry.kwargs, **entry.options)


class PeriodicTaskAdmin(stock.PeriodicTaskAdmin):
    """django-celery-beat's admin.

    Its own "run now" drops expiry, priority, exchange, routing key and headers.
    """

    # Its own has an inline script, which a Content-Security-Policy forbids.
    change_form_template = None

    def get_actions(self, request):
        """Its own actions that enable and disable ask for no permission."""
        actions = super().get_actions(request)
        if self.has_change_permission(request):
            return actions
        return {name: actions[name] for name in actions if name == "delete_selected"}

    @admin.action(description="Run selected tasks now", permissions=["change"])
    def run_tasks(self, request, queryset):
        do_each(self, request, queryset, "called", lambda task: f"{task.name}: {run_now(task).id}")
