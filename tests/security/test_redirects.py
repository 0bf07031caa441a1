"""Whoever follows a link of this site stays on it: no parameter leads elsewhere."""

import pytest
from django.test import Client

from posts.models import Run

ELSEWHERE = [
    "https://elsewhere.example/",
    "http://elsewhere.example/",
    "//elsewhere.example/",
    "///elsewhere.example/",
    "////elsewhere.example/",
    "/\\elsewhere.example/",
    "\\\\elsewhere.example/",
    "http:\\\\elsewhere.example/",
    "http:///elsewhere.example/",
    "https:elsewhere.example",
    " https://elsewhere.example/",
    "\thttps://elsewhere.example/",
    "/\t/elsewhere.example/",
    "https://testserver@elsewhere.example/",
    "https://testserver.elsewhere.example/",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,x",
    "\x00//elsewhere.example/",
]
PASSWORD = "correct horse battery"


@pytest.fixture
def editor(people):
    people["staff"].set_password(PASSWORD)
    people["staff"].save()
    return people["staff"]


@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("where", ["query", "form"])
@pytest.mark.parametrize(
    ("login", "home"), [("/accounts/login/", "/"), ("/admin/login/", ("/", "/admin/"))]
)
def test_signing_in(client, editor, login, home, where, target):
    data = {"username": editor.username, "password": PASSWORD}
    if where == "form":
        data["next"] = target
    query = {"next": target} if where == "query" else {}
    response = client.post(login, data, query_params=query)
    assert response.status_code == 302
    assert response.url in home


@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("logout", ["/accounts/logout/", "/admin/logout/"])
def test_signing_out(client_of, logout, target):
    response = client_of("staff").post(logout, {"next": target})
    # The admin says goodbye on a page of its own; the site leads to its front page.
    assert response.status_code == 200 or response.url in ("/", logout)


@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("button", ["again", "cancel"])
def test_the_buttons_of_a_run(client_of, everything, redis_server, button, target):
    path = f"/tasks/runs/{everything[Run].task_id}/{button}/"
    response = client_of("staff").post(path, {"next": target})
    assert response.url == "/tasks/#lesson-fail_sometimes"


def test_from_https_nobody_is_sent_back_to_http(client_of, everything, redis_server):
    path = f"/tasks/runs/{everything[Run].task_id}/cancel/"
    client = client_of("staff")
    target = "http://testserver/tasks/runs/"
    assert client.post(path, {"next": target}, secure=True).url.startswith("/tasks/#")
    assert client.post(path, {"next": target}).url == target


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_lost_session_in_the_middle_of_a_page(client, db, target):
    """htmx says which page it is on: one of another site is not come back to."""
    headers = {"HX-Request": "true", "HX-Current-URL": target}
    response = client.get("/tasks/workers/", headers=headers)
    assert "elsewhere" not in response.headers["HX-Redirect"]


@pytest.mark.parametrize(
    "path", ["//elsewhere.example/archive", "//elsewhere.example/write/new", "/\\elsewhere.example"]
)
@pytest.mark.parametrize("person", ["anonymous", "superuser"])
def test_addresses_that_begin_like_another_host(client_of, path, person):
    """Django adds a slash at the end, and the login its way back."""
    response = client_of(person).get("/", PATH_INFO=path)
    assert "elsewhere" not in response.headers.get("Location", "").partition("?")[0]


@pytest.mark.parametrize("host", ["elsewhere.example", "testserver.elsewhere.example", "a@b"])
def test_a_forged_host_is_refused(db, host):
    """Else links in pages and mails could be made to lead there."""
    assert Client(headers={"Host": host}).get("/").status_code == 400
