"""One of everything that the site stores."""

import json
import uuid

from django.contrib.auth.models import Group
from django.core.files.base import ContentFile
from django.utils import timezone
from django_celery_beat import models as beat
from django_celery_results.models import GroupResult, TaskResult

from posts import models as posts
from posts.tasks.basics import fail_sometimes
from tasklog.models import TaskCall


def make_everything(owner, text="Text"):
    """Make one row of each model that the admin shows.

    Args:
        owner (User): author, owner and recipient of all that has one.
        text (str): what stands wherever somebody or something could have written.

    Returns:
        dict[type, Model]: the row of each model.
    """
    now = timezone.now()
    task_id = uuid.uuid4()
    owner.first_name, owner.email = text[:150], f"{owner.username}@example.org"
    owner.save()
    post = posts.Post.objects.create(
        title=text[:200],
        slug="one",
        body=text,
        cover_alt=text[:200],
        author=owner,
        status="published",
        published_at=now,
    )
    # Where a worker runs, it may have been faster.
    found = {"words": 1, "reading_minutes": 1, "summary": text, "post_updated_at": post.updated_at}
    found["links"] = [f"https://x.example/{text}"]
    posts.Analysis.objects.update_or_create(post=post, defaults=found)
    export = posts.Export(task_id=uuid.uuid4(), owner=owner)
    export.file.save("one.zip", ContentFile(b"an archive"))
    subscriber = posts.Subscriber.objects.create(email=f"{text}@example.org"[:254])
    newsletter = posts.Newsletter.objects.create(post=post, summary=text[:200], finished_at=now)
    feed = posts.Feed.objects.create(url=f"https://x.example/{text}", title=text[:200], etag=text)
    failure = {"exc_type": text, "exc_message": [text], "exc_module": "builtins"}
    result = TaskResult.objects.create(
        task_id=task_id,
        task_name=fail_sometimes.name,
        periodic_task_name=text,
        task_args=json.dumps(f"({text!r},)"),
        task_kwargs=json.dumps(repr({"value": text})),
        status="FAILURE",
        worker=text[:100],
        content_type="application/json",
        content_encoding="utf-8",
        result=json.dumps(failure),
        traceback=f'Traceback (most recent call last):\n  File "{text}"\nValueError: {text}',
        meta=json.dumps({"children": [], "note": text}),
        date_started=now,
    )
    call = TaskCall.objects.create(
        task_id=task_id,
        name=fail_sometimes.name,
        args=[text],
        kwargs={"value": text},
        options={"note": text},
        queue="celery",
        sent_at=now,
    )
    interval = beat.IntervalSchedule.objects.create(every=1, period="days")
    rows = [
        owner,
        Group.objects.create(name=text[:150]),
        GroupResult.objects.create(group_id=uuid.uuid4(), result=text),
        beat.ClockedSchedule.objects.create(clocked_time=now),
        beat.CrontabSchedule.objects.create(hour="4"),
        beat.SolarSchedule.objects.create(event="sunset", latitude=1, longitude=1),
        interval,
        beat.PeriodicTask.objects.create(
            name=text[:200], task=fail_sometimes.name, interval=interval, description=text
        ),
        call,
        result,
        post,
        posts.Run.objects.create(
            task_id=task_id,
            task=fail_sometimes.name,
            arguments={"value": text},
            started_by=owner,
        ),
        export,
        posts.DigestMail.objects.create(recipient=owner, week=now.date()),
        subscriber,
        newsletter,
        posts.Delivery.objects.create(
            newsletter=newsletter, subscriber=subscriber, reason=text[:500]
        ),
        feed,
        posts.FeedEntry.objects.create(feed=feed, key="0" * 64, post=post, dated=now),
    ]
    return {type(row): row for row in rows}
