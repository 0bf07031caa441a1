"""Makes the pictures of the README and the docs: what `make screenshots` calls.

A copy of the site is started with its demo posts on free ports, so what you have in `var/` is
neither shown nor changed.
"""

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
    page.goto("/")
    keep(page, "blog")
    page.goto("/accounts/login/?next=/tasks/")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()

    page.get_by_role("button", name="Run sample_task").click()
    page.get_by_label("Chance of failure").fill("1")
    page.get_by_role("button", name="Run fail_sometimes").click()
    rows = page.locator("tr[id^=run-]")
    expect(rows.nth(0)).to_contain_text("FAILURE")
    expect(rows.nth(1)).to_contain_text("SUCCESS")
    page.goto("/tasks/export/")
    page.get_by_role("button", name="Start the export").click()
    expect(page.get_by_text(" of 8 posts")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("3 of 8 posts")).to_be_visible(timeout=20_000)
    keep(page, "export")
    page.goto("/tasks/")
    page.get_by_label("Seconds it takes").fill("9")
    page.get_by_role("button", name="Run add").click()
    expect(rows.nth(0)).to_contain_text("STARTED")
    keep(page, "tasks", full_page=True)

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
