"""Forms carry a token. Without it nothing is done, but where mail programs post (RFC 8058)."""

import pytest
from django.urls import resolve
from django.views.csrf import CSRF_FAILURE_TEMPLATE_NAME

from posts.models import Post, Run, Subscriber
from posts.subscribing import UNSUBSCRIBE

from .test_access import ADMIN, MODELS, SITE, path_of, rows_of  # noqa: F401  (a fixture)

EXEMPT = {"newsletter/unsubscribe/<str:token>/"}
OF_A_MODEL = ("", "add/", "{pk}/change/", "{pk}/delete/", "{pk}/history/")


@pytest.fixture
def post(client_of):
    """Post without a token: ``post(path)``. The client is a superuser's and could do anything."""
    client = client_of("superuser", enforce_csrf_checks=True)

    def post(path, data=None, **options):
        response = client.post(path, data, **options)
        names = [template.name for template in response.templates]
        refused = response.status_code == 403 and CSRF_FAILURE_TEMPLATE_NAME in names
        return "refused" if refused else response.status_code

    return post


@pytest.mark.parametrize("address", [*rows_of(SITE), *rows_of(ADMIN)])
def test_each_address_refuses_a_post_without_a_token(post, path_of, address):  # noqa: F811
    assert (post(path_of(address)) == "refused") == (address not in EXEMPT)


@pytest.mark.parametrize("name", rows_of(MODELS))
def test_each_page_of_the_admin_refuses_a_post_without_a_token(post, everything, name):
    model = next(model for model in everything if model._meta.label_lower == name)
    for view in OF_A_MODEL:
        path = f"/admin/{name.replace('.', '/')}/{view.format(pk=everything[model].pk)}"
        assert post(path, {"post": "yes"}) == "refused", view
    assert model.objects.filter(pk=everything[model].pk).exists()


def test_nothing_is_done_without_a_token(post, everything):
    pk, runs = everything[Post].pk, Run.objects.count()
    assert post(f"/write/{pk}/unpublish/") == "refused"
    assert post("/tasks/run/sample_task/", {"sample_task-name": "x"}) == "refused"
    assert post("/newsletter/", {"email": "new@example.org"}) == "refused"
    assert Post.objects.get(pk=pk).status == "published"
    assert Run.objects.count() == runs
    assert not Subscriber.objects.filter(email="new@example.org").exists()


def test_scripts_of_the_page_need_the_token_too(post, everything):
    """An htmx request is no exception."""
    assert post("/tasks/run/sample_task/", {}, headers={"HX-Request": "true"}) == "refused"


def test_the_exempt_view_does_one_thing_and_the_address_is_the_permission(post, everything):
    """Nobody is signed in by it: it ends the one subscription whose signed number it is given."""
    subscriber = everything[Subscriber]
    assert post("/newsletter/unsubscribe/1:forged/") == 404
    subscriber.refresh_from_db()
    assert subscriber.unsubscribed_at is None
    path = f"/newsletter/unsubscribe/{UNSUBSCRIBE.sign(subscriber.pk)}/"
    assert post(path, {"List-Unsubscribe": "One-Click"}) == 200
    subscriber.refresh_from_db()
    assert subscriber.unsubscribed_at


def test_no_other_view_is_marked_exempt(path_of):  # noqa: F811
    """The same list, read from the views themselves."""
    found = {
        address
        for address in (*rows_of(SITE), *rows_of(ADMIN))
        if getattr(resolve(path_of(address)).func, "csrf_exempt", False)
    }
    assert found == EXEMPT
