"""Posts, what tasks found out about them, the tasks that people started, and what they left."""

from datetime import timedelta

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone


class PostQuerySet(models.QuerySet):
    def published(self):
        """Posts that everyone may read."""
        return self.filter(status=Post.Status.PUBLISHED)

    def due(self):
        """Scheduled posts whose date has come."""
        return self.filter(status=Post.Status.SCHEDULED, published_at__lte=timezone.now())

    def publish_due(self):
        """Publish the scheduled posts whose date has come, inside the caller's transaction.

        The rows are locked, so that of two callers each post has one, and a third who moves the
        date waits. A post that somebody else has locked is left to the next run. SQLite locks the
        whole database instead (see DATABASES).

        Returns:
            list[Post]: the posts that this call has published.
        """
        posts = list(self.due().select_for_update(skip_locked=True))
        self.filter(pk__in=[post.pk for post in posts]).update(status=Post.Status.PUBLISHED)
        return posts


class Post(models.Model):
    """A blog post, written in Markdown."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        SCHEDULED = "scheduled", "Scheduled"
        PUBLISHED = "published", "Published"

    title = models.CharField(max_length=200)
    slug = models.SlugField(max_length=200, unique=True)
    body = models.TextField()
    cover = models.ImageField(upload_to="covers/%Y/%m/", blank=True)
    cover_alt = models.CharField("cover description", max_length=200, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="posts"
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.DRAFT)
    published_at = models.DateTimeField("publish date", null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PostQuerySet.as_manager()

    class Meta:
        ordering = ["-published_at", "-pk"]
        indexes = [models.Index(fields=["status", "-published_at"])]
        constraints = [
            models.CheckConstraint(
                name="only_drafts_have_no_date",
                condition=models.Q(status="draft") | models.Q(published_at__isnull=False),
                violation_error_message="A scheduled or published post needs a publish date.",
            )
        ]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("posts:detail", args=[self.slug])

    @property
    def current_analysis(self):
        """The analysis of the text as it is now, or None while its task has yet to run."""
        analysis = getattr(self, "analysis", None)
        return analysis if analysis and analysis.post_updated_at == self.updated_at else None

    def publish(self):
        """Make it public as of now. A post that is public already keeps its date. Does not save."""
        if self.status != self.Status.PUBLISHED:
            self.status, self.published_at = self.Status.PUBLISHED, timezone.now()

    def schedule(self, when):
        """Let `publish_due_posts` make it public at ``when``, an aware datetime. Does not save."""
        self.status, self.published_at = self.Status.SCHEDULED, when

    def unpublish(self):
        """Make it a draft again, without a date. Does not save."""
        self.status, self.published_at = self.Status.DRAFT, None


class Analysis(models.Model):
    """What `analyse_post` found in a post: written by the task alone, so that edits never clash."""

    post = models.OneToOneField(Post, on_delete=models.CASCADE, related_name="analysis")
    words = models.PositiveIntegerField()
    reading_minutes = models.PositiveIntegerField()
    summary = models.TextField(blank=True)
    links = models.JSONField(default=list)
    post_updated_at = models.DateTimeField(help_text="Which version of the post this describes.")
    analysed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "analyses"

    def __str__(self):
        return f"{self.post}: {self.words} words"


class RunQuerySet(models.QuerySet):
    def recent(self):
        """Runs whose results are still kept: of an older one nobody could say how it went."""
        return self.filter(created_at__gt=timezone.now() - settings.CELERY_RESULT_EXPIRES)


class Run(models.Model):
    """A task that somebody started from the site. The results backend knows how it went."""

    task_id = models.UUIDField(unique=True)
    task = models.CharField(max_length=200)
    arguments = models.JSONField(default=dict)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return f"{self.task}[{self.task_id}]"

    @property
    def short_name(self):
        """The task's name without its module: «add»."""
        return self.task.rpartition(".")[2]

    @property
    def arguments_text(self):
        """The arguments as a call writes them: «x=2, y=3»."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())


def export_storage():
    """Exports lie outside MEDIA_ROOT: only a view that knows their owner hands them out."""
    return FileSystemStorage(location=settings.EXPORT_ROOT)


class Export(models.Model):
    """An archive of the blog that a task has finished, for the one who asked for it."""

    task_id = models.UUIDField(unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    file = models.FileField(storage=export_storage)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return self.file.name


class DigestMail(models.Model):
    """A claim: this recipient gets the digest of this week from the task that made the row."""

    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    week = models.DateField(help_text="A Monday: the digest tells of the time before it.")
    claimed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["week", "recipient"], name="one_digest_a_week")
        ]

    def __str__(self):
        return f"{self.recipient}, {self.week}"


class SubscriberQuerySet(models.QuerySet):
    def active(self):
        """Those who get the newsletter: confirmed, and not unsubscribed since."""
        return self.filter(confirmed_at__isnull=False, unsubscribed_at__isnull=True)


class Subscriber(models.Model):
    """An address that asked for the newsletter. It gets none before its owner has confirmed it."""

    email = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)
    confirmation_sent_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    unsubscribed_at = models.DateTimeField(null=True, blank=True)

    objects = SubscriberQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="one_subscriber_an_address",
                violation_error_message="This address is a subscriber already.",
            )
        ]

    def __str__(self):
        return self.email


class NewsletterQuerySet(models.QuerySet):
    def waiting(self):
        """Newsletters that a task has yet to send.

        Those whose message the broker did not take, a minute after the commit; and those that did
        not finish within an hour, for two days: a worker was killed, or the mail server was away.
        """
        now = timezone.now()
        unsent = models.Q(queued_at__isnull=True, promised_at__lt=now - timedelta(minutes=1))
        unfinished = models.Q(queued_at__lt=now - timedelta(hours=1))
        return self.filter(
            unsent | unfinished,
            finished_at__isnull=True,
            promised_at__gt=now - timedelta(days=2),
            post__status=Post.Status.PUBLISHED,
        )


class Newsletter(models.Model):
    """A promise: this post is mailed. Made once for each post, when it is published."""

    post = models.OneToOneField(Post, on_delete=models.CASCADE)
    promised_at = models.DateTimeField(
        default=timezone.now, help_text="Goes to those who had confirmed their address by then."
    )
    queued_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    summary = models.CharField(max_length=200, blank=True)

    objects = NewsletterQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return f"Newsletter: {self.post}"


class Delivery(models.Model):
    """A claim: this subscriber gets this newsletter from the batch that made the row."""

    class Status(models.TextChoices):
        CLAIMED = "claimed", "Claimed"
        SENT = "sent", "Sent"
        REFUSED = "refused", "Refused"

    newsletter = models.ForeignKey(Newsletter, on_delete=models.CASCADE)
    subscriber = models.ForeignKey(Subscriber, on_delete=models.CASCADE)
    status = models.CharField(max_length=10, choices=Status, default=Status.CLAIMED)
    claimed_at = models.DateTimeField(auto_now_add=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["newsletter", "subscriber"], name="one_mail_a_newsletter_and_subscriber"
            )
        ]

    def __str__(self):
        return f"{self.newsletter} to {self.subscriber}"


class Feed(models.Model):
    """An address that posts were imported from, and which version of it was read last."""

    url = models.URLField(max_length=500, unique=True)
    title = models.CharField(max_length=200, blank=True)
    etag = models.CharField("ETag", max_length=500, blank=True)
    last_modified = models.CharField(max_length=100, blank=True)
    imported_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return self.title or self.url


class FeedEntry(models.Model):
    """A claim: this entry of a feed is imported. It outlives its post, which then stays deleted."""

    feed = models.ForeignKey(Feed, on_delete=models.CASCADE, related_name="entries")
    key = models.CharField(max_length=64, help_text="SHA-256 of the entry's id.")
    post = models.ForeignKey(Post, null=True, on_delete=models.SET_NULL)
    dated = models.DateTimeField(null=True, help_text="The entry's own date.")

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "feed entries"
        constraints = [
            models.UniqueConstraint(fields=["feed", "key"], name="one_post_a_feed_entry")
        ]

    def __str__(self):
        return f"{self.feed}: {self.post or 'deleted'}"
