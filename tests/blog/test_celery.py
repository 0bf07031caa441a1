"""What blog/celery.py adds to Celery."""

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from blog.celery import square


@pytest.mark.django_db(transaction=True)
def test_an_eager_task_leaves_the_transaction_around_it_alone(monkeypatch):
    """Connections that are too old are closed around a task in a worker, and there alone."""
    with transaction.atomic():
        Group.objects.create(name="kept")
        monkeypatch.setattr(connection, "close_at", 0)
        assert square.apply([5]).get() == 25
    assert Group.objects.filter(name="kept").exists()
