"""Secrets stay where they belong: not in logs, not in tables, not on pages, not in answers.

One site with its workers runs as in production. Each of its secrets carries one mark, which is
searched for in all that the site has written and said: while all goes well, when tasks fail, and
with broker and database away.
"""

import base64
import contextlib
import logging
import re
import shutil
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from celery.app import utils
from django.views.debug import technical_500_response

from blog.logs import TaskFormatter
from posts.models import Run
from tasklog.models import TaskCall
from tests import services
from tests.conftest import Starter, need
from tests.services import Visitor, free_port, wait_for
from tests.smtp import MailServer

pytestmark = pytest.mark.timeout(300)

MARK = "leak4711"


class MailServerWithPassword(MailServer):
    """Lets in who knows the password."""

    def start(self):
        def check(server, session, envelope, mechanism, data):
            return AuthResult(success=data.password == f"{MARK}-mail".encode())

        options = {"authenticator": check, "auth_require_tls": False}
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        self.controller.start()
        return self


class Story:
    """The site, what happens to it, and what can be read afterwards: {place: text}."""

    def __init__(self, folder):
        self.folder, self.copy = folder, folder / "site"
        self.read, self.tokens, self.port = {}, set(), free_port()
        self.redis = need(services.Redis(folder / "redis").start)
        self.postgres = need(lambda: services.Postgres(folder / "postgres")).start()
        self.mails = MailServerWithPassword().start()
        self.redis.client().config_set("requirepass", f"{MARK}-broker")
        services.copy_site(self.copy)
        at = f"127.0.0.1:{self.redis.port}"
        self.start = Starter(
            folder,
            {
                "DEBUG": "false",
                "HTTPS": "false",
                "ALLOWED_HOSTS": "127.0.0.1",
                "SECRET_KEY": f"{MARK}-key-of-fifty-characters-for-this-test-alone-0123456789",
                "METRICS_TOKEN": f"{MARK}-metrics",
                "DATABASE_URL": self.postgres.url.replace("blog@", f"blog:{MARK}-database@"),
                "CELERY_BROKER_URL": f"redis://:{MARK}-broker@{at}/0",
                "CACHE_URL": f"redis://:{MARK}-broker@{at}/1",
                "EMAIL_URL": self.mails.url.replace("//", f"//mailer:{MARK}-mail@"),
                "FLOWER_BASIC_AUTH": f"operator:{MARK}-flower",
                "DJANGO_SUPERUSER_PASSWORD": f"{MARK}-account",
                "STATE_DIR": str(self.copy / "var"),
                "SITE_URL": "http://127.0.0.1",
            },
        )

    def run(self, *command):
        """Run a command to its end. What it prints is kept."""
        process = self.start(*command, cwd=self.copy)
        process.wait(90)
        return process

    @property
    def worker(self):
        """The name of the first worker, as Flower knows it."""
        return next(n for n in self.read if n.startswith("Flower /worker/celery@")).split("/")[-1]

    def log(self, name):
        path = self.copy / "var" / "log" / name
        return path.read_text() if path.exists() else ""

    def rows(self, query):
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(query).fetchall()

    def begin(self):
        superuser = ["--username", "root", "--email", "root@example.org"]
        for command in (["migrate"], ["collectstatic"], ["createsuperuser", *superuser]):
            process = self.run("python", "manage.py", *command, "--no-input")
            assert process.wait() == 0, process.output
        options = ["--address=127.0.0.1", f"--port={self.port}"]
        self.start("celery", "-A", "blog", "flower", *options, cwd=self.copy)
        self.start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=", cwd=self.copy)
        self.start("supervisord", "-n", "-c", "supervisord.conf", cwd=self.copy)
        for name in ("worker.log", "worker-slow.log"):
            wait_for(lambda name=name: " ready." in self.log(name), lambda name=name: name, 60)
        self.web = self.start.web(cwd=self.copy)
        self.visitor = Visitor(self.web.url)
        self.visitor.sign_in("root", f"{MARK}-account")

    def see(self, path):
        page = self.visitor.get(path)
        self.read[f"page {path}, look {len(self.read)}"] = page.text + str(page.headers)
        return page

    def link_in_mail(self, kind, number):
        """Wait for a mail, and return the path of the link in it."""
        wait_for(lambda: len(self.mails.mails) >= number, f"mail {number}")
        body = self.mails.mails[number - 1].get_content()
        path = re.search(rf"http://127.0.0.1(/newsletter/{kind}/(\S+)/)", body)
        self.tokens.add(path[2])
        return path[1]

    def newsletter(self):
        """From the form to a confirmed address, a mail, and the click that ends it."""
        self.visitor.get("/newsletter/")
        self.visitor.post("/newsletter/", email="ada@example.org")
        path = self.link_in_mail("confirm", 1)
        stranger = Visitor(self.web.url)
        assert "Confirm your address" in stranger.get(path).text
        # Without the token of the form: Django writes down the address that it has refused.
        assert Visitor(self.web.url).post(path).status == 403
        assert "Welcome" in stranger.post(path).text
        self.visitor.post("/write/new/", title="A post", body="Its text", slug="a-post")
        [(number,)] = self.rows("SELECT id FROM posts_post")
        self.visitor.post(f"/write/{number}/publish/")
        path = self.link_in_mail("unsubscribe", 2)
        assert "You will get no more" in stranger.get(path).text
        assert stranger.get(path.replace(":", ":forged")).status == 404
        assert "Unsubscribed" in stranger.post(path).text

    def tasks(self):
        """Some that end well, some that fail in each way."""
        post = self.visitor.post
        post("/tasks/run/add/", **{"add-x": 1, "add-y": 2, "add-seconds": 0})
        post("/tasks/run/sample_task/", **{"sample_task-name": "x"})
        post("/tasks/run/export/")
        for way in ("raise", "kill"):
            post("/tasks/run/fail_sometimes/", **{"break": way})
        ended = "SELECT count(*) FROM django_celery_results_taskresult WHERE status = '{}'"
        wait_for(lambda: self.rows(ended.format("FAILURE"))[0][0] >= 2, "the failures")
        done = "SELECT count(*) FROM posts_export"
        wait_for(lambda: self.rows(done)[0][0] == 1, "the export")

    def look(self):
        """At each page of the site that tells of itself, and at Flower's."""
        for path in ("/", "/tasks/", "/tasks/runs/", "/tasks/queues/", "/tasks/workers/",
                     "/health/", "/metrics", "/admin/", "/admin/tasklog/taskcall/",
                     "/admin/django_celery_results/taskresult/", "/nothing/"):  # fmt: skip
            self.see(path)
        for table, model in (
            ("tasklog_taskcall", "tasklog/taskcall"),
            ("django_celery_results_taskresult", "django_celery_results/taskresult"),
        ):
            for (number,) in self.rows(f"SELECT id FROM {table}"):
                assert self.see(f"/admin/{model}/{number}/change/").status == 200
        for (number,) in self.rows("SELECT task_id FROM posts_run"):
            assert self.see(f"/tasks/runs/{number}/").status == 200
        headers = {"Authorization": f"Bearer {MARK}-metrics"}
        asked = urllib.request.Request(f"{self.web.url}/metrics", headers=headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            self.read["metrics"] = answer.read().decode() + str(answer.headers)
        self.flower()

    def flower(self):
        password = base64.b64encode(f"operator:{MARK}-flower".encode()).decode()

        def ask(path):
            headers = {"Authorization": f"Basic {password}"}
            asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    return answer.read().decode() + str(answer.headers)
            except OSError:  # Not there yet, or not yet known to it.
                return ""

        def workers():
            return re.findall(r'"hostname": "((?:celery|slow)@[^"]+)"', ask("/workers?json=1"))

        names = set(wait_for(lambda: len(set(workers())) == 2 and workers(), "both workers"))
        for path in ("/workers", "/broker", "/tasks", "/metrics", "/healthcheck", "/api/workers",
                     "/api/tasks", "/api/queues/length"):  # fmt: skip
            self.read[f"Flower {path}"] = wait_for(lambda path=path: ask(path), path)
        for name in names:
            # With the worker's configuration, for which Flower asks it first.
            path = f"/worker/{name}"
            page = wait_for(lambda path=path: "CELERY_BROKER_URL" in ask(path) and ask(path), path)
            self.read[f"Flower {path}"] = page

    def commands(self):
        for command in (["report"], ["status"], ["inspect", "conf"], ["inspect", "stats"],
                        ["inspect", "report"], ["inspect", "registered"]):  # fmt: skip

            def answered(command=command):  # nodes have a second, and this one starts many programs
                process = self.run("celery", "-A", "blog", *command)
                return process.wait() == 0 and process

            assert "celery" in wait_for(answered, command, 60).output

    def troubles(self):
        """The broker goes, then the database."""
        self.redis.stop()
        assert self.see("/health/").status == 503
        wait_for(lambda: "Cannot connect to redis" in self.log("worker.log"), "the worker's words")
        self.visitor.post("/tasks/run/sample_task/", **{"sample_task-name": "x"})
        self.see("/tasks/")
        self.see("/tasks/queues/")
        self.visitor.post("/newsletter/", email="bob@example.org")
        self.run("celery", "-A", "blog", "status")
        self.postgres.stop()
        assert self.see("/").status == 500
        assert self.see("/health/").status == 503
        self.run("python", "manage.py", "migrate", "--check")

    def end(self):
        for process in reversed(self.start.started):
            with contextlib.suppress(AssertionError):  # Without a broker some take their time.
                process.stop(seconds=15)
        for path in [*self.folder.glob("*.log"), *(self.copy / "var" / "log").glob("*.log")]:
            self.read[f"log {path.name}"] = path.read_text()

    def tables(self):
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            rows = self.rows(f'SELECT t::text FROM "{table}" t')
            self.read[f"table {table}"] = "\n".join(text for (text,) in rows)


@pytest.fixture(scope="module")
def story():
    folder = Path(tempfile.mkdtemp(prefix="blog-"))
    folder.chmod(0o711)
    story = Story(folder)
    try:
        story.begin()
        story.newsletter()
        story.tasks()
        story.look()
        story.commands()
        story.tables()
        story.troubles()
        story.end()
        yield story
    finally:
        story.end()
        story.mails.stop()
        for server in (story.redis, story.postgres):
            if server.process.running:
                server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def found(texts, secrets):
    """Return the lines that hold a secret: {place: lines}."""
    words = {word for secret in secrets for word in (secret, quote(secret, safe=""))}
    return {
        place: lines
        for place, text in texts.items()
        if (lines := [line for line in text.splitlines() if any(w in line for w in words)])
    }


PLACES = {
    "pages of the site": ("page ", 30),
    "metrics": ("metrics", 1),
    "Flower": ("Flower ", 10),
    "tables": ("table ", 25),
    "logs": ("log ", 20),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_told(story, place):
    start, least = PLACES[place]
    texts = {name: text for name, text in story.read.items() if name.startswith(start)}
    assert len(texts) >= least, sorted(texts)
    assert found(texts, [MARK]) == {}


def test_no_token_of_a_subscriber_is_told(story):
    """Whoever reads a log or a table could confirm or end subscriptions."""
    assert len(story.tokens) == 2
    assert found(story.read, story.tokens) == {}
    log = next(text for name, text in story.read.items() if "gunicorn" in name)
    assert "/newsletter/unsubscribe/… HTTP" in log or "/newsletter/unsubscribe/…/ HTTP" in log
    assert "Forbidden (CSRF cookie not set.): /newsletter/confirm/…" in log


def test_the_story_was_told(story):
    """That there was something to hide, and that logs and pages speak of it."""
    logs = "\n".join(text for name, text in story.read.items() if name.startswith("log "))
    for words in ("transport:   redis://:**@127.0.0.1", "Cannot connect to redis://:**@127.0.0.1",
                  "ValueError: Something went wrong", "WorkerLostError",
                  "The broker does not answer", "The database does not answer",
                  "Internal Server Error: /"):  # fmt: skip
        assert words in logs, words
    assert "CELERY_BROKER_URL" in story.read[f"Flower /worker/{story.worker}"]


def test_a_password_in_an_address_is_refused_before_it_is_stored(client_of, redis_server):
    client = client_of("staff")
    for url in (f"http://me:{MARK}@x.example/", f"https://{MARK}@x.example/feed"):
        page = client.post("/tasks/run/feeds/", {"feeds-url": url}).content.decode()
        assert "contains a user name or a password" in page
    assert not Run.objects.exists()
    assert not TaskCall.objects.exists()


@pytest.fixture
def failing(settings, rf, monkeypatch):
    """Django's debug page of an error, with secrets in settings and in the environment."""

    def page(**headers):
        request = rf.get("/", **headers)
        try:
            raise ValueError("An error")
        except ValueError as error:
            info = (type(error), error, error.__traceback__.tb_next)
            return technical_500_response(request, *info).content.decode()

    settings.DEBUG = True
    return page


SETTINGS = {
    "SECRET_KEY": MARK,
    "METRICS_TOKEN": MARK,
    "EMAIL_HOST_PASSWORD": MARK,
    "CELERY_BROKER_URL": f"redis://:{MARK}@h:1/0",
    "CELERY_RESULT_BACKEND": f"redis://:{MARK}@h:1/0",
    "CACHES": {"default": {"LOCATION": [f"redis://x:{MARK}@h:1/0"]}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_djangos_debug_page_hides_settings(failing, settings, name):
    setattr(settings, name, SETTINGS[name])
    page = failing()
    assert name in page
    assert MARK not in page


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL", "CACHE_URL", "EMAIL_URL",
             "METRICS_TOKEN", "BROKER_PASSWORD", "FLOWER_BASIC_AUTH"]
)  # fmt: skip
def test_djangos_debug_page_hides_the_environment(failing, name):
    """`runserver` puts the process's variables into each request, and the page shows them."""
    value = f"scheme://user:{MARK}@host/x" if name.endswith("URL") else f"user:{MARK}"
    page = failing(**{name: value})
    assert name in page
    assert MARK not in page


@pytest.mark.parametrize("name", SETTINGS)
def test_celerys_reports_hide_settings(settings, name):
    """What people paste into bug reports, and what Flower shows of a worker."""
    assert MARK not in str(utils.filter_hidden_settings({name: SETTINGS[name]}))
    assert MARK not in str(utils.filter_hidden_settings({name.lower(): SETTINGS[name]}))


@pytest.mark.parametrize("kind", ["confirm", "unsubscribe"])
def test_tokens_are_taken_out_of_each_line_of_the_log(kind):
    record = logging.LogRecord(
        "x", logging.INFO, "x", 1, "GET %s", (f"/newsletter/{kind}/1:a-B_/",), None
    )
    line = TaskFormatter("%(message)s").format(record)
    assert line == f"GET /newsletter/{kind}/…/"
