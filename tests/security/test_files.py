"""Exports are for their owners, and no path leads out of the folders that the site serves."""

import http.client
import re
import uuid
import zipfile
from pathlib import Path

import pytest
from django.core.exceptions import SuspiciousFileOperation

from posts.exports import write_export
from posts.forms import PostForm
from posts.models import Export, Post
from tests.conftest import Starter

from .conftest import PEOPLE

TRAVERSALS = [
    "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "%2e%2e%2fsecret.txt",
    "..\\secret.txt", "..%5csecret.txt", "covers/../../secret.txt", "....//secret.txt",
    "%252e%252e/secret.txt", "..%c0%afsecret.txt", "./../secret.txt", "/../secret.txt",
    "covers/%2e%2e/%2e%2e/secret.txt",
]  # fmt: skip


@pytest.mark.parametrize("person", PEOPLE)
def test_an_export_is_handed_to_its_owner_and_to_nobody_else(client_of, everything, person):
    """Not to a superuser either: the row says whose it is, and the admin does not show the file."""
    export = everything[Export]
    response = client_of(person).get(f"/tasks/export/{export.task_id}/download/")
    got = response.getvalue() if response.status_code == 200 else b""
    assert (got == b"an archive") == (person == "staff")


def test_the_admin_leads_to_no_file(client_of, everything):
    export = everything[Export]
    page = client_of("superuser").get(f"/admin/posts/export/{export.pk}/change/").content.decode()
    assert str(export.task_id) in page
    assert not re.search(f"""(href|src)=["'][^"']*({export.file.name}|/download/)""", page)


def test_an_id_that_nobody_was_given(client_of, everything):
    client = client_of("staff")
    for guess in (uuid.uuid4(), "0", everything[Export].pk, "../../secret.txt"):
        assert client.get(f"/tasks/export/{guess}/download/").status_code == 404


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "x/../../secret.txt"])
def test_a_row_that_names_a_file_elsewhere_is_refused(client_of, everything, name):
    """Whoever could write the row could still not read the machine's files."""
    (Path(everything[Export].file.path).parent.parent / "secret.txt").write_text("a secret")
    Export.objects.update(file=name)
    with pytest.raises(SuspiciousFileOperation):
        Export.objects.get().file.open()
    response = client_of("staff").get(f"/tasks/export/{everything[Export].task_id}/download/")
    assert response.status_code == 400


@pytest.mark.parametrize("slug", ["../x", "a/b", "..", "a\\b", "/etc/x", "a\x00b", "a b"])
def test_no_post_can_be_called_so_that_its_export_leaves_the_folder(db, slug):
    """Its address becomes the name of a file in the archive."""
    form = PostForm({"title": "x", "body": "x", "slug": slug})
    assert not form.is_valid()
    assert "slug" in form.errors


def test_the_names_in_an_archive(everything, tmp_path):
    for number, title in enumerate(["../../x", "/etc/passwd", "C:\\x", "…"]):
        form = PostForm(
            {"title": title, "body": "x"}, instance=Post(author=everything[Post].author)
        )
        assert form.is_valid(), (number, form.errors)
        form.save()
    write_export(tmp_path / "all.zip")
    names = zipfile.ZipFile(tmp_path / "all.zip").namelist()
    assert len(names) == 5
    assert [name for name in names if not re.fullmatch(r"posts/[-\w]+\.md", name)] == []


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A site's folder: a public picture, and beside the public folders a secret."""
    state = tmp_path_factory.mktemp("state")
    for name in ("media/covers/open.txt", "static/open.txt", "exports/open.txt", "secret.txt"):
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a secret" if name in ("secret.txt", "exports/open.txt") else "open")
    return state


@pytest.fixture(scope="module")
def site(state, redis_server, django_db_setup, tmp_path_factory):
    """gunicorn in development, where the site itself hands out uploads."""
    starter = Starter(tmp_path_factory.mktemp("site"), {"STATE_DIR": str(state)})
    yield starter.web()
    starter.stop()


def ask(site, path):
    """Ask for a path exactly as written: clients and browsers would tidy it up."""
    connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode(errors="replace")
    connection.close()
    return response.status, body


@pytest.mark.parametrize("path", [*TRAVERSALS, *(t.replace("secret", "exports/open") for t in
                                                 TRAVERSALS)])  # fmt: skip
@pytest.mark.parametrize("folder", ["media", "static"])
def test_no_path_leads_out_of_the_public_folders(site, folder, path):
    status, body = ask(site, f"/{folder}/{path}")
    assert status != 200
    assert "a secret" not in body


def test_what_is_public_is_served_and_no_folder_is_listed(site, state):
    """Else the test above would prove nothing."""
    assert ask(site, "/media/covers/open.txt") == (200, "open")
    assert ask(site, "/media/covers/")[0] == 404
    assert ask(site, "/static/")[0] == 404
    assert ask(site, "/exports/open.txt")[0] == 404
