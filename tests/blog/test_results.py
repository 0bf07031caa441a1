"""Results in the Django database are rows like any other."""

import pytest
from celery import current_app
from django.db.models.signals import post_save
from django_celery_results.models import TaskResult

from posts.tasks.basics import add

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored():
    """A stored failure, and the states that a receiver of Django's signal was told."""
    told = []

    def listen(sender, instance, **kwargs):
        told.append(instance.status)

    post_save.connect(listen, sender=TaskResult)
    backend = current_app.backend
    backend.store_result("an-id", {"pid": 1, "hostname": "w"}, "STARTED")
    backend.mark_as_failure("an-id", ValueError("no"))
    post_save.disconnect(listen, sender=TaskResult)
    return told


def test_a_django_signal_tells_of_each_state(stored):
    """C14: reacting to state changes, in the process that stores the result."""
    assert stored == ["STARTED", "FAILURE"]


def test_results_are_found_with_the_orm(stored):
    """C14, G2.8."""
    row = TaskResult.objects.filter(status="FAILURE").get()
    assert row.task_id == "an-id"
    assert "ValueError" in row.result


def test_the_admin_shows_the_newest_result_first(admin_client):
    """C15, G2.3."""
    for number in range(3):
        TaskResult.objects.create(
            task_id=f"id-{number}", task_name=add.name, status="SUCCESS", result=str(number)
        )
    page = admin_client.get("/admin/").content.decode()
    assert "/admin/django_celery_results/taskresult/" in page
    assert "/admin/django_celery_results/groupresult/" in page
    page = admin_client.get("/admin/django_celery_results/taskresult/").content.decode()
    assert page.index("id-2") < page.index("id-1") < page.index("id-0")
    assert "posts.tasks.basics.add" in page
    assert "SUCCESS" in page
    newest = TaskResult.objects.get(task_id="id-2")
    page = admin_client.get(f"/admin/django_celery_results/taskresult/{newest.pk}/change/")
    assert "posts.tasks.basics.add" in page.content.decode()
