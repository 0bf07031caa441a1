"""`/health/` without servers: what it says, to whom, and what it does not say."""

import pytest
from django.db import OperationalError

from blog import health


@pytest.fixture
def answering(monkeypatch):
    """A broker that answers; the database is the tests' own."""
    monkeypatch.setitem(health.CHECKS, "broker", lambda: None)


@pytest.fixture
def silent(monkeypatch, answering):
    """Let one of the two fail: ``silent("broker")``."""

    def silence(name):
        def fail():
            raise OperationalError("no route to blog:secret@db.internal:5432")

        monkeypatch.setitem(health.CHECKS, name, fail)

    return silence


def test_all_is_well(client, db, answering):
    response = client.get("/health/")
    assert response.status_code == 200
    assert response.json() == {"database": "ok", "broker": "ok"}


@pytest.mark.parametrize(("down", "up"), [("database", "broker"), ("broker", "database")])
def test_the_one_that_is_down_is_named(client, db, silent, down, up):
    silent(down)
    response = client.get("/health/")
    assert response.status_code == 503
    assert response.json()[up] == "ok"
    assert response.json()[down].startswith("OperationalError: ")


def test_the_kind_of_an_error_is_told_in_public_and_the_log_has_the_reason(
    client, db, silent, caplog
):
    silent("database")
    assert client.get("/health/").json() == {
        "database": "OperationalError: no answer, see the log of the web process",
        "broker": "ok",
    }
    assert "The database does not answer: no route to" in caplog.text


def test_it_costs_one_query_and_no_session(client, django_assert_num_queries, db, answering):
    client.cookies["sessionid"] = "somebody"
    with django_assert_num_queries(1) as queries:
        response = client.get("/health/")
    assert queries[0]["sql"] == "SELECT 1"
    assert not response.cookies


def test_it_is_never_cached(client, db, answering):
    assert "no-store" in client.get("/health/").headers["Cache-Control"]


def test_probes_need_no_https_and_pages_do(client, db, answering, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/health/").status_code == 200
    assert client.get("/").status_code == 301
    assert client.get("/posts/health/").status_code == 301


def test_nothing_can_be_posted(client, db, answering):
    assert client.post("/health/").status_code == 405
    assert client.head("/health/").status_code == 200
