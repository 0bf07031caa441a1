"""Who may do what: each address of the site, for each kind of visitor.

The tables are compared with what the site answers and with the addresses that it has, so a new
address is a failure until it has a row.
"""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.test import RequestFactory
from django.urls import URLResolver, get_resolver

from posts import subscribing
from posts.models import Export as Archive
from posts.models import Post, Run, Subscriber
from posts.tasks.export import export_blog

from .conftest import PEOPLE

# «ok»: a page, or a redirect elsewhere than to a login. «login»: to the login, and back from there.
# The visitors: anonymous, an account, a staff account without rights in the admin, a superuser. The
# rows that the addresses mean are the staff account's. Where a view does not look at the method,
# «ok» of a POST is the page that a GET gets.
SITE = """
                                        GET                      POST
                                        anon  user  staff super  anon  user  staff super
health/                                 ok    ok    ok    ok     405   405   405   405
metrics                                 403   403   ok    ok     405   405   405   405
accounts/login/                         ok    ok    ok    ok     ok    ok    ok    ok
accounts/logout/                        405   405   405   405    ok    ok    ok    ok
favicon.ico                             ok    ok    ok    ok     ok    ok    ok    ok
/                                       ok    ok    ok    ok     ok    ok    ok    ok
archive/                                ok    ok    ok    ok     ok    ok    ok    ok
feed/                                   ok    ok    ok    ok     ok    ok    ok    ok
sitemap.xml                             ok    ok    ok    ok     ok    ok    ok    ok
newsletter/                             ok    ok    ok    ok     ok    ok    ok    ok
newsletter/check/                       ok    ok    ok    ok     ok    ok    ok    ok
newsletter/confirm/<str:token>/         ok    ok    ok    ok     ok    ok    ok    ok
newsletter/unsubscribe/<str:token>/     ok    ok    ok    ok     ok    ok    ok    ok
posts/<slug:slug>/                      ok    ok    ok    ok     ok    ok    ok    ok
write/                                  login 403   ok    ok     login 403   ok    ok
write/new/                              login 403   ok    ok     login 403   ok    ok
write/preview/                          login 403   ok    ok     login 403   ok    ok
write/<int:pk>/                         login 403   ok    ok     login 403   ok    ok
write/<int:pk>/preview/                 login 403   ok    ok     login 403   ok    ok
write/<int:pk>/analysis/                login 403   ok    ok     login 403   ok    ok
write/<int:pk>/publish/                 login 403   ok    ok     login 403   ok    ok
write/<int:pk>/schedule/                login 403   ok    ok     login 403   ok    ok
write/<int:pk>/unpublish/               login 403   ok    ok     login 403   ok    ok
tasks/                                  ok    403   ok    ok     ok    403   ok    ok
tasks/workers/                          login 403   ok    ok     login 403   405   405
tasks/queues/                           login 403   ok    ok     login 403   405   405
tasks/run/<str:name>/                   login 403   405   405    login 403   ok    ok
tasks/poll/                             login 403   ok    ok     login 403   405   405
tasks/runs/                             login 403   ok    ok     login 403   ok    ok
tasks/runs/<uuid:task_id>/              login 403   ok    ok     login 403   ok    ok
tasks/runs/<uuid:task_id>/again/        login 403   405   405    login 403   ok    ok
tasks/runs/<uuid:task_id>/cancel/       login 403   405   405    login 403   ok    ok
tasks/sample/                           login 403   ok    ok     login 403   405   405
tasks/export/                           login 403   ok    ok     login 403   ok    ok
tasks/export/<uuid:task_id>/            login 403   ok    404    login 403   ok    404
tasks/export/<uuid:task_id>/download/   login 403   ok    404    login 403   ok    404
"""

ADMIN = """
                                        GET                      POST
                                        anon  user  staff super  anon  user  staff super
admin/                                  login login ok    ok     login login ok    ok
admin/login/                            ok    ok    ok    ok     ok    ok    ok    ok
admin/logout/                           ok    ok    405   405    ok    ok    ok    ok
admin/password_change/                  login login ok    ok     login login ok    ok
admin/password_change/done/             login login ok    ok     login login 405   405
admin/autocomplete/                     login login 403   403    login login 405   405
admin/jsi18n/                           login login ok    ok     login login 405   405
admin/r/<path:content_type_id>/<path:object_id>/ login login ok    ok     login login ok    ok
admin/(app_label)/                      login login 404   ok     login login 404   ok
admin/(anything)                        login login 404   404    login login 404   404
admin/auth/user/<id>/password/          login login 403   ok     login login 403   ok
"""

# What a superuser may do with each model. What tasks write, nobody else writes.
MODELS = """
                                        look  add   change delete
auth.user                               yes   yes   yes    yes
auth.group                              yes   yes   yes    yes
django_celery_results.groupresult       yes   yes   yes    yes
django_celery_beat.clockedschedule      yes   yes   yes    yes
django_celery_beat.crontabschedule      yes   yes   yes    yes
django_celery_beat.solarschedule        yes   yes   yes    yes
django_celery_beat.intervalschedule     yes   yes   yes    yes
django_celery_beat.periodictask         yes   yes   yes    yes
tasklog.taskcall                        yes   no    no     yes
django_celery_results.taskresult        yes   no    no     yes
posts.post                              yes   yes   yes    yes
posts.run                               yes   no    no     yes
posts.export                            yes   no    no     yes
posts.digestmail                        yes   no    no     yes
posts.subscriber                        yes   yes   yes    yes
posts.newsletter                        yes   no    no     yes
posts.delivery                          yes   no    no     yes
posts.feed                              yes   no    no     yes
posts.feedentry                         yes   no    no     yes
"""


def rows_of(table):
    """Read a table: {address or model: words}."""
    lines = [line.split() for line in table.splitlines() if line and not line.startswith(" ")]
    return {name: words for name, *words in lines}


def addresses():
    """Yield (name, route) of each address that the site has."""

    def walk(resolver, name, route):
        for pattern in resolver.url_patterns:
            here = route + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern, name + (pattern.namespace or ""), here)
            else:
                yield f"{name}:{pattern.name}", here

    return walk(get_resolver(), "", "")


def kind_of(response):
    """Say in a word what a response means to a visitor."""
    response.getvalue()  # Of a file: to its end, which closes it.
    where = response.headers.get("Location", "")
    if where.startswith(("/accounts/login/?next=", "/admin/login/?next=")):
        return "login"
    return "ok" if response.status_code < 400 else str(response.status_code)


@pytest.fixture
def ask(client_of):
    """Ask as each visitor: ``ask("get", "/write/")`` is a list of words. Nothing is kept."""
    clients = [client_of(person) for person in PEOPLE]

    def ask(method, path):
        words = []
        for client in clients:
            before = transaction.savepoint()
            words.append(kind_of(getattr(client, method)(path)))
            transaction.savepoint_rollback(before)
        return words

    return ask


@pytest.fixture
def path_of(everything, people):
    """Fill in a row's address: ``path_of("write/<int:pk>/")``."""
    export = everything[Archive]
    Run.objects.create(task_id=export.task_id, task=export_blog.name, started_by=people["staff"])
    token = everything[Subscriber].pk

    def fill(address):
        task_id = export.task_id if "export/" in address else everything[Run].task_id
        signer = subscribing.CONFIRM if "confirm" in address else subscribing.UNSUBSCRIBE
        values = {
            "<slug:slug>": everything[Post].slug,
            "<int:pk>": everything[Post].pk,
            "<str:name>": "add",
            "<uuid:task_id>": task_id,
            "<str:token>": signer.sign(token),
            "<path:content_type_id>": ContentType.objects.get_for_model(Post).pk,
            "<path:object_id>": everything[Post].pk,
            "<id>": everything[Post].author_id,
            "(app_label)": "posts",
            "(anything)": "nothing/",
        }
        for part, value in values.items():
            address = address.replace(part, str(value))
        return f"/{address.removeprefix('/')}"

    return fill


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("address", [*rows_of(SITE), *rows_of(ADMIN)])
def test_who_may(ask, path_of, redis_server, address, method):
    words = (rows_of(SITE) | rows_of(ADMIN))[address]
    expected = words[:4] if method == "get" else words[4:]
    assert ask(method, path_of(address)) == expected


def test_each_address_has_a_row():
    """The admin's addresses of its models are below."""
    there = {route or "/" for name, route in addresses() if not is_of_a_model(name, route)}
    there -= {r"^media/(?P<path>.*)$"}  # In development only, and public.
    patterns = {
        "admin/^(?P<app_label>": "admin/(app_label)/",
        "admin/(?P<url>.*)$": "admin/(anything)",
    }
    for start, row in patterns.items():
        there = {row if route.startswith(start) else route for route in there}
    assert there == {*rows_of(SITE), *rows_of(ADMIN)}


def is_of_a_model(name, route):
    """Whether an address of the admin is for one model: those are asked below."""
    view = re.fullmatch(r"admin:(?!.*password)\w+_(changelist|add|history|delete|change)", name)
    old = re.fullmatch(r"admin/\w+/\w+/<path:object_id>/", route)  # leads to the page of changes
    return bool(view or old)


def test_each_model_of_the_admin_has_a_row(everything):
    registered = {model._meta.label_lower for model in admin.site._registry}
    assert registered == set(rows_of(MODELS))
    assert registered == {model._meta.label_lower for model in everything}


@pytest.mark.parametrize("name", rows_of(MODELS))
def test_who_may_do_what_with_a_model(ask, everything, name):
    """Staff without rights gets nowhere."""
    model = next(model for model in everything if model._meta.label_lower == name)
    base, pk = f"/admin/{name.replace('.', '/')}/", everything[model].pk
    look, add, change, delete = ("ok" if word == "yes" else "403" for word in rows_of(MODELS)[name])
    others = ["login", "login", "403"]
    views = {
        "": (look, look),
        "add/": (add, add),
        f"{pk}/change/": (look, change),
        f"{pk}/delete/": (delete, delete),
        f"{pk}/history/": (look, look),
    }
    for view, (got, posted) in views.items():
        assert ask("get", base + view) == [*others, got], view
        assert ask("post", base + view) == [*others, posted], view


@pytest.mark.parametrize("name", rows_of(MODELS))
def test_who_may_only_look_is_offered_no_action(people, everything, name):
    """An action that forgets to ask for a right is open to all who see the list."""
    model = next(model for model in everything if model._meta.label_lower == name)
    looker = people["user"]
    looker.is_staff = True
    right = {"codename": f"view_{model._meta.model_name}", "defaults": {"name": "Can view"}}
    kind = ContentType.objects.get_for_model(model)
    looker.user_permissions.add(Permission.objects.get_or_create(content_type=kind, **right)[0])
    request = RequestFactory().get("/")
    request.user = looker
    model_admin = admin.site.get_model_admin(model)
    assert model_admin.has_view_permission(request)
    assert not model_admin.get_actions(request)
