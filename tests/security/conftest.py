"""Fixtures: somebody of each kind, and one of everything that the site stores."""

import pytest
from django.test import Client

from .objects import make_everything

PEOPLE = ("anonymous", "user", "staff", "superuser")


@pytest.fixture(autouse=True)
def media(settings, tmp_path):
    """Uploads go to a folder of the test's own."""
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture
def people(db, django_user_model):
    """Accounts: ``people["staff"]``. None for «anonymous». Staff has no rights in the admin."""
    make = django_user_model.objects.create_user
    return {
        "anonymous": None,
        "user": make("user"),
        "staff": make("staff", is_staff=True),
        "superuser": make("superuser", is_staff=True, is_superuser=True),
    }


@pytest.fixture
def client_of(people):
    """A client that is signed in: ``client_of("staff")``, with options of django.test.Client."""

    def make(person, **options):
        client = Client(raise_request_exception=False, **options)
        if people[person]:
            client.force_login(people[person])
        return client

    return make


@pytest.fixture
def everything(people):
    """One row of each model, all of staff: {model: row}."""
    return make_everything(people["staff"])
