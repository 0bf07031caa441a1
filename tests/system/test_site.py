"""The whole site: gunicorn, a worker, and somebody who visits them."""

import io
import json
import re
import time
import zipfile

import pytest
from django_celery_results.models import TaskResult

from posts.models import Run
from tests.services import Visitor, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def editor(web, staff):
    visitor = Visitor(web.url)
    visitor.sign_in("editor", "correct horse")
    return visitor


def row_of(run, status):
    return wait_for(
        lambda: TaskResult.objects.filter(task_id=run.task_id, status=status).first(),
        lambda: f"{status} of {run}: {TaskResult.objects.filter(task_id=run.task_id).values()}",
    )


def test_from_a_click_to_a_stored_row(worker, editor):
    """The task's name, arguments, worker and result are in the database and on the page."""
    page = editor.post("/tasks/run/add/", **{"add-x": 20, "add-y": 22, "add-seconds": 0})
    assert page.url.endswith("/tasks/#lesson-add")
    run = Run.objects.get()
    assert (run.task, run.started_by.username) == ("posts.tasks.basics.add", "editor")
    row = row_of(run, "SUCCESS")
    assert (row.task_name, row.result) == ("posts.tasks.basics.add", "42")
    assert row.worker.startswith("test")
    assert "'x': 20" in row.task_kwargs
    page = editor.get("/tasks/").text
    assert "state-success" in page
    assert "x=20, y=22, seconds=0.0" in page
    assert row.worker in page


def test_a_failure_shows_its_traceback(worker, editor):
    fields = {"fail_sometimes-value": "a <b>parcel</b>", "fail_sometimes-chance": 1}
    editor.post("/tasks/run/fail_sometimes/", **fields)
    row_of(Run.objects.get(), "FAILURE")
    page = editor.get("/tasks/").text
    assert "ValueError: Something went wrong with &#x27;a &lt;b&gt;parcel&lt;/b&gt;&#x27;" in page
    assert "in fail_sometimes" in page
    assert "<b>parcel" not in page


def test_sample_view_answers_at_once_and_the_worker_prints(worker, web, editor):
    """C10, C11: the greeting is in the worker's log, and not in the web server's."""
    answer = editor.get("/tasks/sample/")
    task_id = json.loads(answer.text)["task_id"]
    line = f"posts.tasks.basics.sample_task[{task_id}] Hello editor, this is the worker speaking."
    worker.wait_for_output(line)
    assert "this is the worker speaking" not in web.output


def test_the_slow_form(worker, editor, make_posts):
    """C1: the answer comes at once, the archive later, and only its owner gets it."""
    make_posts(3)
    before = time.monotonic()
    page = editor.post("/tasks/export/")
    answered_after = time.monotonic() - before
    task_id = re.search(r"/tasks/export/([0-9a-f-]{36})/", page.url)[1]
    row = row_of(Run.objects.get(), "SUCCESS")
    assert (row.date_done - row.date_started).total_seconds() > answered_after
    page = editor.get(f"/tasks/export/{task_id}/").text
    assert "Download the archive" in page
    download = editor.opener.open(f"{editor.url}/tasks/export/{task_id}/download/")
    assert "attachment" in download.headers["Content-Disposition"]
    names = zipfile.ZipFile(io.BytesIO(download.read())).namelist()
    assert names == ["posts/post-0.md", "posts/post-1.md", "posts/post-2.md"]


def test_each_line_of_the_workers_log_names_its_task_once(worker, editor):
    editor.post("/tasks/run/add/", **{"add-x": 1, "add-y": 2, "add-seconds": 0})
    run = Run.objects.get()
    worker.wait_for_output(f"Task posts.tasks.basics.add[{run.task_id}] succeeded")
    assert worker.output.count(f"add[{run.task_id}] received") == 1


def test_the_web_log_has_one_line_a_request(web, editor):
    editor.get("/archive/")
    web.wait_for_output('"GET /archive/ HTTP/1.1" 200')
    assert web.output.count('"GET /archive/ HTTP/1.1" 200') == 1
