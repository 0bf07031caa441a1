from django.contrib import admin

from .forms import PostForm
from .models import Analysis, DigestMail, Export, Post, Run


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
