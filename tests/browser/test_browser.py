"""What somebody sees in a browser: writing a post, starting tasks, watching an export."""

import re

import pytest
from playwright.sync_api import expect

from posts.models import Post
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
    page.get_by_role("link", name="Tasks").click()
    page.get_by_role("link", name="Export the blog").click()
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


def test_runs_are_live_without_reloading(worker, page, sign_in):
    sign_in()
    page.goto("/tasks/")
    expect(page.get_by_text("Every task that is started here appears")).to_be_visible()
    page.get_by_label("Seconds it takes").fill("2")
    page.get_by_role("button", name="Run add").click()
    row = page.locator("tr[id^=run-]").first
    page.evaluate("window.still_here = true")
    expect(row).to_contain_text("STARTED")
    expect(row).to_contain_text("SUCCESS")
    expect(row).to_contain_text("x=2, y=3, seconds=2.0")
    expect(row).to_contain_text(re.compile(r"test\d+@"))
    assert page.evaluate("window.still_here"), "the page was not loaded anew"


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


def test_a_traceback_is_folded_and_opens(worker, page, sign_in):
    sign_in()
    page.goto("/tasks/")
    page.get_by_label("Chance of failure").fill("1")
    page.get_by_role("button", name="Run fail_sometimes").click()
    row = page.locator("tr[id^=run-]").first
    expect(row).to_contain_text("ValueError: Something went wrong")
    traceback = row.locator("pre")
    expect(traceback).to_be_hidden()
    row.get_by_text("Traceback", exact=True).click()
    expect(traceback).to_contain_text("in fail_sometimes")


def test_a_wrong_value_is_told_and_nothing_is_lost(page, sign_in):
    sign_in()
    page.goto("/tasks/")
    page.locator("form").evaluate_all("forms => forms.forEach(form => form.noValidate = true)")
    page.get_by_label("First number").fill("7")
    page.get_by_label("Seconds it takes").fill("61")
    page.get_by_role("button", name="Run add").click()
    expect(page.get_by_text("less than or equal to 60")).to_be_visible()
    expect(page.get_by_label("First number")).to_have_value("7")


@pytest.mark.parametrize("path", ["/tasks/", "/tasks/export/", "/tasks/sample/", "/write/"])
def test_anonymous_visitors_are_sent_to_log_in_and_back(page, sign_in, path):
    page.goto(path)
    expect(page).to_have_url(re.compile(rf"/accounts/login/\?next={path}"))
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(rf"{path}$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_scrolls_sideways(page, sign_in, make_posts, width, scheme):
    make_posts(3)
    Post.objects.update(status="published", published_at="2025-01-01T00:00Z")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    sign_in()
    paths = ["/", "/archive/", "/posts/post-1/", "/write/", "/write/new/"]
    for path in [*paths, "/tasks/", "/tasks/queues/"]:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_starting_works_without_scripts(worker, browser, web, staff):
    context = browser.new_context(base_url=web.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/tasks/")
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Run sample_task").click()

    def done():
        page.reload()
        return "Hello world" in page.content()

    wait_for(done, "the result")
    context.close()
