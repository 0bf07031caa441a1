"""What a browser is told in production: cookies, headers, the policy of each page."""

import http.client
import subprocess
import sys
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password

from tests.conftest import Starter
from tests.services import ROOT

from . import production

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' https:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
HEADERS = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def test_the_check_for_deployment_has_nothing_to_say(tmp_path):
    """With what the Compose files set for production, and nothing else."""
    env = {"PATH": "/usr/bin", "ENV_FILE": "/dev/null", "STATE_DIR": str(tmp_path)}
    env |= production.variables() | production.addresses()
    command = [sys.executable, "-W", "ignore", "manage.py", "check", "--deploy"]
    command += ["--fail-level", "WARNING"]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


def test_one_check_is_silenced_and_no_other():
    """«preload»: the owner of a domain decides that, and can hardly take it back."""
    from blog import settings

    assert settings.SILENCED_SYSTEM_CHECKS == ["security.W021"]


@pytest.fixture(scope="module")
def site(redis_server, django_db_setup, tmp_path_factory):
    starter = Starter(tmp_path_factory.mktemp("production"))
    yield production.start_site(starter, tmp_path_factory.mktemp("state"))
    starter.stop()


class Browser:
    """Asks as the web server in front does: for the host, and with word of HTTPS."""

    def __init__(self, site):
        self.address, self.cookies, self.set = site.url.removeprefix("http://"), {}, {}

    def ask(self, path, data=None, https=True, host=production.HOST):
        headers = {"Host": host, "Referer": f"https://{host}/"}
        if https:
            headers["X-Forwarded-Proto"] = "https"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if data is not None:
            data = urlencode({"csrfmiddlewaretoken": self.cookies.get("csrftoken", ""), **data})
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request("GET" if data is None else "POST", path, data, headers)
        response = connection.getresponse()
        response.body = response.read().decode()
        connection.close()
        for line in response.headers.get_all("Set-Cookie", []):
            pair, *flags = line.split("; ")
            name, _, value = pair.partition("=")
            self.cookies[name], self.set[name] = value, flags
        return response


@pytest.fixture
def browser(site, transactional_db):
    return Browser(site)


@pytest.fixture
def signed_in(browser):
    """Somebody who has gone through the form."""
    password = make_password("correct horse", hasher="pbkdf2_sha256")
    get_user_model().objects.create(
        username="root", password=password, is_staff=True, is_superuser=True
    )
    browser.ask("/accounts/login/")
    answer = browser.ask(
        "/accounts/login/", {"username": "root", "password": "correct horse", "next": "/write/"}
    )
    assert (answer.status, answer.headers["Location"]) == (302, "/write/")
    return browser


def policy_of(response):
    header = response.headers["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in header.split("; "))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/archive/", 200), ("/newsletter/", 200), ("/accounts/login/", 200),
        ("/feed/", 200), ("/sitemap.xml", 200), ("/tasks/", 200), ("/health/", 200),
        ("/nothing/", 404), ("/metrics", 403), ("/accounts/logout/", 405), ("/write/", 302),
        ("/newsletter/confirm/x/", 404), ("/favicon.ico", 302), ("/admin/login/", 200),
    ],
)  # fmt: skip
def test_each_answer_has_the_headers_and_the_policy(browser, path, status):
    response = browser.ask(path)
    assert response.status == status
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert policy_of(response) == POLICY


@pytest.mark.parametrize(
    "path", ["/write/", "/write/new/", "/tasks/", "/tasks/queues/", "/admin/",
             "/admin/tasklog/taskcall/", "/admin/django_celery_beat/periodictask/add/"]
)  # fmt: skip
def test_the_pages_of_staff_have_them_too(signed_in, path):
    response = signed_in.ask(path)
    assert response.status == 200
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert policy_of(response) == POLICY
    assert "no-store" in response.headers.get("Cache-Control", "") or path.startswith("/write/")


def test_an_error_has_them(browser):
    """A forged host, a POST without a token."""
    assert browser.ask("/", host="elsewhere.example").status == 400
    browser.cookies.clear()
    response = browser.ask("/newsletter/", {"email": "ada@example.org"})
    assert response.status == 403
    assert policy_of(response) == POLICY


def test_files_are_what_they_say(browser):
    for name in ("posts/site.css", "admin/css/base.css", "posts/favicon.svg"):
        response = browser.ask(f"/static/{name}")
        assert response.status == 200
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "javascript" not in response.headers["Content-Type"]


def test_nothing_is_allowed_inline_and_no_other_host_gives_scripts():
    assert "unsafe" not in str(POLICY)
    assert POLICY["script-src"] == POLICY["style-src"] == "'self'"


def test_cookies(signed_in):
    """Over HTTPS alone, not to other sites' forms; no script needs the session."""
    session, csrf = signed_in.set["sessionid"], signed_in.set["csrftoken"]
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(session)
    assert {"Secure", "SameSite=Lax", "Path=/"} <= set(csrf)
    assert not [flag for flag in session + csrf if flag.startswith("Domain")]


def test_a_session_gets_another_name_when_somebody_signs_in_and_ends_when_they_leave(signed_in):
    before = signed_in.cookies["sessionid"]
    signed_in.ask("/accounts/login/", {"username": "root", "password": "correct horse"})
    after = signed_in.cookies["sessionid"]
    signed_in.ask("/accounts/logout/", {})
    for session in (before, after):
        signed_in.cookies["sessionid"] = session
        assert signed_in.ask("/write/").status == 302


@pytest.mark.parametrize("path", ["/", "/accounts/login/", "/admin/", "/tasks/"])
def test_without_https_nothing_is_answered_but_where_to_go(browser, path):
    response = browser.ask(path, https=False)
    assert response.status == 301
    assert response.headers["Location"] == f"https://{production.HOST}{path}"
    assert "Set-Cookie" not in response.headers
    assert response.body == ""


def test_probes_ask_without_https(browser):
    response = browser.ask("/health/", https=False)
    assert response.status == 200
    assert response.body == '{"database": "ok", "broker": "ok"}'


def test_no_page_tells_of_debugging(browser):
    """Neither settings nor code: a page that fails says so, and the log says why."""
    for path in ("/nothing/", "/media/x", "/static/nothing.css"):
        response = browser.ask(path)
        assert response.status == 404
        for word in ("Traceback", "DEBUG", "urlconf", "Exception"):
            assert word not in response.body
