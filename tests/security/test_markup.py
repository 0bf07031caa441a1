"""Whatever people, feeds and tasks bring comes out as text, on each page that shows it."""

import html
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django_celery_beat.models import PeriodicTask
from django_celery_results.models import GroupResult, TaskResult

from posts import forms
from posts.feed_import import import_entries
from posts.models import Analysis, Delivery, Feed, Newsletter, Post, Run, Subscriber
from posts.tasks.analysis import analyse_post
from tasklog.models import TaskCall
from tests.feeds import FeedServer, rss
from tests.posts.helpers import picture

from .objects import make_everything

MARK = "hostilemark"
# Ends an attribute, an element, a script, a comment and a piece of text, and begins an element.
HOSTILE = (
    f"""'">--></script></title></textarea></pre></svg>]]><{MARK} on{MARK}=1>{{{{ {MARK} }}}}"""
)
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label_lower)


class Reader(HTMLParser):
    """Reads a page as a browser does, and keeps what the hostile text would have become."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if MARK in tag:
            self.found.append(f"<{tag}>")
        for name, value in attributes:
            runs = (
                (value or "").strip().lower().startswith(("javascript:", "data:text", "vbscript:"))
            )
            if MARK in name or (runs and name in ("href", "src", "action", "formaction")):
                self.found.append(f"<{tag} {name}={value!r}>")
            # What is in the value of an attribute is text too.
            self.text += f" {value}"

    def handle_comment(self, text):
        if MARK in text:
            self.found.append(f"<!--{text}-->")

    def handle_data(self, data):
        self.text += data


def shown(response):
    """Return a page's text, after making sure that nothing hostile became a part of the page."""
    assert response.status_code < 400, response.status_code
    reader = Reader(response.content.decode())
    assert reader.found == []
    return reader.text


@pytest.fixture
def hostile(people):
    """One of everything, with hostile text wherever somebody could have written."""
    return make_everything(people["staff"], HOSTILE)


@pytest.fixture
def editor(client_of, hostile):
    return client_of("staff")


def test_the_reader_of_this_test_finds_what_it_looks_for():
    for page in (HOSTILE, f'<a href=" JavaScript:x">{MARK}', f"<p title='{HOSTILE}'>"):
        assert Reader(page).found
    assert not Reader(html.escape(HOSTILE)).found


@pytest.mark.parametrize(
    "address", ["/", "/archive/", "/posts/one/", "/?q=" + MARK, "/write/", "/write/{post}/",
                "/tasks/", "/tasks/runs/", "/tasks/runs/{run}/"]
)  # fmt: skip
def test_the_pages_of_the_site(editor, hostile, address):
    path = address.format(post=hostile[Post].pk, run=hostile[Run].task_id)
    assert MARK in shown(editor.get(path))


@pytest.mark.parametrize("htmx", [True, False])
def test_parts_that_are_swapped_in(editor, hostile, htmx):
    run, post = hostile[Run], hostile[Post]
    headers = {"HX-Request": "true"} if htmx else {}
    typed = {"title": HOSTILE, "body": HOSTILE, "cover_alt": HOSTILE, "slug": HOSTILE}
    assert MARK in shown(editor.post(f"/write/{post.pk}/preview/", typed, headers=headers))
    asked = {"run": [f"{run.task_id}.0", HOSTILE], "ended": [HOSTILE], "page": HOSTILE}
    assert MARK in shown(editor.get("/tasks/poll/", asked, headers=headers))
    if htmx:
        assert MARK in shown(editor.get(f"/write/{post.pk}/analysis/", headers=headers))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label_lower)
def test_the_admin(client_of, hostile, model):
    client, pk = client_of("superuser"), hostile[model].pk
    base = f"/admin/{model._meta.label_lower.replace('.', '/')}/"
    texts = [shown(client.get(base + view)) for view in ("", f"{pk}/change/", f"{pk}/delete/")]
    texts += [shown(client.get(f"{base}{pk}/history/")), shown(client.get(base, {"q": HOSTILE}))]
    shows = {Delivery, Feed, GroupResult, Newsletter, PeriodicTask, Post, Run, Subscriber,
             TaskCall, TaskResult}  # fmt: skip
    if model in shows:
        assert any(MARK in text for text in texts)


def test_arguments_and_traceback_of_a_call_in_the_admin(client_of, hostile):
    """They are highlighted, so their HTML is made by hand."""
    path = f"/admin/tasklog/taskcall/{hostile[TaskCall].pk}/change/"
    text = shown(client_of("superuser").get(path))
    # Positional and named arguments, options, the exception's type and text, twice the traceback.
    assert text.count(f"<{MARK} on{MARK}=1>") >= 7


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-yaml"])
def test_a_result_that_is_no_json_in_the_admin(client_of, hostile, content_type):
    """It is shown as it is, without colours."""
    TaskResult.objects.update(status="SUCCESS", result=HOSTILE, content_type=content_type)
    path = f"/admin/tasklog/taskcall/{hostile[TaskCall].pk}/change/"
    assert HOSTILE in shown(client_of("superuser").get(path))


def test_what_the_admin_says_after_an_action(client_of, hostile, redis_server):
    client = client_of("superuser")
    data = {"action": "run_tasks", "_selected_action": hostile[PeriodicTask].pk}
    page = client.post("/admin/django_celery_beat/periodictask/", data, follow=True)
    assert f"<{MARK} on{MARK}=1>" in shown(page).partition("called.")[2]
    data = {"action": "resend", "_selected_action": hostile[TaskCall].pk}
    TaskResult.objects.update(status="STARTED")
    TaskCall.objects.update(queue="", options={"queue": HOSTILE})
    assert HOSTILE in shown(client.post("/admin/tasklog/taskcall/", data, follow=True))


def test_a_deleted_row_is_named_as_text(client_of, hostile):
    client = client_of("superuser")
    path = f"/admin/posts/subscriber/{hostile[Subscriber].pk}/delete/"
    assert MARK in shown(client.post(path, {"post": "yes"}, follow=True))
    assert MARK in shown(client.get("/admin/"))  # Recent actions.


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/newsletter/", {"email": HOSTILE}),
        ("/accounts/login/", {"username": HOSTILE, "password": HOSTILE, "next": HOSTILE}),
        ("/admin/login/", {"username": HOSTILE, "password": HOSTILE, "next": HOSTILE}),
    ],
)
def test_forms_of_strangers_give_back_what_was_typed(client, db, path, data):
    assert MARK in shown(client.post(path, data))


@pytest.mark.parametrize("path", ["/", "/accounts/login/", "/nothing/here/"])
def test_addresses(db, path):
    client = Client()
    for query in ({"q": HOSTILE, "next": HOSTILE, "page": HOSTILE}, {HOSTILE: HOSTILE}):
        response = client.get(path, query_params=query)
        assert Reader(response.content.decode()).found == []
    response = client.get(path + HOSTILE.replace("/", ""))
    assert response.status_code == 404
    reader = Reader(response.content.decode())
    assert MARK in reader.text
    assert reader.found == []


@pytest.mark.parametrize(
    "data", [{"title": HOSTILE, "body": HOSTILE, "slug": HOSTILE}, {"title": "", "body": HOSTILE}]
)
def test_a_post_that_is_refused(editor, data):
    assert MARK in shown(editor.post("/write/new/", data))


@pytest.mark.parametrize("lesson", ["fail_sometimes", "sample_task", "feeds", "add", "report"])
def test_arguments_that_are_refused(editor, redis_server, lesson):
    names = ("value", "chance", "name", "url", "x", "y", "seconds", "fail")
    data = {f"{lesson}-{name}": HOSTILE * 5 for name in names}
    for headers in ({}, {"HX-Request": "true"}):
        page = editor.post(f"/tasks/run/{lesson}/", data, headers=headers)
        assert MARK in shown(page)


@pytest.mark.parametrize("name", [f"{HOSTILE}.png", f"x.{HOSTILE}", "../../../x.png", "x.svg"])
@pytest.mark.parametrize("wrong", ["type", "size", "content"])
def test_names_of_uploaded_files(editor, monkeypatch, name, wrong):
    if wrong == "size":
        monkeypatch.setattr(forms, "MAX_COVER_BYTES", 1)
    content = b"GIF89a no image" if wrong == "content" else b"<svg onload=alert(1)>"
    cover = SimpleUploadedFile(name, content)
    page = editor.post("/write/new/", {"title": "x", "body": "x", "cover": cover})
    assert "Nothing was saved yet" in shown(page)


def test_what_an_uploaded_picture_is_called_in_the_end(client_of, hostile, settings):
    """A picture with a hostile name is kept, under a name without anything in it."""
    upload = picture()
    upload.name = f"..\\..{HOSTILE} .png"
    editor = client_of("staff")
    data = {"title": "x", "body": "x", "slug": "with-a-cover", "cover": upload}
    page = shown(editor.post("/write/new/", data, follow=True))
    post = Post.objects.get(slug="with-a-cover")
    assert not set(post.cover.name) & set("<>\"'\\ =;&")
    assert ".." not in post.cover.name
    assert post.cover.path.startswith(str(settings.MEDIA_ROOT / "covers"))
    assert post.cover.name in page


def test_a_feed_of_hostile_entries(editor, people, settings):
    """From the feed's server to the pages that show the drafts made of it."""
    settings.FEED_ALLOW_PRIVATE = True
    server, bad = FeedServer().start(), html.escape(HOSTILE)
    item = f"<guid>{bad}</guid><title>{html.escape(bad)}</title><link>javascript:{bad}</link>"
    item += f"<description>{html.escape(bad)} {bad}</description>"
    item += f'<enclosure url="https://x.example/{bad}" type="{bad}"/>'
    server.pages["/feed"] = rss([item], title=html.escape(bad))
    try:
        import_entries(server.url(), people["staff"].pk)
    finally:
        server.stop()
    post = Post.objects.order_by("-pk").first()
    assert MARK in post.title
    for path in (f"/write/{post.pk}/", f"/posts/{post.slug}/", "/write/"):
        assert MARK in shown(editor.get(path))


def test_the_links_that_an_analysis_lists_lead_to_the_web(editor, hostile):
    """The panel links to what the task has written down."""
    post = hostile[Post]
    post.body = "[a](javascript:1) <a href=' data:text/html,x'>b</a> [c](https://x.example/)"
    post.save()
    analyse_post(post.pk)
    assert Analysis.objects.get().links == ["https://x.example/"]
    shown(editor.get(f"/write/{post.pk}/"))


def test_the_feed_and_the_sitemap_stay_xml(client, hostile):
    root = xml.fromstring(client.get("/feed/").content)
    item = root.find("channel/item")
    assert MARK in item.find("title").text
    assert Reader(item.find("description").text).found == []
    xml.fromstring(client.get("/sitemap.xml").content)


def test_answers_that_are_no_pages_are_not_read_as_such(client_of, hostile, redis_server):
    client = client_of("staff")
    types = {
        "/health/": "application/json",
        "/metrics": "text/plain",
        "/tasks/sample/": "application/json",
    }
    for path, kind in types.items():
        response = client.get(path)
        assert response.headers["Content-Type"].startswith(kind)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
