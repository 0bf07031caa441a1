"""The page of tasks in a real browser: live, calm, usable without a mouse and without scripts."""

import re
import signal

import pytest
from playwright.sync_api import expect

from posts.models import Export, Run
from tests.browser.conftest import reload_until_a_worker_is_idle
from tests.conftest import Starter
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tasks(page, sign_in):
    """The page of tasks, opened by somebody of the staff."""
    sign_in()
    page.goto("/tasks/")
    return page


def card(page, name):
    return page.locator(f"#lesson-{name}")


def run(page, name):
    """Press a lesson's button. Returns the newest of its runs."""
    card(page, name).get_by_role("button", name=re.compile("^Run (?!again)")).click()
    return newest(page, name)


def newest(page, name):
    return card(page, name).locator("li.run").first


def test_a_run_is_live_without_reloading(worker, tasks):
    tasks.evaluate("window.still_here = true")
    expect(tasks.get_by_text("Not run yet.").first).to_be_visible()
    card(tasks, "add").get_by_label("Seconds it takes").fill("6")
    row = run(tasks, "add")
    expect(row).to_contain_text("STARTED")
    expect(row).to_contain_text("at work for")
    expect(row).to_contain_text("SUCCESS")
    expect(row).to_contain_text("x=2, y=3, seconds=6.0")
    expect(row).to_contain_text(
        re.compile(r"test\d+@.*queue celery.*waited .* s.*ran 6\.\d\d s", re.DOTALL)
    )
    expect(tasks.locator("#said")).to_have_text("add has ended: SUCCESS.")
    assert tasks.evaluate("window.still_here"), "the page was not loaded anew"


def test_polling_ends_with_the_last_run(worker, tasks):
    asked = []
    tasks.on("request", lambda request: asked.append(request.url))
    card(tasks, "add").get_by_label("Seconds it takes").fill("1.5")
    row = run(tasks, "add")
    expect(row).to_contain_text("SUCCESS")
    expect(tasks.locator("#live[hx-get]")).to_have_count(0)
    number = len([url for url in asked if "/poll/" in url])
    assert number
    # Two more seconds of the page's own clock: nobody asks again.
    tasks.evaluate("new Promise(done => setTimeout(done, 2100))")
    assert len([url for url in asked if "/poll/" in url]) == number


def test_progress_cancel_and_run_again(worker, tasks, make_posts):
    make_posts(5)
    row = run(tasks, "export")
    bar = row.get_by_role("progressbar")
    expect(bar).to_be_visible()
    wait_for(lambda: 0 < float(bar.evaluate("bar => bar.value / bar.max")) < 1, "the bar to move")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("REVOKED")
    expect(row).to_contain_text("It was stopped at work.")
    row.get_by_role("button", name="Run again").click()
    expect(card(tasks, "export").locator("li.run")).to_have_count(2)
    expect(newest(tasks, "export")).to_contain_text("SUCCESS")
    with tasks.expect_download() as download:
        newest(tasks, "export").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".zip")


def test_a_traceback_is_folded_and_stays_open_while_others_go_on(worker, tasks):
    card(tasks, "fail_sometimes").get_by_role("button", name="Raise").click()
    row = newest(tasks, "fail_sometimes")
    expect(row).to_contain_text("ValueError: Something went wrong with 'glass'")
    traceback = row.locator("pre")
    expect(traceback).to_be_hidden()
    row.get_by_text("Traceback", exact=True).click()
    card(tasks, "add").locator("summary").click()
    card(tasks, "add").get_by_label("Seconds it takes").fill("1")
    expect(run(tasks, "add")).to_contain_text("SUCCESS")
    expect(traceback).to_contain_text("in fail_sometimes")
    expect(card(tasks, "add").locator(".source pre")).to_be_visible()
    expect(card(tasks, "add").get_by_label("Seconds it takes")).to_have_value("1")


def test_a_killed_process_is_told(worker, tasks):
    card(tasks, "fail_sometimes").get_by_role("button", name="Kill its process").click()
    expect(newest(tasks, "fail_sometimes")).to_contain_text("WorkerLostError")


def test_a_workflow_draws_its_timeline(worker, tasks):
    card(tasks, "report").get_by_label("Seconds a part takes").fill("1")
    card(tasks, "report").get_by_label("Part that fails").select_option("count_links")
    row = run(tasks, "report")
    expect(row.locator("svg rect.bar").first).to_be_visible()
    expect(row).to_contain_text("FAILURE")
    expect(row).to_contain_text("count_links: ReportError: count_links was asked to fail")
    expect(row).to_contain_text("report_failed: Recorded:")
    expect(row.get_by_role("img", name="Timeline of collect_posts")).to_be_visible()
    expect(row.locator("g.bar-failure rect.bar")).to_have_count(1)


def test_nothing_jumps_and_the_focus_stays(worker, tasks):
    tasks.set_viewport_size({"width": 1000, "height": 500})
    card(tasks, "add").get_by_label("Seconds it takes").fill("8")
    row = run(tasks, "add")
    expect(row).to_contain_text("STARTED")
    cancel = row.get_by_role("button", name="Cancel")
    cancel.focus()
    tasks.evaluate("window.scrollTo(0, 120)")
    look = "[scrollY, document.activeElement.id]"
    place = tasks.evaluate(look)
    assert place[1].startswith("cancel-")
    first = row.locator(".facts-line").inner_text()
    expect(row.locator(".facts-line")).not_to_have_text(first)
    assert tasks.evaluate(look) == place
    expect(row).to_contain_text("SUCCESS")
    assert tasks.evaluate("scrollY") == place[0]


def test_by_keyboard_alone(worker, tasks):
    field = card(tasks, "sample_task").get_by_label("Whom to greet")
    for _ in range(60):
        tasks.keyboard.press("Tab")
        if field.evaluate("field => field === document.activeElement"):
            break
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert tasks.evaluate(ring) == "solid", "the focus is seen"
    tasks.keyboard.press("Control+A")
    tasks.keyboard.type("everyone")
    tasks.keyboard.press("Tab")
    assert tasks.evaluate("document.activeElement.innerText").startswith("Run")
    tasks.keyboard.press("Enter")
    expect(newest(tasks, "sample_task")).to_contain_text("Hello everyone")
    assert tasks.evaluate("document.activeElement.innerText").startswith("Run"), "still there"


def test_what_is_started_in_quick_succession_is_all_there(worker, tasks):
    """While the page asks how the first goes, and before the second is answered."""
    names = ["add", "sample_task", "publishing", "upkeep"]
    for name in names:
        card(tasks, name).get_by_role("button", name=re.compile("^Run")).click()
    for name in names:
        expect(newest(tasks, name)).to_contain_text("SUCCESS")
    assert Run.objects.count() == len(names)


def test_a_double_click_starts_one_run(worker, tasks):
    card(tasks, "sample_task").get_by_role("button", name=re.compile("^Run")).dblclick()
    expect(newest(tasks, "sample_task")).to_contain_text("SUCCESS")
    expect(tasks.locator("#live[hx-get]")).to_have_count(0)
    assert Run.objects.count() == 1


def test_a_wrong_value_is_told_and_nothing_is_lost(tasks):
    tasks.locator("form").evaluate_all("forms => forms.forEach(form => form.noValidate = true)")
    add = card(tasks, "add")
    add.get_by_label("First number").fill("7")
    add.get_by_label("Seconds it takes").fill("61")
    run(tasks, "add")
    expect(add.get_by_text("less than or equal to 60")).to_be_visible()
    expect(add.get_by_label("First number")).to_have_value("7")


@pytest.fixture
def own_site(own_redis, folder, staff, browser):
    """A site with a broker of its own, and a browser window of somebody who is signed in."""
    start = Starter(folder, {"CELERY_BROKER_URL": own_redis.url()})
    context = browser.new_context(base_url=start.web().url)
    page = context.new_page()
    page.goto("/accounts/login/?next=/tasks/")
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    yield start, page
    context.close()
    start.stop()


def test_a_stopped_worker_is_said_and_what_waits_can_be_cancelled(own_site, make_posts):
    start, page = own_site
    make_posts(1)
    worker = start.worker()
    head = page.locator("#workers")
    reload_until_a_worker_is_idle(page)
    worker.stop()
    row = run(page, "export")
    expect(row).to_contain_text("PENDING")
    expect(row).to_contain_text("No worker has taken it yet.")
    expect(head).to_contain_text("no worker: its tasks wait until one is started")
    expect(head).to_contain_text("1 waiting")
    row.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("REVOKED")
    expect(row).to_contain_text("It did not begin.")
    # A worker that was not there to hear of it.
    start.worker()
    first = Run.objects.get()
    row.get_by_role("button", name="Run again").click()
    expect(newest(page, "export")).to_contain_text("SUCCESS")
    expect(page.locator(f"#run-{first.task_id}")).to_contain_text("REVOKED")
    assert not Export.objects.filter(task_id=first.task_id).exists()


@pytest.mark.parametrize("how", ["stop", "hang"])
def test_without_a_broker_it_is_said_within_three_seconds(own_site, own_redis, how):
    _, page = own_site
    if how == "stop":
        own_redis.stop()
    else:
        own_redis.process.popen.send_signal(signal.SIGSTOP)
    try:
        card(page, "add").get_by_role("button", name=re.compile("^Run")).click()
        note = card(page, "add").get_by_role("alert")
        expect(note).to_contain_text("nothing was started", timeout=3000)
        page.reload()
        expect(page.locator("#workers")).to_contain_text("The broker does not answer.")
        assert not Run.objects.exists()
    finally:
        own_redis.process.popen.send_signal(signal.SIGCONT)


def test_full_pages_do_not_scroll_sideways_and_can_be_read(worker, tasks):
    """With runs of each kind and everything unfolded, in each size and both themes."""
    card(tasks, "report").get_by_label("Seconds a part takes").fill("0")
    rows = [run(tasks, "sample_task"), run(tasks, "report")]
    card(tasks, "fail_sometimes").get_by_role("button", name="Raise").click()
    rows.append(newest(tasks, "fail_sometimes"))
    for row in rows:
        expect(row).to_contain_text(re.compile("SUCCESS|FAILURE"))
    own = card(tasks, "report").locator("li.run a").first.get_attribute("href")
    for path in ("/tasks/", "/tasks/runs/", own, "/tasks/queues/"):
        tasks.goto(path)
        tasks.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        for scheme in ("light", "dark"):
            tasks.emulate_media(color_scheme=scheme)
            dark = tasks.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (dark == "rgb(22, 22, 21)") == (scheme == "dark")
            assert not tasks.evaluate(FAINT), (path, scheme)
            for width in (360, 768, 1280):
                tasks.set_viewport_size({"width": width, "height": 800})
                wide = tasks.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (path, scheme, width)


# Text whose contrast with the page is below 4.5 : 1.
FAINT = """() => {
  const light = text => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
    }
  };
  return [...document.querySelectorAll("main *")]
    .filter(e => e.checkVisibility())
    .filter(e => [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .filter(e => /^rgb/.test(getComputedStyle(e).color))
    .map(e => {
      const style = getComputedStyle(e);
      const colour = e instanceof SVGElement ? style.fill : style.color;
      const [a, b] = [light(colour), light(ground(e))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 80)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


def test_starting_and_reading_work_without_scripts(worker, browser, web, staff):
    context = browser.new_context(base_url=web.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/tasks/")
    page.get_by_role("link", name="Sign in to start one").click()
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/tasks/")
    assert "Without JavaScript this page stands still" in page.content()
    card(page, "fail_sometimes").get_by_role("button", name="Raise").click()
    expect(page).to_have_url(re.compile("#lesson-fail_sometimes$"))
    row = newest(page, "fail_sometimes")

    def failed():
        page.reload()
        return "FAILURE" in row.inner_text()

    wait_for(failed, "the failure")
    row.locator("summary").click()
    expect(row.locator("pre")).to_contain_text("in fail_sometimes")
    row.get_by_role("button", name="Run again").click()
    expect(card(page, "fail_sometimes").locator("li.run")).to_have_count(2)
    context.close()


def test_strangers_see_what_it_is_and_sign_in(page, staff):
    page.goto("/tasks/")
    expect(page.get_by_role("heading", name="What it looks like")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("link", name="Sign in to start one").click()
    page.get_by_label("Username").fill("editor")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile("/tasks/$"))
    expect(page.get_by_role("button", name="Run add")).to_be_visible()
