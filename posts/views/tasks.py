"""Calling tasks from views. Each view answers at once; the work happens in a worker."""

import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from celery import current_app, states
from django.conf import settings
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.forms import Form
from django.http import FileResponse, Http404, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import reswap, retarget, trigger_client_event

from ..access import staff_required
from ..lessons import LESSONS, Lesson, lesson_of, plan_of
from ..models import Export, Run
from ..progress import Progress, progress_of, read_progress
from ..runs import BrokerDown, cancel_run, start_run
from ..tasks.basics import add, sample_task
from ..tasks.export import export_blog
from ..tasks.workflow import collect_posts
from ..timeline import timeline_of
from ..workers import read_overview

RUNS_A_LESSON = 3
RUNS_A_PAGE = 20


@dataclass
class Row:
    """A run as the pages show it."""

    run: Run
    progress: Progress

    @property
    def lesson(self):
        return lesson_of(self.run)

    @property
    def queue(self):
        return current_app.amqp.router.route({}, self.run.task)["queue"].name

    @property
    def tries(self):
        """How often it may be tried in all."""
        task = current_app.tasks.get(self.run.task)
        return 1 + (task.max_retries or 0) if task else None

    @property
    def attempt(self):
        return self.progress.retries + 1

    @property
    def timeline(self):
        return timeline_of(self.progress)

    @property
    def key(self):
        """What the page sends to ask whether something has changed."""
        return f"{self.run.task_id}.{self.progress.version}"


@dataclass
class Card:
    """A lesson with its form and its newest runs."""

    lesson: Lesson
    form: Form
    rows: list[Row] = field(default_factory=list)


def as_rows(runs):
    """Read how runs go, all at once. Returns a list of Row."""
    runs = list(runs)
    return [
        Row(run, progress) for run, progress in zip(runs, read_progress(runs, plan_of), strict=True)
    ]


def live(rows):
    return [row for row in rows if not row.progress.settled]


def settled(rows):
    return [str(row.run.task_id) for row in rows if row.progress.settled]


def newest_runs(tasks=None):
    """Choose the newest runs of each task, in one query.

    Args:
        tasks (Iterable[str] | None): names of tasks; None for all.
    """
    rank = Window(RowNumber(), partition_by=F("task"), order_by=F("pk").desc())
    runs = Run.objects.recent().select_related("started_by")
    if tasks is not None:
        runs = runs.filter(task__in=tasks)
    return runs.annotate(rank=rank).filter(rank__lte=RUNS_A_LESSON)


@never_cache
def dashboard(request, failed_form=None):
    """Show the lessons, each with its form and its newest runs; to strangers, what that is."""
    if not request.user.is_authenticated:
        context = {"rows": samples(), "debug_site": settings.DEBUG}
        return render(request, "posts/tasks/about.html", context)
    return staff_dashboard(request, failed_form)


@staff_required
def staff_dashboard(request, failed_form=None):
    cards = {name: Card(lesson, make_form(lesson)) for name, lesson in LESSONS.items()}
    if failed_form:
        cards[failed_form.prefix].form = failed_form
    rows = as_rows(newest_runs())
    for row in rows:
        if row.lesson and len(cards[row.lesson.name].rows) < RUNS_A_LESSON:
            cards[row.lesson.name].rows.append(row)
    shown = [row for card in cards.values() for row in card.rows]
    context = {"cards": cards.values(), "live": live(shown), "ended": settled(shown)}
    context["page"] = "dashboard"
    return render(request, "posts/tasks/dashboard.html", context)


def make_form(lesson, data=None):
    return lesson.form_class(data, prefix=lesson.name, auto_id="id_%s")


@staff_required
@require_POST
def start(request, name):
    """Start a lesson's task, or with `break` in the form one that fails in a certain way."""
    if name not in LESSONS:
        raise Http404(f"There is no task called {name!r}.")
    lesson = LESSONS[name]
    if "break" in request.POST:
        ways = {way.name: way for way in lesson.breaks}
        if request.POST["break"] not in ways:
            raise Http404(f"There is no way called {request.POST['break']!r} to break {name}.")
        way = ways[request.POST["break"]]
        return act(request, lesson, lambda: start_run(request.user, way.task, **way.arguments))
    form = make_form(lesson, request.POST)
    if form.is_valid():
        return act(request, lesson, lambda: lesson.start(request.user, form.cleaned_data))
    if request.htmx:
        context = {"card": Card(lesson, form)}
        response = render(request, "posts/tasks/_lesson_form.html", context)
        return reswap(retarget(response, f"#form-{name}"), "outerHTML")
    return dashboard(request, failed_form=form)


@staff_required
@require_POST
def again(request, task_id):
    """Start a task once more with the same arguments, for whoever asks."""
    run = get_object_or_404(Run.objects.recent(), task_id=task_id)
    lesson = lesson_of(run)
    if lesson is None:
        raise Http404(f"{run.task} is not started from this page.")
    if run.task == lesson.task.name:
        return act(request, lesson, lambda: lesson.start(request.user, run.arguments))
    task = current_app.tasks[run.task]
    return act(request, lesson, lambda: start_run(request.user, task, **run.arguments))


@staff_required
@require_POST
def cancel(request, task_id):
    """Stop a run that works, and keep one that waits from starting."""
    run = get_object_or_404(Run.objects.recent(), task_id=task_id)
    return act(request, lesson_of(run), lambda: cancel_run(run, plan_of(run)))


def act(request, lesson, action):
    """Do what a button says, and show what came of it.

    Without scripts: go back to where the button is. For htmx: the lesson's runs, and what the page
    asks for from now on.

    Args:
        request (HttpRequest): a POST.
        lesson (Lesson | None): what the button belongs to.
        action (Callable): may raise BrokerDown.

    Returns:
        HttpResponse: to hand out.
    """
    try:
        action()
    except BrokerDown as error:
        if request.htmx:
            context = {"lesson": lesson, "error": error}
            response = render(request, "posts/tasks/_note.html", context)
            return reswap(retarget(response, f"#note-{lesson.name}"), "outerHTML")
        messages.error(request, str(error))
        return redirect("posts:tasks")
    if not request.htmx:
        return redirect(way_back(request, lesson))
    rows = as_rows(newest_runs(lesson.tasks))[:RUNS_A_LESSON]
    # What else the page shows goes on being asked for, and is compared at the next poll.
    mine = {str(row.run.task_id) for row in rows}
    others = [key for key in request.POST.getlist("run") if key.partition(".")[0] not in mine]
    context = {"lesson": lesson, "rows": rows, "live": live(rows), "others": others}
    ended = [key for key in request.POST.getlist("ended") if key not in mine]
    context |= {"ended": ended + settled(rows), "page": "dashboard"}
    response = render(request, "posts/tasks/_acted.html", context)
    return trigger_client_event(response, "runs-polled")


def way_back(request, lesson):
    """Return the address of the page where a button was pressed."""
    back = request.POST.get("next", "")
    hosts = {request.get_host()}
    if url_has_allowed_host_and_scheme(back, hosts, require_https=request.is_secure()):
        return back
    return reverse("posts:tasks") + (f"#lesson-{lesson.name}" if lesson else "")


@staff_required
@never_cache
@require_safe
def poll(request):
    """Tell a page which of its runs have changed: two queries, however many there are.

    It sends each run with the version that it shows, and those that have ended, of which only the
    words «3 s ago» grow old. When nothing is left to wait for, the answer takes the page's polling
    away.
    """
    known = dict(key.partition(".")[::2] for key in request.GET.getlist("run"))
    ended = request.GET.getlist("ended")
    asked = [key for key in (*known, *ended) if is_uuid(key)]
    runs = list(Run.objects.recent().select_related("started_by").filter(task_id__in=asked))
    rows = as_rows(run for run in runs if str(run.task_id) in known)
    changed = [row for row in rows if known[str(row.run.task_id)] != row.progress.version]
    context = {
        "runs": runs,
        "changed": changed,
        "ticking": [row for row in rows if row.progress.running and row not in changed],
        "said": [row for row in changed if row.progress.finished],
        "live": live(rows),
        "ended": ended + settled(rows),
        "page": request.GET.get("page", ""),
    }
    response = render(request, "posts/tasks/_poll.html", context)
    return trigger_client_event(response, "runs-polled" if context["live"] else "runs-settled")


def is_uuid(text):
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


@staff_required
@never_cache
@require_safe
def workers(request):
    """The head of the page: which queues are served, by whom. Takes a second."""
    return render(request, "posts/tasks/_workers.html", {"overview": read_overview()})


@staff_required
@never_cache
def runs(request):
    """Show all runs, newest first."""
    found = Run.objects.recent().select_related("started_by")
    page = Paginator(found, RUNS_A_PAGE).get_page(request.GET.get("page"))
    rows = as_rows(page)
    context = {"pages": page, "rows": rows, "live": live(rows), "ended": settled(rows)}
    context["page"] = "runs"
    return render(request, "posts/tasks/runs.html", context)


@staff_required
@never_cache
def run(request, task_id):
    """Show one run with all that is known of it."""
    found = Run.objects.recent().select_related("started_by")
    row = as_rows([get_object_or_404(found, task_id=task_id)])[0]
    context = {"row": row, "live": live([row]), "page": "run"}
    return render(request, "posts/tasks/run.html", context)


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


def samples():
    """Make up runs for those who may not see real ones."""
    now = timezone.now()

    def ago(seconds):
        return now - timedelta(seconds=seconds)

    def sample(task, begun, progress, **arguments):
        progress.sent = ago(begun)
        run = Run(
            task_id="00000000-0000-4000-8000-000000000000",
            task=task.name,
            arguments=arguments,
            created_at=progress.sent,
        )
        return Row(run, progress)

    def done(name, worker, begun, ended, state=states.SUCCESS):
        return Progress(state, name, worker, started=ago(begun), ended=ago(ended))

    parts = [
        done("collect_posts", "celery@web-1", 70, 68.2),
        done("count_words", "celery@web-1", 68.1, 65.3),
        done("count_links", "celery@web-2", 68.1, 66),
        done("combine_report", "celery@web-2", 65.2, 64),
    ]
    report = done("collect_posts", "celery@web-1, celery@web-2", 70, 64)
    report.parts = parts
    report.result = {"words": 4213, "minutes": 23, "links": 31, "hosts": 17}
    export_run = Progress("PROGRESS", "export_blog", "slow@web-1", done=5, total=8)
    export_run.started = ago(9.4)
    failed = done("collect_posts", "celery@web-1", 300, 299.9, states.FAILURE)
    failed.error = "TypeError: unsupported operand type(s) for +: 'int' and 'str'"
    return [
        sample(export_blog, 9.5, export_run, owner_id=1),
        sample(collect_posts, 70.1, report, seconds=2, fail=""),
        sample(add, 300.1, failed, x=2, y="3", seconds=0),
    ]
