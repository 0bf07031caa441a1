from django.contrib import admin, messages
from django.db import transaction

from .forms import PostForm
from .models import (
    Analysis,
    Delivery,
    DigestMail,
    Export,
    Feed,
    FeedEntry,
    Newsletter,
    Post,
    Run,
    Subscriber,
)
from .tasks.newsletter import announce


class ReadOnly:
    """For what tasks write: people look at it and may delete it."""

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False


class AnalysisInline(ReadOnly, admin.StackedInline):
    model = Analysis
    can_delete = False


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    form = PostForm
    fields = [
        "title", "slug", "body", "cover", "cover_alt", "author", "status", "published_at",
    ]  # fmt: skip
    list_display = ["title", "status", "author", "published_at", "updated_at"]
    list_filter = ["status", "author"]
    search_fields = ["title", "body"]
    date_hierarchy = "published_at"
    prepopulated_fields = {"slug": ["title"]}
    inlines = [AnalysisInline]

    def get_changeform_initial_data(self, request):
        return {"author": request.user.pk, **super().get_changeform_initial_data(request)}

    def save_model(self, request, post, form, change):
        """Mail a post that is published here. The admin's views run in a transaction."""
        super().save_model(request, post, form, change)
        if "status" in form.changed_data and post.status == Post.Status.PUBLISHED:
            announce(post)


@admin.register(Run)
class RunAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["task_id", "task", "started_by", "created_at"]
    list_filter = ["task"]
    search_fields = ["task", "task_id"]
    date_hierarchy = "created_at"


@admin.register(Export)
class ExportAdmin(ReadOnly, admin.ModelAdmin):
    # Not the file: its storage has no URL, since a view hands it to its owner alone.
    fields = ["task_id", "owner", "created_at"]
    list_display = ["task_id", "owner", "created_at"]
    date_hierarchy = "created_at"


@admin.register(DigestMail)
class DigestMailAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["week", "recipient", "claimed_at"]
    date_hierarchy = "week"


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin):
    readonly_fields = ["created_at", "confirmation_sent_at"]
    list_display = ["email", "confirmed_at", "unsubscribed_at"]
    list_filter = [
        ("confirmed_at", admin.EmptyFieldListFilter),
        ("unsubscribed_at", admin.EmptyFieldListFilter),
    ]
    search_fields = ["email"]


@admin.register(Newsletter)
class NewsletterAdmin(ReadOnly, admin.ModelAdmin):
    """Deleting a row forgets who has had the mail: published once more, the post is mailed anew."""

    list_display = ["post", "promised_at", "queued_at", "finished_at", "summary"]
    list_filter = [("finished_at", admin.EmptyFieldListFilter)]
    list_select_related = ["post"]


@admin.register(Delivery)
class DeliveryAdmin(ReadOnly, admin.ModelAdmin):
    """Who got which newsletter. «Claimed» for longer than minutes: nobody knows, see `reason`."""

    list_display = ["newsletter", "subscriber", "status", "claimed_at", "reason"]
    list_filter = ["status"]
    list_select_related = ["newsletter__post", "subscriber"]
    search_fields = ["subscriber__email"]
    actions = ["send_again"]

    @admin.action(
        description="Send again to selected recipients (they may get a second mail)",
        permissions=["delete"],  # Of their claims.
    )
    def send_again(self, request, deliveries):
        with transaction.atomic():
            newsletters = Newsletter.objects.filter(delivery__in=deliveries).distinct()
            posts = [newsletter.post for newsletter in newsletters.select_related("post")]
            number = deliveries.exclude(status=Delivery.Status.SENT).delete()[0]
            Newsletter.objects.filter(post__in=posts).update(finished_at=None)
            for post in posts:
                announce(post)
        self.message_user(request, f"{number} recipients get it again.", messages.SUCCESS)


@admin.register(Feed)
class FeedAdmin(ReadOnly, admin.ModelAdmin):
    fields = ["url", "title", "etag", "last_modified", "imported_at"]
    list_display = ["url", "title", "imported_at"]
    search_fields = ["url", "title"]


@admin.register(FeedEntry)
class FeedEntryAdmin(ReadOnly, admin.ModelAdmin):
    """Which entries are imported already. One that is deleted here is imported again."""

    list_display = ["feed", "post", "dated"]
    list_filter = ["feed"]
    list_select_related = ["feed", "post"]
    search_fields = ["post__title"]
