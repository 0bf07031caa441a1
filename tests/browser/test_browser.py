"""What somebody sees in a browser: writing a post, starting tasks, watching an export."""

import re

import pytest
from django_celery_results.models import TaskResult
from playwright.sync_api import expect

from posts.models import Post
from tasklog.models import TaskCall
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def test_write_a_post_publish_it_and_see_its_analysis(worker, page, sign_in):
    sign_in()
    page.get_by_role("link", name="Write", exact=True).click()
    page.get_by_role("link", name="New post").click()
    page.get_by_label("Title").fill("A post from a browser")
    page.locator("#id_body").fill("One two three [four](https://example.org/four). " * 60)
    page.get_by_role("button", name="Save draft").click()
    panel = page.locator("#analysis-panel")
    expect(panel).to_contain_text("240")
    expect(panel).to_contain_text("https://example.org/four")
    expect(panel).to_contain_text("SUCCESS")

    page.get_by_role("button", name="Publish now").click()
    page.goto("/")
    page.get_by_role("link", name="A post from a browser").first.click()
    expect(page.get_by_role("heading", name="A post from a browser")).to_be_visible()
    expect(page.get_by_text(re.compile("min to read"))).to_be_visible()


def test_the_exports_bar_reaches_100_per_cent(worker, page, sign_in, make_posts):
    make_posts(5)
    sign_in()
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.get_by_role("link", name="Your exports").click()
    page.get_by_role("button", name="Start the export").click()
    bar = page.get_by_role("progressbar")
    expect(bar).to_be_visible()
    seen = []

    def full():
        seen.append(float(bar.evaluate("bar => bar.value / bar.max")))
        return seen[-1] == 1

    wait_for(full, lambda: f"a full bar: {seen}")
    assert seen == sorted(seen)
    assert [part for part in seen if 0 < part < 1], f"the bar moved: {seen}"
    expect(page.get_by_text("100 %").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the archive").click()
    assert download.value.suggested_filename.endswith(".zip")


def test_the_figures_of_the_queues_are_renewed_and_nothing_jumps(worker, page, sign_in):
    page.set_viewport_size({"width": 360, "height": 400})
    sign_in()
    page.goto("/tasks/queues/")
    expect(page.get_by_text("1 worker:")).to_be_visible()
    moment = page.get_by_text("As of ")
    before = moment.inner_text()
    page.evaluate("window.still_here = true; window.scrollTo(0, 100)")
    look = "[scrollY, document.documentElement.scrollHeight, window.still_here]"
    place = page.evaluate(look)
    expect(moment).not_to_have_text(before, timeout=20_000)
    assert page.evaluate(look) == place
    assert place[0] == 100


@pytest.mark.parametrize("path", ["/tasks/runs/", "/tasks/export/", "/tasks/sample/", "/write/"])
def test_anonymous_visitors_are_sent_to_log_in_and_back(page, sign_in, path):
    page.goto(path)
    expect(page).to_have_url(re.compile(rf"/accounts/login/\?next={path}"))
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(rf"{path}$"))


def test_no_page_scrolls_sideways(page, sign_in, make_posts):
    make_posts(3)
    Post.objects.update(status="published", published_at="2025-01-01T00:00Z")
    sign_in()
    paths = ["/", "/archive/", "/posts/post-1/", "/write/", "/write/new/"]
    for path in [*paths, "/tasks/", "/tasks/queues/"]:
        page.goto(path)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width in (360, 768, 1280):
                page.set_viewport_size({"width": width, "height": 800})
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (path, scheme, width)


def test_the_admins_list_of_calls_fits(page, sign_in, staff):
    """All columns at 1280 px. A phone has to scroll in the table, not the page."""
    staff.is_superuser = True
    staff.save()
    name = "posts.tasks.newsletter.remove_unconfirmed_subscribers"
    worker = "default@a-host-with-a-long-name"
    result = TaskResult.objects.create(task_id="1" * 36, task_name=name, worker=worker)
    TaskCall.objects.create(result=result, name=name, args=[], kwargs={}, queue="celery")
    sign_in()
    for path, size in (("", 1280), ("", 390), (f"{TaskCall.objects.get().pk}/change/", 390)):
        page.set_viewport_size({"width": size, "height": 800})
        page.goto(f"/admin/tasklog/taskcall/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= size, (path, size)
        if size == 1280:
            last = page.locator("#result_list td").last.bounding_box()
            assert last["x"] + last["width"] <= size
