"""What the page of tasks teaches: a card a lesson, in this order."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from celery import Task
from django.forms import Form
from django.utils.safestring import mark_safe
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from . import images
from .exports import write_export
from .models import Run
from .runs import Plan, start_run
from .task_forms import (
    AddForm,
    BusyForm,
    FailSometimesForm,
    FeedForm,
    NewsletterForm,
    NoForm,
    PostForm,
    ReportForm,
    SampleForm,
)
from .tasks import basics, export, failures, feeds, newsletter, publishing, upkeep, workflow
from .tasks.images import make_thumbnail, make_thumbnails

ALONE = Plan()


@dataclass(frozen=True)
class Break:
    """A button that makes a task fail in one certain way."""

    name: str
    label: str
    task: Task
    arguments: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A card: what it teaches in one sentence, the task, the form with its arguments.

    ``send(run_id, arguments)`` starts what is more than one task. ``own(user)`` gives arguments
    that no form asks for. ``source`` lists further functions to show beside the task.
    """

    name: str
    title: str
    text: str
    task: Task
    form_class: type[Form] = NoForm
    plan: Plan = ALONE
    breaks: tuple[Break, ...] = ()
    source: tuple[Callable, ...] = ()
    send: Callable | None = None
    own: Callable = lambda user: {}

    @property
    def task_name(self):
        """The task's name without its module. For templates, which would call the task itself."""
        return self.task.__name__

    @property
    def tasks(self):
        """The names of the tasks whose runs belong to the card."""
        return {self.task.name, *(way.task.name for way in self.breaks)}

    @cached_property
    def code(self):
        """The source of the lesson as it stands, as highlighted HTML."""
        shown = [*self.source] if self.source else [self.task]
        shown += [way.task for way in self.breaks]
        functions = dict.fromkeys(inspect.unwrap(getattr(one, "run", one)) for one in shown)
        text = "\n\n".join(inspect.getsource(function) for function in functions)
        return mark_safe(highlight(text, PythonLexer(), HtmlFormatter(cssclass="code")))

    def start(self, user, arguments):
        """Start the lesson's task. See `posts.runs.start_run`.

        Args:
            user (User): who asked.
            arguments (dict): from the form.

        Returns:
            Run: the record.
        """
        arguments = {**arguments, **self.own(user)}
        send = self.send and (lambda run_id: self.send(run_id, **arguments))
        return start_run(user, self.task, send, **arguments)


def send_report(run_id, **arguments):
    workflow.blog_report(run_id, **arguments).apply_async()


LESSONS = {
    lesson.name: lesson
    for lesson in (
        Lesson(
            "add",
            "A slow answer",
            "The page answers at once; a worker adds the numbers and stores the sum.",
            basics.add,
            AddForm,
        ),
        Lesson(
            "sample_task",
            "Another process",
            "What a task prints stands in the worker's log, not in the web server's.",
            basics.sample_task,
            SampleForm,
        ),
        Lesson(
            "fail_sometimes",
            "Failure",
            "A failed task is stored with its exception and traceback; nothing else stops.",
            basics.fail_sometimes,
            FailSometimesForm,
            breaks=(
                Break("raise", "Raise", basics.fail_sometimes, {"value": "glass", "chance": 1}),
                Break("soft", "Exceed the soft limit", failures.overrun),
                Break("hard", "Exceed the hard limit", failures.overrun, {"stubborn": True}),
                Break("kill", "Kill its process", failures.kill_own_process),
            ),
        ),
        Lesson(
            "retry",
            "Try again",
            "A service that is busy is asked again after 1 and 2 seconds, then given up.",
            failures.call_busy_service,
            BusyForm,
        ),
        Lesson(
            "export",
            "The slow form",
            "All posts in one archive, in the queue for slow work: with progress, a cancel that "
            "leaves nothing behind, and a download for you alone.",
            export.export_blog,
            source=(export.export_blog, write_export),
            own=lambda user: {"owner_id": user.pk},
        ),
        Lesson(
            "images",
            "A group",
            "One task for each size of a cover: work for the processor, spread over workers.",
            make_thumbnails,
            PostForm,
            plan=Plan(parts=images.WIDTHS),
            source=(make_thumbnails, make_thumbnail),
        ),
        Lesson(
            "report",
            "A workflow",
            "One task, then two at the same time, then one that has both results; whichever "
            "fails, one callback hears of it.",
            workflow.collect_posts,
            ReportForm,
            plan=Plan(
                parts=("count_words", "count_links", "combine_report"),
                ends=("combine_report",),
                result_of="combine_report",
                on_error="report_failed",
            ),
            source=(
                workflow.blog_report,
                workflow.collect_posts,
                workflow.count_words,
                workflow.combine_report,
                workflow.report_failed,
            ),
            send=send_report,
        ),
        Lesson(
            "newsletter",
            "A mail to many",
            "Batches side by side, each recipient claimed before the mail: run it again, and "
            "nobody gets a second one.",
            newsletter.send_newsletter,
            NewsletterForm,
            source=(newsletter.send_newsletter, newsletter.send_batch),
        ),
        Lesson(
            "feeds",
            "Over the network",
            "Drafts of what another site has published; a server that is away is asked again, an "
            "address that is wrong is not.",
            feeds.import_feed,
            FeedForm,
            own=lambda user: {"author_id": user.pk},
        ),
        Lesson(
            "publishing",
            "Every minute",
            "What beat sends each minute: posts whose date has come are published, once.",
            publishing.publish_due_posts,
        ),
        Lesson(
            "upkeep",
            "Every night",
            "Old exports go; run twice, by hand or by two beats, it finds nothing left to do.",
            upkeep.remove_old_exports,
        ),
    )
}
LESSON_OF = {name: lesson for lesson in LESSONS.values() for name in lesson.tasks}


def lesson_of(run: Run):
    """Return the lesson that a run belongs to, or None: tasks are started elsewhere too."""
    return LESSON_OF.get(run.task)


def plan_of(run: Run):
    """Return the parts of a run."""
    lesson = lesson_of(run)
    return lesson.plan if lesson and lesson.task.name == run.task else ALONE
