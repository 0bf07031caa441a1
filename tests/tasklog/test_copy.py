"""tasklog in a project of its own, installed as its README says."""

import os
import re
import shutil

import pytest

from tests.services import BIN, ROOT, Process, wait_for

README = (ROOT / "tasklog" / "README.md").read_text()

CELERY = """\
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task
def double(n):
    return 2 * n
"""

SCRIPT = """\
from datetime import timedelta
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from shop.celery import double
from tasklog.models import TaskCall

with transaction.atomic():
    result = double.delay(21)
print("result", result.get(timeout=30))
call = TaskCall.objects.get(task_id=result.id)
print("call", call.args, call.status)
again = call.retry()
print("again", again.get(timeout=30))
later = double.apply_async([4], countdown=1)
print("later", TaskCall.objects.get(task_id=later.id).status, later.get(timeout=30))
"""


def block(language, number=0):
    """Return a listing of the README, without its indentation."""
    listings = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.S | re.M)
    indent, text = listings[number]
    return re.sub(f"^{indent}", "", text, flags=re.M)


@pytest.fixture
def shop(folder, own_redis):
    """A fresh project, with tasklog copied into it. ``shop(program, …)`` runs it to its end."""
    started = []
    env = {name: None for name in os.environ if name.startswith("CELERY_")}
    env |= {"DJANGO_SETTINGS_MODULE": "shop.settings", "PYTHONPATH": str(folder / "shop")}

    def start(*command, cwd=folder / "shop"):
        command = [BIN / command[0], *command[1:]]
        process = Process(command, folder / f"{len(started)}.log", env, cwd)
        started.append(process)
        return process

    def run(*command, **options):
        process = start(*command, **options)
        status = process.wait(60)
        assert status == 0, process.output
        return process.output

    env.pop("DJANGO_SETTINGS_MODULE")
    run("django-admin", "startproject", "shop", cwd=folder)
    env["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    shutil.copytree(
        ROOT / "tasklog", folder / "shop" / "tasklog", ignore=shutil.ignore_patterns("__pycache__")
    )
    inner = folder / "shop" / "shop"
    with open(inner / "settings.py", "a") as settings:
        settings.write(f"\nCELERY_BROKER_URL = {own_redis.url()!r}\n{block('python')}")
    before, after = (line[1:] for line in block("diff").splitlines())
    assert before in CELERY
    (inner / "celery.py").write_text(CELERY.replace(before, after))
    (inner / "__init__.py").write_text("from .celery import app\n")
    run.start, run.folder = start, folder / "shop"
    yield run
    for process in reversed(started):
        process.stop()


def test_it_works_where_it_was_copied(shop):
    shop("python", "manage.py", "check", "--fail-level", "WARNING")
    shop("python", "manage.py", "makemigrations", "--check", "--dry-run")
    shop("python", "manage.py", "migrate")
    worker = shop.start("celery", "-A", "shop", "worker", "-B", "-l", "INFO", "-c", "1")
    worker.wait_for_output(" ready.")
    (shop.folder / "try.py").write_text("import django; django.setup()\n" + SCRIPT)
    assert shop("python", "try.py").splitlines() == [
        "result 42",
        "call [21] SUCCESS",
        "again 42",
        "later SCHEDULED 8",
    ]
    call = shop("celery", "-A", "shop", "call", "shop.celery.double", "--args", "[5]")
    wait_for(lambda: call.strip() in worker.output, lambda: worker.output)


LEFT_OUT = [
    ("settings.py", '"django_celery_results", ', "", 'add "django_celery_results"'),
    ("settings.py", ', "tasklog"]', "]", 'Add "tasklog" to INSTALLED_APPS'),
    ("settings.py", "CELERY_RESULT_BACKEND", "OTHER", "Set CELERY_RESULT_BACKEND"),
    ("settings.py", "USE_TZ = True", "USE_TZ = False", "Set USE_TZ = True"),
    ("celery.py", "from tasklog", "from celery", "import Celery from tasklog instead of celery"),
]


def test_a_step_that_is_left_out_is_named(shop):
    for name, step, without, way_out in LEFT_OUT:
        file = shop.folder / "shop" / name
        whole = file.read_text()
        assert step in whole
        file.write_text(whole.replace(step, without))
        check = shop.start("python", "manage.py", "check", "--fail-level", "WARNING")
        assert check.wait() == 1
        assert way_out in check.output
        file.write_text(whole)


def test_beat_sends_the_dispatcher_even_if_one_call_alone_may_need_it(shop):
    """`apply_async(outbox=True)` is not seen before it is made."""
    settings = shop.folder / "shop" / "settings.py"
    settings.write_text(settings.read_text().replace("TASKLOG = {", "OTHERS = {"))
    code = "from shop import app; app.finalize(); print(*sorted(app.conf.beat_schedule))"
    sent = shop("python", "-c", code).split()
    assert {"tasklog.end_lost_calls", "tasklog.send_due_calls"} <= set(sent)
