"""A real browser: the system's Chromium, driven by Playwright."""

import os

import pytest

from tests.conftest import need
from tests.services import CHROMIUM_OPTIONS, find_chromium, wait_for


@pytest.fixture(scope="session")
def browser():
    executable = need(find_chromium)
    from playwright.sync_api import expect, sync_playwright

    # Playwright keeps an event loop in this thread, and Django would refuse to query in it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=20_000)  # default 5 s: too short for a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="module")
def worker(start_once):
    """A worker whose exports last as long as it takes to watch and to cancel them."""
    return start_once.worker(env={"EXPORT_SECONDS": "8"})


def reload_until_a_worker_is_idle(page):
    """The page asks once, and a busy machine can be too late with the answer."""

    def idle():
        page.reload()
        workers = page.locator("#workers")
        workers.locator(".queues").wait_for()
        return "idle" in workers.inner_text()

    wait_for(idle, "an idle worker", 60)


@pytest.fixture
def page(browser, web):
    """A fresh browser window on the site. Errors of scripts fail the test."""
    context = browser.new_context(base_url=web.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors


@pytest.fixture
def sign_in(page, staff):
    """Sign in as `editor` through the form."""

    def through_the_form():
        page.goto("/accounts/login/")
        page.get_by_label("Username").fill("editor")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Sign in").click()

    return through_the_form
