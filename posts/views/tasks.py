"""Calling tasks from views. Each view answers at once; the work happens in a worker."""

from dataclasses import dataclass
from inspect import getdoc

from celery import Task
from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.forms import Form
from django.http import FileResponse, Http404, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from ..access import staff_required
from ..models import Export, Run
from ..runs import BrokerDown, progress_of, start_run
from ..task_forms import AddForm, FailSometimesForm, SampleForm
from ..tasks.basics import add, fail_sometimes, sample_task
from ..tasks.export import export_blog


@dataclass
class Lesson:
    """A task that can be started from the page, and the form with its arguments."""

    task: Task
    form_class: type[Form]

    @property
    def name(self):
        return self.task.__name__

    @property
    def summary(self):
        return getdoc(self.task.run).splitlines()[0]


LESSONS = {
    lesson.name: lesson
    for lesson in (
        Lesson(add, AddForm),
        Lesson(fail_sometimes, FailSometimesForm),
        Lesson(sample_task, SampleForm),
    )
}


@staff_required
@never_cache
def dashboard(request, failed_form=None):
    """Show the tasks that can be started, and the newest runs."""
    cards = []
    for lesson in LESSONS.values():
        form = lesson.form_class(prefix=lesson.name)
        if failed_form and failed_form.prefix == lesson.name:
            form = failed_form
        cards.append((lesson, form))
    runs = Run.objects.recent().select_related("started_by")
    page = Paginator(runs, 20).get_page(request.GET.get("page"))
    rows = [(run, progress_of(run)) for run in page]
    context = {"cards": cards, "page": page, "rows": rows}
    return render(request, "posts/tasks/dashboard.html", context)


@staff_required
@require_POST
def start(request, name):
    """Start one of the lessons' tasks and go back to the page, which shows it."""
    if name not in LESSONS:
        raise Http404(f"There is no task called {name!r}.")
    form = LESSONS[name].form_class(request.POST, prefix=name)
    if not form.is_valid():
        return dashboard(request, failed_form=form)
    try:
        start_run(request.user, LESSONS[name].task, **form.cleaned_data)
    except BrokerDown as error:
        messages.error(request, str(error))
    return redirect("posts:tasks")


@staff_required
@never_cache
def run(request, task_id):
    """Show one run: a page of its own, or for htmx the row that replaces the one on the page."""
    run = get_object_or_404(Run.objects.recent(), task_id=task_id)
    progress = progress_of(run)
    if request.htmx:
        return render(request, "posts/tasks/_run.html", {"run": run, "progress": progress})
    return render(request, "posts/tasks/run.html", {"run": run, "rows": [(run, progress)]})


@method_decorator([staff_required, never_cache], name="dispatch")
class SampleView(View):
    """Send `sample_task` and answer with its id as JSON, at once.

    A GET that starts work is fine to show with a browser; use POST for work that matters.
    """

    def get(self, request):
        try:
            run = start_run(request.user, sample_task, name=request.user.get_username())
        except BrokerDown as error:
            return JsonResponse({"error": str(error)}, status=503)
        return JsonResponse({"task_id": str(run.task_id), "status": "sent"})


@staff_required
@never_cache
def export(request):
    """The slow form: one button. The answer comes at once, the archive about 15 seconds later."""
    if request.method == "POST":
        try:
            run = start_run(request.user, export_blog, owner_id=request.user.pk)
        except BrokerDown as error:
            messages.error(request, str(error))
            return redirect("posts:export")
        return redirect("posts:export_status", task_id=run.task_id)
    exports = Export.objects.filter(owner=request.user)[:10]
    context = {"exports": exports, "seconds": settings.EXPORT_SECONDS}
    return render(request, "posts/tasks/export.html", context)


@staff_required
@never_cache
def export_status(request, task_id):
    """Show how far an export is: a page, or for htmx the part of it that moves."""
    mine = Run.objects.recent().filter(task=export_blog.name, started_by=request.user)
    run = get_object_or_404(mine, task_id=task_id)
    template = "posts/tasks/_export.html" if request.htmx else "posts/tasks/export_status.html"
    return render(request, template, {"run": run, "progress": progress_of(run)})


@staff_required
@never_cache
def download(request, task_id):
    """Hand an export to the one who asked for it, and to nobody else."""
    export = get_object_or_404(Export, task_id=task_id, owner=request.user)
    filename = f"blog-{export.created_at:%Y-%m-%d}.zip"
    return FileResponse(export.file.open(), as_attachment=True, filename=filename)
