"""Running a periodic task of django-celery-beat now, as beat would run it."""

from celery import current_app
from django.contrib import admin, messages
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django_celery_beat.schedulers import ModelEntry
from kombu.exceptions import OperationalError


def run_now(task):
    """Call a periodic task with all that its row says.

    Those are arguments, queue, exchange, routing key, priority, headers and expiry, as beat itself
    reads them. When it runs next by its schedule does not change.

    Args:
        task (PeriodicTask): enabled or not.

    Returns:
        AsyncResult: of the call.

    Raises:
        ValueError: it has expired, or no task of that name is known here.
        kombu.exceptions.OperationalError: the broker is away, and there is no outbox.
    """
    current_app.loader.import_default_modules()
    if task.task not in current_app.tasks:
        raise ValueError(f"“{task.name}” is for the task {task.task}, which does not exist.")
    if task.expires and task.expires <= timezone.now():
        raise ValueError(f"“{task.name}” has expired ({task.expires}): workers would drop it.")
    entry = ModelEntry(task, app=current_app)
    return current_app.tasks[task.task].apply_async(entry.args, entry.kwargs, **entry.options)


class RunNow:
    """For a ModelAdmin of PeriodicTask: an action that replaces django-celery-beat's own.

    That one drops expiry, priority, exchange, routing key and headers.
    """

    @admin.action(description="Run selected tasks now", permissions=["change"])
    def run_tasks(self, request, queryset):
        """Call them, and say under which ids."""
        done, refused = [], []
        for task in queryset:
            try:
                done.append((task.name, run_now(task).id))
            except OperationalError as error:
                self.message_user(request, f"The broker is away: {error}", messages.ERROR)
                break
            except Exception as error:  # the others can still be run
                refused.append((str(error) or repr(error),))
        if done:
            ids = format_html_join("", "<li>{}: {}</li>", done)
            number = "1 task was" if len(done) == 1 else f"{len(done)} tasks were"
            text = format_html("{} called.<ul>{}</ul>", number, ids)
            self.message_user(request, text, messages.SUCCESS)
        if refused:
            reasons = format_html_join("", "<li>{}</li>", refused)
            text = format_html("{} not called.<ul>{}</ul>", len(refused), reasons)
            self.message_user(request, text, messages.WARNING)
