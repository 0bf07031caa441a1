import re
from datetime import timedelta

import pytest
from django.utils import timezone

from posts.forms import PostForm
from posts.models import Post
from posts.tasks.analysis import analyse_post

from .helpers import TYPED, picture, text_of

HTMX = {"headers": {"HX-Request": "true"}}


# --- Writing --------------------------------------------------------------------------------------


def test_a_new_post_is_a_draft_of_its_writer(writer, author):
    response = writer.post("/write/new/", TYPED)
    post = Post.objects.get()
    assert response.url == f"/write/{post.pk}/"
    assert (post.status, post.author, post.slug) == ("draft", author, "a-title")


def test_an_edit_changes_the_post(writer, make_post):
    post = make_post()
    writer.post(f"/write/{post.pk}/", {**TYPED, "slug": "hello"})
    post.refresh_from_db()
    assert (post.title, post.body, post.slug) == ("A title", "Some *text*.", "hello")
    assert post.status == "published"


def test_a_blank_address_is_made_from_the_title_and_free(writer, make_post):
    make_post("a title")
    writer.post("/write/new/", TYPED)
    writer.post("/write/new/", TYPED)
    assert set(Post.objects.values_list("slug", flat=True)) == {"a-title", "a-title-2", "a-title-3"}


@pytest.mark.parametrize(("title", "slug"), [("日本", "post"), ("—", "post"), ("Ünï", "uni")])
def test_a_title_without_latin_letters_has_an_address_too(writer, title, slug):
    writer.post("/write/new/", {**TYPED, "title": title})
    assert Post.objects.get().slug == slug


def test_a_long_title_makes_a_long_address_that_still_fits(writer):
    for _ in range(2):
        writer.post("/write/new/", {**TYPED, "title": "x" * 200})
    slugs = sorted(Post.objects.values_list("slug", flat=True))
    assert slugs == ["x" * 198 + "-2", "x" * 200]


def test_an_address_that_is_taken_is_named(writer, make_post):
    make_post("taken")
    response = writer.post("/write/new/", {**TYPED, "slug": "taken"})
    assert "Another post has the address “taken”" in text_of(response)
    assert Post.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"title": ""}, "A post needs a title."),
        ({"title": "x" * 201}, "at most 200 characters (it has 201)"),
        ({"body": " "}, "The text is empty."),
        ({"slug": "no good"}, "Enter a valid “slug”"),
    ],
)
def test_a_mistake_is_explained_and_nothing_typed_is_lost(writer, wrong, message):
    typed = {**TYPED, "slug": "an-address", "cover_alt": "A harbour", **wrong}
    page = text_of(writer.post("/write/new/", typed))
    assert message in page
    assert "Nothing was saved yet." in page
    assert not Post.objects.exists()
    for value in typed.values():
        assert value in page
    field = next(iter(wrong))
    assert re.search(rf'id="id_{field}_error"', page)
    control = re.search(rf'<(?:input|textarea) [^>]*name="{field}"[^>]*>', page)[0]
    assert f"id_{field}_error" in re.search(r'aria-describedby="([^"]*)"', control)[1].split()
    assert 'aria-invalid="true"' in control


def test_control_characters_are_dropped(writer):
    writer.post("/write/new/", {"title": "A\x0b title", "body": "te\x1fxt"})
    post = Post.objects.get()
    assert (post.title, post.body) == ("A title", "text")


def test_an_edit_does_not_undo_what_the_clock_did_meanwhile(make_post):
    post = make_post(status="scheduled", slug="hello")
    form = PostForm({**TYPED, "slug": "hello"}, instance=post)
    assert form.is_valid()
    Post.objects.update(status="published")
    form.save()
    assert Post.objects.values_list("title", "status").get() == ("A title", "published")


def test_an_edit_counts_as_a_change(make_post):
    post = make_post(slug="hello")
    before = post.updated_at
    PostForm({**TYPED, "slug": "hello"}, instance=post).save()
    assert Post.objects.get().updated_at > before


# --- Publishing -----------------------------------------------------------------------------------


def test_publishing_from_the_desk_leaves_the_text_alone(writer, make_post):
    post = make_post(status="draft")
    assert writer.post(f"/write/{post.pk}/publish/").url == "/write/"
    post.refresh_from_db()
    assert (post.status, post.title) == ("published", "Hello")
    assert post.published_at <= timezone.now()


@pytest.mark.parametrize("action", ["publish", "schedule", "unpublish"])
def test_an_action_on_the_edit_page_saves_what_was_typed(writer, make_post, action):
    post = make_post(status="draft")
    soon = timezone.now() + timedelta(days=1)
    typed = {**TYPED, "publish_at": soon.strftime("%Y-%m-%dT%H:%M")}
    assert writer.post(f"/write/{post.pk}/{action}/", typed).url == f"/write/{post.pk}/"
    post.refresh_from_db()
    assert post.title == "A title"
    statuses = {"publish": "published", "schedule": "scheduled", "unpublish": "draft"}
    assert post.status == statuses[action]


def test_an_action_with_a_mistake_changes_nothing_and_loses_nothing(writer, make_post):
    post = make_post(status="draft")
    page = text_of(writer.post(f"/write/{post.pk}/publish/", {"title": "", "body": "typed"}))
    assert "A post needs a title." in page
    assert "typed</textarea>" in page
    post.refresh_from_db()
    assert (post.status, post.title) == ("draft", "Hello")


def test_scheduling_takes_the_site_s_time_zone(writer, make_post, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    post = make_post(status="draft")
    writer.post(f"/write/{post.pk}/schedule/", {**TYPED, "publish_at": "2199-01-01T09:00"})
    assert Post.objects.get().published_at.isoformat() == "2199-01-01T00:00:00+00:00"
    assert 'value="2199-01-01T09:00"' in text_of(writer.get(f"/write/{post.pk}/"))


@pytest.mark.parametrize(
    ("publish_at", "message"),
    [
        ("2001-02-03T04:05", "3 February 2001, 04:05 is past."),
        ("soon", "“soon” is not a date and a time."),
        ("", "Choose a date and a time."),
    ],
)
def test_a_date_that_will_not_do_is_named(writer, make_post, publish_at, message):
    post = make_post(status="draft")
    typed = {**TYPED, "publish_at": publish_at}
    page = text_of(writer.post(f"/write/{post.pk}/schedule/", typed))
    assert message in page
    assert "Some *text*.</textarea>" in page
    assert Post.objects.get().status == "draft"


def test_the_date_is_sent_with_the_post_s_form_and_may_be_blank_when_saving(writer, make_post):
    page = text_of(writer.get(f"/write/{make_post(status='draft').pk}/"))
    control = re.search(r'<input [^>]*name="publish_at"[^>]*>', page)[0]
    assert 'form="post-form"' in control
    assert "required" not in control


@pytest.mark.parametrize("status", ["draft", "scheduled", "published"])
def test_every_action_on_the_edit_page_takes_the_form_along(writer, make_post, status):
    page = text_of(writer.get(f"/write/{make_post(status=status, days=1).pk}/"))
    card = page[page.index('aria-labelledby="publishing"') : page.index("analysis-panel")]
    buttons = re.findall(r"<button ([^>]*)>", card)
    assert buttons
    assert all('form="post-form"' in button for button in buttons)


@pytest.mark.parametrize("url", ["/write/", "/write/{pk}/", "/accounts/login/"])
def test_every_form_that_changes_something_has_its_token(writer, make_post, url):
    pk = make_post(status="draft").pk
    make_post("other")
    page = text_of(writer.get(url.format(pk=pk)))
    forms = re.findall(r'<form [^>]*method="post".*?</form>', page, re.DOTALL)
    assert len(forms) >= 2
    assert all("csrfmiddlewaretoken" in form for form in forms)


def test_unpublishing_hides_the_post(writer, make_post):
    post = make_post()
    writer.post(f"/write/{post.pk}/unpublish/")
    writer.logout()
    assert writer.get("/posts/hello/").status_code == 404


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_post_that_is_gone_is_not_found(writer, method):
    assert getattr(writer, method)("/write/99/").status_code == 404
    assert writer.post("/write/99/publish/").status_code == 404


def test_the_desk_sorts_by_status(writer, make_post, django_assert_num_queries):
    for status in ("draft", "scheduled", "published"):
        for n in (1, 2):
            make_post(f"{status} {n}", status=status, days=n)
    with django_assert_num_queries(5):  # session, account, and one for each status
        response = writer.get("/write/")
    groups = {name: [post.title for post in posts] for name, posts in response.context["groups"]}
    assert groups == {
        "Drafts": ["draft 2", "draft 1"],
        "Scheduled": ["scheduled 1", "scheduled 2"],
        "Published": ["published 2", "published 1"],
    }


def test_an_empty_desk_says_what_would_be_there(writer):
    page = text_of(writer.get("/write/"))
    assert page.count('class="empty"') == 3


# --- Preview --------------------------------------------------------------------------------------


def test_the_preview_for_htmx_is_the_article_alone(writer):
    page = text_of(writer.post("/write/preview/", TYPED, **HTMX))
    assert "<em>text</em>" in page
    assert "<html" not in page
    assert not Post.objects.exists()


def test_the_preview_without_javascript_keeps_all_that_was_typed(writer, make_post):
    post = make_post(status="draft")
    typed = {**TYPED, "slug": "typed-slug", "cover_alt": "typed alt"}
    typed["publish_at"] = "2199-01-01T09:00"
    page = text_of(writer.post(f"/write/{post.pk}/preview/", {**typed, "cover": picture()}))
    assert "<em>text</em>" in page
    assert 'value="A title"' in page
    assert "Some *text*.</textarea>" in page
    assert 'value="typed-slug"' in page
    assert 'value="typed alt"' in page
    assert 'value="2199-01-01T09:00"' in page
    assert f'action="/write/{post.pk}/"' in page
    assert "Please choose the cover again" in page
    assert Post.objects.get().title == "Hello"


def test_the_preview_is_sanitised_like_the_post(writer):
    page = writer.post("/write/preview/", {"title": "<b>", "body": "<script>alert(1)</script>"})
    assert b"<script>alert" not in page.content
    assert b"<b>" not in page.content
    assert b'value="&lt;b&gt;"' in page.content


def test_the_preview_button_works_with_and_without_htmx(writer, make_post):
    post = make_post()
    page = text_of(writer.get(f"/write/{post.pk}/"))
    assert f'formaction="/write/{post.pk}/preview/"' in page
    assert f'hx-post="/write/{post.pk}/preview/"' in page
    assert 'formaction="/write/preview/"' in text_of(writer.get("/write/new/"))


def test_enter_in_a_field_saves_and_does_not_publish(writer, make_post):
    page = text_of(writer.get(f"/write/{make_post(status='draft').pk}/"))
    main = page[page.index("<main") :]
    assert re.search(r"<button[^>]*>\s*Save\s*</button>", main)
    assert re.findall(r"<button([^>]*)>", main)[0] == ' class="button"'


# --- The analysis ---------------------------------------------------------------------------------


def test_the_panel_polls_until_the_task_has_run(writer, make_post):
    post = make_post(body="Three [short](https://example.com/x) words.")
    url = f"/write/{post.pk}/analysis/"
    waiting = text_of(writer.get(url, **HTMX))
    assert f'hx-get="{url}?shows=short" hx-trigger="every 1s"' in waiting
    assert "Waiting for the task" in waiting
    assert writer.get(f"{url}?shows=short", **HTMX).status_code == 204  # nothing to swap
    analyse_post(post.pk)
    done = text_of(writer.get(f"{url}?shows=short", **HTMX))
    assert "hx-get" not in done
    assert "<dd>3</dd>" in done
    assert "Three short words." in done
    assert 'href="https://example.com/x"' in done
    assert "hx-get" not in text_of(writer.get(f"/write/{post.pk}/"))


def test_the_panel_polls_again_after_an_edit(writer, make_post):
    post = make_post(body="one two")
    analyse_post(post.pk)
    post.save()
    page = text_of(writer.get(f"/write/{post.pk}/"))
    assert f'hx-get="/write/{post.pk}/analysis/?shows=short"' in page
    assert '<dl class="old">' in page
    assert "<dd>2</dd>" in page


def test_the_panel_says_when_no_worker_seems_to_run(writer, make_post):
    post = make_post()
    Post.objects.update(updated_at=timezone.now() - timedelta(minutes=1))
    url = f"/write/{post.pk}/analysis/"
    page = text_of(writer.get(f"{url}?shows=short", **HTMX))
    assert "Is a worker running?" in page
    assert f'hx-get="{url}?shows=long" hx-trigger="every 5s"' in page
    assert writer.get(f"{url}?shows=long", **HTMX).status_code == 204


def test_the_panel_s_address_in_a_browser_leads_to_the_page(writer, make_post):
    pk = make_post().pk
    assert writer.get(f"/write/{pk}/analysis/").url == f"/write/{pk}/"
