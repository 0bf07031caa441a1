"""The nightly clean-up of exports and the weekly digest."""

import importlib
import os
import smtplib
import time
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from celery import current_app
from django.apps import apps
from django.core import mail
from django.core.mail.backends import locmem
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask

from posts import digest
from posts.models import DigestMail, Export
from posts.tasks import upkeep
from posts.tasks.upkeep import remove_old_exports, send_weekly_digest

HOUR = 3600
MONDAY = date(2026, 11, 16)


# --- remove_old_exports ---------------------------------------------------------------------------


@pytest.fixture
def exports(settings, tmp_path):
    settings.EXPORT_ROOT = tmp_path / "exports"
    settings.EXPORT_ROOT.mkdir()
    return settings.EXPORT_ROOT


@pytest.fixture
def make_export(exports, author):
    def make(name, days):
        write(exports / name, days * 24 * HOUR)
        export = Export.objects.create(task_id=uuid.uuid4(), owner=author, file=name)
        moment = timezone.now() - timedelta(days=days)
        Export.objects.filter(pk=export.pk).update(created_at=moment)

    return make


def write(path, seconds_ago):
    path.write_bytes(b"an archive")
    os.utime(path, (time.time() - seconds_ago,) * 2)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_old_exports_go_with_their_files_and_others_stay(exports, make_export):
    make_export("old.zip", days=7.1)
    make_export("young.zip", days=6.9)
    assert remove_old_exports() == {"exports": 1, "files": 1}
    assert list(Export.objects.values_list("file", flat=True)) == ["young.zip"]
    assert names(exports) == {"young.zip"}


def test_how_long_they_are_kept_is_a_setting(exports, make_export, settings):
    settings.EXPORT_KEEP_DAYS = 3
    make_export("export.zip", days=4)
    assert remove_old_exports() == {"exports": 1, "files": 1}


def test_what_a_killed_worker_left_goes_after_an_hour(exports, make_export):
    make_export("named.zip", days=2)
    write(exports / ".partial-dead.zip", 1.1 * HOUR)
    write(exports / ".partial-running.zip", 0.9 * HOUR)
    write(exports / "without-a-row.zip", 1.1 * HOUR)
    write(exports / "row-comes-soon.zip", 1)
    write(exports / "somebody-elses.txt", 999 * HOUR)
    assert remove_old_exports() == {"exports": 0, "files": 2}
    assert names(exports) == {
        "named.zip", ".partial-running.zip", "row-comes-soon.zip", "somebody-elses.txt",
    }  # fmt: skip


def test_a_second_run_finds_nothing(exports, make_export):
    make_export("old.zip", days=8)
    assert remove_old_exports()["exports"] == 1
    assert remove_old_exports() == {"exports": 0, "files": 0}


def test_another_run_may_be_faster(exports, make_export, monkeypatch):
    """Two beats: a file vanishes after it was listed."""
    make_export("old.zip", days=8)
    listed = [exports / "old.zip", exports / "gone.zip"]
    monkeypatch.setattr(type(exports), "glob", lambda self, pattern: listed)
    assert remove_old_exports() == {"exports": 1, "files": 1}


def test_another_run_may_be_faster_still(exports, make_export, monkeypatch):
    """A file vanishes after its age was read."""
    make_export("old.zip", days=8)

    def read_age_while_another_deletes(path):
        path.unlink()
        return 9 * HOUR

    monkeypatch.setattr(upkeep, "age", read_age_while_another_deletes)
    assert remove_old_exports()["exports"] == 1


def test_an_export_whose_file_is_gone_already_goes_too(exports, make_export):
    make_export("old.zip", days=8)
    (exports / "old.zip").unlink()
    assert remove_old_exports() == {"exports": 1, "files": 0}
    assert not Export.objects.exists()


def test_without_any_export_there_is_nothing_to_do(exports, db):
    exports.rmdir()
    assert remove_old_exports() == {"exports": 0, "files": 0}


# --- send_weekly_digest ---------------------------------------------------------------------------


@pytest.fixture
def make_staff(django_user_model, db):
    def make(name, **fields):
        fields = {"email": f"{name}@example.org", "is_staff": True, **fields}
        return django_user_model.objects.create(username=name, **fields)

    return make


@pytest.fixture
def grace(make_staff):
    return make_staff("grace")


@pytest.fixture
def make_posts_of_the_week(make_post):
    """A post on each side of each end of the week before MONDAY."""

    def at(title, *moment):
        make_post(title, published_at=datetime(*moment, tzinfo=UTC))

    at("Before", 2026, 11, 8, 23, 59)
    at("First", 2026, 11, 9, 0, 0)
    at("Last", 2026, 11, 15, 23, 59)
    at("After", 2026, 11, 16, 0, 0)


def recipients():
    return [to for message in mail.outbox for to in message.to]


def test_the_posts_of_the_week_in_one_mail(grace, make_posts_of_the_week, settings):
    settings.SITE_URL = "https://blog.example.org"
    assert digest.send_digest(MONDAY) == {"sent": 1, "refused": 0}
    (message,) = mail.outbox
    assert message.to == ["grace@example.org"]
    assert message.subject == "Later: 2 new posts"
    assert "Hello grace," in message.body
    assert "https://blog.example.org/posts/first/" in message.body
    assert message.body.index("First") < message.body.index("Last")
    assert "Before" not in message.body
    assert "After" not in message.body


def test_titles_are_not_html(grace, make_post):
    make_post("R&D <now>", slug="rd", published_at=datetime(2026, 11, 10, tzinfo=UTC))
    digest.send_digest(MONDAY)
    assert "R&D <now>" in mail.outbox[0].body
    assert mail.outbox[0].subject == "Later: a new post"


@pytest.mark.parametrize("status", ["draft", "scheduled"])
def test_what_is_not_published_is_not_told(grace, make_post, status):
    make_post(status=status, published_at=datetime(2026, 11, 10, tzinfo=UTC))
    assert digest.send_digest(MONDAY)["sent"] == 0


def test_only_active_staff_with_an_address(make_staff, make_posts_of_the_week):
    make_staff("grace")
    make_staff("nobody", email="")
    make_staff("reader", is_staff=False)
    make_staff("gone", is_active=False)
    digest.send_digest(MONDAY)
    assert recipients() == ["grace@example.org"]


def test_nothing_to_read_is_no_mail_and_no_claim(grace, db):
    assert digest.send_digest(MONDAY) == {"sent": 0, "refused": 0}
    assert not mail.outbox
    assert not DigestMail.objects.exists()


def test_once_a_week_however_often_it_runs(grace, make_posts_of_the_week):
    assert [digest.send_digest(MONDAY)["sent"] for _ in range(3)] == [1, 0, 0]
    assert len(mail.outbox) == 1


def test_two_at_the_same_time_send_one_mail_each(make_staff, make_posts_of_the_week, monkeypatch):
    """While the first sends its first mail, the second runs from start to end."""
    make_staff("grace")
    make_staff("joan")
    send_messages, others = locmem.EmailBackend.send_messages, []

    def send_while_another_runs(self, messages):
        if not others:
            others.append("running")
            digest.send_digest(MONDAY)
        return send_messages(self, messages)

    monkeypatch.setattr(locmem.EmailBackend, "send_messages", send_while_another_runs)
    digest.send_digest(MONDAY)
    assert sorted(recipients()) == ["grace@example.org", "joan@example.org"]


def test_the_database_refuses_a_second_claim(grace):
    DigestMail.objects.create(recipient=grace, week=MONDAY)
    with pytest.raises(IntegrityError), transaction.atomic():
        DigestMail.objects.create(recipient=grace, week=MONDAY)


def test_a_week_that_was_missed_is_in_the_next_mail(grace, make_post):
    DigestMail.objects.create(recipient=grace, week=MONDAY - timedelta(weeks=3))
    for title, day in (("Told", 25), ("Missed", 28)):
        make_post(title, published_at=datetime(2026, 10, day, tzinfo=UTC))
    make_post("New", published_at=datetime(2026, 11, 12, tzinfo=UTC))
    digest.send_digest(MONDAY)
    (message,) = mail.outbox
    assert "Missed" in message.body
    assert "New" in message.body
    assert "Told" not in message.body


def test_a_later_digest_does_not_count_as_the_last(grace, make_posts_of_the_week):
    """A run that was held up for a week still tells of its own week."""
    DigestMail.objects.create(recipient=grace, week=MONDAY + timedelta(weeks=1))
    assert digest.send_digest(MONDAY)["sent"] == 1


def test_a_refused_mail_does_not_hold_up_the_others_and_can_be_sent_again(
    make_staff, make_posts_of_the_week, monkeypatch
):
    make_staff("grace")
    make_staff("joan")
    send_messages = locmem.EmailBackend.send_messages

    def refuse(self, messages):
        if messages[0].to == ["grace@example.org"]:
            raise smtplib.SMTPRecipientsRefused({"grace@example.org": (550, b"unknown")})
        return send_messages(self, messages)

    with monkeypatch.context() as patch:
        patch.setattr(locmem.EmailBackend, "send_messages", refuse)
        assert digest.send_digest(MONDAY) == {"sent": 1, "refused": 1}
    assert digest.send_digest(MONDAY) == {"sent": 1, "refused": 0}
    assert recipients() == ["joan@example.org", "grace@example.org"]


def test_a_mail_that_may_be_out_is_not_sent_again(grace, make_posts_of_the_week, monkeypatch):
    def hang_up(self, messages):
        raise smtplib.SMTPServerDisconnected("Connection unexpectedly closed")

    with monkeypatch.context() as patch:
        patch.setattr(locmem.EmailBackend, "send_messages", hang_up)
        with pytest.raises(OSError, match="unexpectedly closed"):
            digest.send_digest(MONDAY)
    assert digest.send_digest(MONDAY)["sent"] == 0


def test_without_a_mail_server_nobody_is_claimed(grace, make_posts_of_the_week, monkeypatch):
    def refuse(self):
        raise ConnectionRefusedError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(locmem.EmailBackend, "open", refuse)
        with pytest.raises(OSError, match="no mail server"):
            digest.send_digest(MONDAY)
    assert digest.send_digest(MONDAY)["sent"] == 1


def test_the_task_tries_again_soon_enough():
    """Its longest pause stays below the visibility timeout."""
    task = send_weekly_digest
    longest = task.retry_backoff * 2 ** (task.max_retries - 1)
    assert task.max_retries == 3
    assert longest < current_app.conf.broker_transport_options["visibility_timeout"]
    assert OSError in task.autoretry_for


def test_the_task_mails_up_to_this_monday_of_the_sites_time_zone(
    grace, make_post, settings, monkeypatch
):
    """In Tokyo it is Monday already; the post is of the week that has just ended there."""
    settings.TIME_ZONE = "Asia/Tokyo"
    monkeypatch.setattr(
        timezone, "now", lambda: datetime(2026, 11, 15, 22, 0, tzinfo=UTC)
    )  # Monday, 07:00 in Tokyo
    make_post("In", slug="in", published_at=datetime(2026, 11, 15, 14, 59, tzinfo=UTC))
    make_post("Out", slug="out", published_at=datetime(2026, 11, 15, 15, 0, tzinfo=UTC))
    assert send_weekly_digest() == {"sent": 1, "refused": 0}
    assert DigestMail.objects.get().week == MONDAY
    assert "/posts/in/" in mail.outbox[0].body
    assert "/posts/out/" not in mail.outbox[0].body


# --- The schedules --------------------------------------------------------------------------------


@pytest.fixture
def create_schedules(db):
    """Run the migration once more on an empty table: ``create_schedules()``."""
    PeriodicTask.objects.all().delete()
    CrontabSchedule.objects.all().delete()
    migration = importlib.import_module("posts.migrations.0002_schedules")
    return lambda: migration.create_schedules(apps, None)


def test_the_schedules_exist_with_tasks_that_exist_and_they_expire(create_schedules):
    create_schedules()
    found = {task.name: task for task in PeriodicTask.objects.all()}
    assert set(found) == {
        "Publish scheduled posts", "Remove old exports", "Send the weekly digest",
        "celery.backend_cleanup",
    }  # fmt: skip
    current_app.loader.import_default_modules()
    for task in found.values():
        assert task.task in current_app.tasks
        assert task.expire_seconds
        task.full_clean()
    assert found["celery.backend_cleanup"].task == "celery.backend_cleanup"


def test_the_digest_goes_out_on_monday_morning_where_the_site_is(create_schedules, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    create_schedules()
    crontab = PeriodicTask.objects.get(name="Send the weekly digest").crontab
    fields = (crontab.minute, crontab.hour, crontab.day_of_week, str(crontab.timezone))
    assert fields == ("0", "7", "1", "Asia/Tokyo")
    assert 1 in crontab.schedule.day_of_week  # Celery counts from Sunday, which is 0


def test_they_are_created_once_and_edits_stay(create_schedules):
    create_schedules()
    PeriodicTask.objects.update(expire_seconds=5, enabled=False)
    create_schedules()
    assert PeriodicTask.objects.filter(expire_seconds=5, enabled=False).count() == 4
