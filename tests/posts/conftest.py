"""Fixtures of the blog: people and posts."""

from datetime import timedelta

import pytest
from django.utils import timezone

from posts.models import Post


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Uploads go to a folder of the test's own."""
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


@pytest.fixture
def author(django_user_model, db):
    return django_user_model.objects.create_user("ada", first_name="Ada", is_staff=True)


@pytest.fixture
def writer(client, author):
    """A client that is signed in as staff."""
    client.force_login(author)
    return client


@pytest.fixture
def reader(client, django_user_model, db):
    """A client that is signed in without staff rights."""
    client.force_login(django_user_model.objects.create_user("bob"))
    return client


@pytest.fixture
def make_post(author):
    """Make a post, published yesterday unless told otherwise: ``make_post("Title", days=-9)``."""

    def make(title="Hello", days=-1, **fields):
        fields.setdefault("status", Post.Status.PUBLISHED)
        if fields["status"] != Post.Status.DRAFT:
            fields.setdefault("published_at", timezone.now() + timedelta(days=days))
        fields.setdefault("slug", title.lower().replace(" ", "-"))
        fields.setdefault("body", f"The text of {title}.")
        return Post.objects.create(title=title, author=author, **fields)

    return make
