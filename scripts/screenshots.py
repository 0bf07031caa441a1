"""Makes the pictures of the README and the docs: what `make screenshots` calls.

A copy of the site is started with its demo posts on free ports, so what you have in `var/` is
neither shown nor changed.
"""

import re
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT))

from playwright.sync_api import expect, sync_playwright  # noqa: E402

from tests import services  # noqa: E402

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def main():
    try:
        chromium = services.find_chromium()
    except LookupError as error:
        sys.exit(f"make screenshots: {error}")
    expect.set_options(timeout=20_000)
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="blog-") as folder, sync_playwright() as playwright:
        copy = Path(folder) / "site"
        services.copy_site(copy)
        (copy / ".env").write_text((ROOT / ".env.example").read_text())
        port, flower_port = services.free_port(), services.free_port()
        env = {"PORT": str(port), "FLOWER_PORT": str(flower_port), "CELERY_BROKER_URL": None}
        log = Path(folder) / "run.log"
        site = services.Process([sys.executable, "scripts/run.py"], log, env, copy)
        site.wait_for_output("Ctrl-C stops everything.", 60)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=services.CHROMIUM_OPTIONS
        )
        try:
            take_pictures(browser, f"http://127.0.0.1:{port}")
        finally:
            browser.close()
            site.stop(signal.SIGINT, 60)


def take_pictures(browser, url):
    """Walk through the site and keep what is seen.

    Args:
        browser (playwright.sync_api.Browser): an open browser.
        url (str): the site's address, without a slash at the end.
    """
    page = browser.new_context(base_url=url, viewport=DESKTOP).new_page()
    page.goto("/", wait_until="networkidle")  # the covers too
    keep(page, "blog")
    page.goto("/accounts/login/?next=/tasks/")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()

    def lesson(name):
        return page.locator(f"#lesson-{name}")

    def run(name):
        lesson(name).get_by_role("button", name=re.compile("^Run (?!again)")).click()
        return lesson(name).locator("li.run").first

    # What has ended, one of each kind.
    lesson("fail_sometimes").get_by_role("button", name="Raise").click()
    expect(lesson("fail_sometimes").locator("li.run").first).to_contain_text("FAILURE")
    expect(run("sample_task")).to_contain_text("SUCCESS")
    expect(run("images")).to_contain_text("SUCCESS")
    lesson("report").get_by_label("Part that fails").select_option("count_links")
    expect(run("report")).to_contain_text("FAILURE")
    lesson("report").get_by_label("Part that fails").select_option("")
    expect(run("report")).to_contain_text("SUCCESS")
    page.set_viewport_size({"width": 1280, "height": 720})
    lesson("report").screenshot(path=IMAGES / "workflow.png", animations="disabled")
    print("docs/images/workflow.png")

    # What is at work.
    lesson("add").get_by_label("Seconds it takes").fill("1")
    expect(run("add")).to_contain_text("SUCCESS")
    lesson("add").get_by_label("Seconds it takes").fill("30")
    export = run("export")
    expect(run("add")).to_contain_text("STARTED")
    expect(export).to_contain_text("3 of 8", timeout=20_000)
    expect(page.locator("#workers")).to_contain_text("busy with 1")
    lesson("export").screenshot(path=IMAGES / "export.png", animations="disabled")
    print("docs/images/export.png")
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.evaluate("window.scrollTo(0, 0)")
    keep(page, "tasks")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    lesson("fail_sometimes").evaluate("one => one.scrollIntoView()")
    keep(page, "tasks-phone-dark")
    page.emulate_media(color_scheme="light")
    for row in (lesson("add").locator("li.run").first, export):
        row.get_by_role("button", name="Cancel").click()
        expect(row).to_contain_text("REVOKED")

    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.goto("/")
    page.locator("article a, .teaser a").first.click()
    keep(page, "post-phone-dark")


def keep(page, name, **options):
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled", **options)
    print(f"docs/images/{name}.png")


if __name__ == "__main__":
    main()
