"""Nobody notices the Content-Security-Policy, in development and in production.

What it says is in tests/security/test_production.py. Here each page is opened and used: whatever
the browser refuses fails the test, and so does a script's error or a missing file.
"""

import re

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from playwright.sync_api import expect

from posts.models import Post, Run
from posts.tasks.workflow import collect_posts
from tasklog.models import TaskCall
from tests.browser.conftest import reload_until_a_worker_is_idle
from tests.conftest import Starter
from tests.security import production
from tests.security.objects import make_everything
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

WATCH = """document.addEventListener("securitypolicyviolation", event => console.error(
  `CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`))"""


@pytest.fixture(scope="module", params=["development", "production"])
def site(request, redis_server, django_db_setup, tmp_path_factory):
    """The site with a worker."""
    redis_server.client().flushdb()
    starter = Starter(tmp_path_factory.mktemp(request.param))
    starter.worker()
    if request.param == "development":
        yield starter.web()
    else:
        # Without HTTPS, for which the browser would want a certificate.
        env = {"HTTPS": "false", "ALLOWED_HOSTS": "127.0.0.1", "BROKER_PASSWORD": ""}
        yield production.start_site(starter, tmp_path_factory.mktemp("state"), **env)
    starter.stop()


class Window:
    """A browser window that keeps what its console complains of."""

    def __init__(self, page):
        self.page, self.complaints = page, []
        page.on("console", self.hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())

    def hear(self, message):
        # Chromium drops what it loads when the machine gets another network, as by a container.
        if message.type == "error" and "ERR_NETWORK_CHANGED" not in message.text:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path):
        answer = self.page.goto(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"], path
        return self.page


@pytest.fixture
def window(browser, site):
    """A window of somebody who may do everything. What the console complains of fails the test."""
    context = browser.new_context(base_url=site.url)
    context.set_default_timeout(20_000)
    context.add_init_script(WATCH)
    window = Window(context.new_page())
    yield window
    context.close()
    assert window.complaints == []


@pytest.fixture
def owner(transactional_db):
    password = make_password("correct horse", hasher="pbkdf2_sha256")
    return get_user_model().objects.create(
        username="root", password=password, is_staff=True, is_superuser=True
    )


@pytest.fixture
def signed_in(window, owner):
    page = window.open("/accounts/login/?next=/write/")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/write/$"))
    return window


ADD = """(name, fields) =>
  void document.body.append(Object.assign(document.createElement(name), fields))"""
ATTACKS = {
    "a style": "document.body.setAttribute('style', 'color: red')",
    "a style sheet": "add('style', {textContent: 'p {color: red}'})",
    "a script": "add('script', {text: 'hacked = 1'})",
    "a handler": "document.body.setAttribute('onclick', 'hacked = 1'); document.body.click()",
    "a text as a script": "setTimeout('hacked = 1')",
    "a script from elsewhere": "add('script', {src: 'https://x.example/x.js'})",
    "a message to elsewhere": "fetch('https://x.example/').catch(() => 0)",
    "a frame": "add('iframe', {src: '/archive/'})",
    "a font": "new FontFace('x', 'url(https://x.example/x)').load().catch(() => 0)",
    "another base": "add('base', {href: 'https://x.example/'})",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_refused_is_noticed(window, attack):
    """Else all the other tests would prove nothing."""
    page = window.open("/")
    page.evaluate(f"() => {{ const add = {ADD}; {ATTACKS[attack]} }}")
    wait_for(
        lambda: page.evaluate("true") and any("CSP: " in line for line in window.complaints),
        lambda: f"a complaint: {window.complaints}",
    )
    assert page.evaluate("typeof hacked") == "undefined"
    window.complaints.clear()


def test_the_pages_of_readers(window, owner):
    Post.objects.create(
        title="Hello", slug="hello", body=BODY, author=owner, status="published",
        published_at=timezone.now(),
    )  # fmt: skip
    for path in ("/", "/archive/", "/posts/hello/", "/?q=hello", "/newsletter/",
                 "/newsletter/check/", "/accounts/login/", "/tasks/", "/admin/login/"):  # fmt: skip
        window.open(path)
    page = window.open("/newsletter/")
    page.get_by_label("E-mail address").fill("ada@example.org")
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()


BODY = """
# Heading

| a | b |
| - | -: |
| 1 | 2 |

```python
print("code")
```
"""


def test_writing(signed_in):
    page = signed_in.open("/write/new/")
    page.get_by_label("Title").fill("A post")
    page.locator("#id_body").fill(BODY)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview table")).to_be_visible()
    page.get_by_role("button", name="Save draft").click()
    expect(page.locator("#analysis-panel")).to_contain_text("SUCCESS")
    page.get_by_role("button", name="Publish now").click()
    for path in ("/write/", "/posts/a-post/"):
        signed_in.open(path)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/$"))


def test_tasks(signed_in):
    """With htmx at work: runs that are polled, a timeline, a failure, an export."""
    page = signed_in.open("/tasks/")
    card = page.locator("#lesson-report")
    card.get_by_label("Seconds a part takes").fill("0.3")
    card.get_by_role("button", name=re.compile("^Run")).click()
    page.locator("#lesson-fail_sometimes").get_by_role("button", name="Raise").click()
    row = card.locator("li.run").first
    expect(row).to_contain_text("SUCCESS")
    bars = row.locator("svg rect.bar")
    expect(bars).to_have_count(4)
    # What CSP would refuse could still be there, unseen: the bars are where they should be.
    boxes = [bar.bounding_box() for bar in bars.all()]
    assert boxes[0]["x"] < boxes[1]["x"] < boxes[3]["x"]
    failed = page.locator("#lesson-fail_sometimes li.run").first
    failed.get_by_text("Traceback", exact=True).click()
    expect(failed.locator("pre")).to_be_visible()
    reload_until_a_worker_is_idle(page)
    page.locator("#lesson-add summary").click()
    run = Run.objects.get(task=collect_posts.name)
    for path in ("/tasks/runs/", f"/tasks/runs/{run.task_id}/", "/tasks/queues/", "/tasks/export/"):
        signed_in.open(path)
    page.get_by_role("button", name="Start the export").click()
    expect(page.get_by_role("progressbar")).to_be_visible()
    expect(page.get_by_role("link", name="Download the archive")).to_be_visible()


@pytest.fixture
def everything(owner):
    return make_everything(owner)


MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label_lower)


def test_each_page_of_the_admin(signed_in, everything):
    signed_in.open("/admin/")
    for model in MODELS:
        base = f"/admin/{model._meta.label_lower.replace('.', '/')}/"
        pk = everything[model].pk
        views = ["", f"{pk}/change/", f"{pk}/delete/", f"{pk}/history/"]
        if admin.site.get_model_admin(model).has_add_permission(Superuser):
            views.append("add/")
        for view in views:
            signed_in.open(base + view)


class Superuser:
    """A request, as far as the question for rights looks at it."""

    class user:
        is_active = is_superuser = True
        has_perm = staticmethod(lambda permission: True)


def test_the_scripts_of_the_admin_still_work(signed_in, everything, owner):
    page = signed_in.open("/admin/posts/post/add/")
    page.get_by_role("link", name="Today").first.click()
    assert page.locator("#id_published_at_0").input_value()
    page.locator(".datetimeshortcuts a[href='#']").nth(1).click()
    expect(page.locator(".calendarbox").first).to_be_visible()
    page.get_by_label("Title").press_sequentially("A Title")
    expect(page.locator("#id_slug")).to_have_value("a-title")

    page = signed_in.open(f"/admin/auth/user/{owner.pk}/change/")
    page.locator("#id_groups_add_all_link, #id_groups_add_all").first.click()
    expect(page.locator("#id_groups_to option")).to_have_count(1)

    page = signed_in.open("/admin/tasklog/taskcall/")
    page.locator("#action-toggle").check()
    expect(page.locator(".action-counter")).to_contain_text(re.compile(r"(\d) of \1 selected"))
    page.locator("#nav-filter").fill("periodic")
    expect(page.get_by_role("link", name="Group results")).to_be_hidden()

    page = signed_in.open("/admin/django_celery_beat/periodictask/add/")
    with page.expect_popup() as popup:
        page.locator("#add_id_interval").click()
    other = Window(popup.value)
    popup.value.locator("#id_every").fill("5")
    assert other.complaints == []


def test_the_crontab_of_a_periodic_task_is_said_in_words(signed_in, everything):
    """Without the inline script that django-celery-beat does it with."""
    task = everything[PeriodicTask]
    task.interval, task.crontab = None, everything[CrontabSchedule]
    task.save()
    page = signed_in.open(f"/admin/django_celery_beat/periodictask/{task.pk}/change/")
    words = page.locator(".field-crontab_translation")
    expect(words).to_be_visible()
    expect(words).to_contain_text("between 04:00 AM and 04:59 AM")


def test_calls_and_results_are_in_colour(signed_in, everything):
    """Highlighted by classes, not by styles."""
    page = signed_in.open(f"/admin/tasklog/taskcall/{everything[TaskCall].pk}/change/")
    colours = page.locator(".tasklog-code span").evaluate_all(
        "spans => new Set(spans.map(span => getComputedStyle(span).color)).size"
    )
    assert colours > 1
