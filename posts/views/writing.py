"""The pages of those who write. Nothing typed is lost: an action saves the form it came from."""

from datetime import timedelta

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache

from ..access import staff_required
from ..forms import PostForm, ScheduleForm
from ..models import Post
from ..tasks.newsletter import announce

IMPATIENT_AFTER = timedelta(seconds=20)  # Then the panel says that no worker seems to run.


@staff_required
def desk(request):
    """Show all posts by status: drafts last touched first, then what comes, then what is out."""
    posts = Post.objects.select_related("analysis").defer("body")
    groups = [
        ("Drafts", posts.filter(status=Post.Status.DRAFT).order_by("-updated_at")),
        ("Scheduled", posts.filter(status=Post.Status.SCHEDULED).order_by("published_at")),
        ("Published", posts.published()),
    ]
    return render(request, "posts/desk.html", {"groups": groups})


@staff_required
def new(request):
    """Write a post. It begins as a draft."""
    form = PostForm(request.POST or None, request.FILES or None, instance=Post(author=request.user))
    if request.method == "POST" and form.is_valid():
        post = form.save()
        messages.success(request, f"Saved “{post}” as a draft.")
        return redirect("posts:edit", post.pk)
    return edit_page(request, form)


@staff_required
@never_cache
def edit(request, pk):
    """Change a post."""
    post = get_object_or_404(Post, pk=pk)
    form = PostForm(request.POST or None, request.FILES or None, instance=post)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, f"Saved “{post}”.")
        return redirect("posts:edit", post.pk)
    return edit_page(request, form)


@staff_required
def act(request, pk, action):
    """Publish, schedule or unpublish a post.

    From the edit page comes the whole form, which is saved with the action; from the desk comes
    the click alone. A GET, as after a login in between, changes nothing and shows the edit page.

    Args:
        request (HttpRequest): a POST with the edit page's form, or without fields.
        pk (int): the post.
        action (str): «publish», «schedule» or «unpublish».
    """
    post = get_object_or_404(Post, pk=pk)
    if request.method != "POST":
        return redirect("posts:edit", post.pk)
    from_edit_page = "body" in request.POST
    form = PostForm(request.POST, request.FILES, instance=post) if from_edit_page else None
    schedule = ScheduleForm(request.POST) if action == "schedule" else None
    valid = [f.is_valid() for f in (form, schedule) if f]  # Both, so that all errors are shown.
    if not all(valid):
        return edit_page(request, form or PostForm(instance=post), schedule)
    comes_out = action == "publish" and post.status != Post.Status.PUBLISHED
    if action == "schedule":
        post.schedule(schedule.cleaned_data["publish_at"])
        message = f"Scheduled “{post}”. It comes out by itself."
    elif action == "publish":
        post.publish()
        message = f"Published “{post}”."
    else:
        post.unpublish()
        message = f"“{post}” is a draft again."
    with transaction.atomic():
        post.save()
        if comes_out:
            announce(post)
    messages.success(request, message)
    return redirect("posts:edit", post.pk) if from_edit_page else redirect("posts:desk")


@staff_required
def preview(request, pk=None):
    """Show the typed post as readers would see it; nothing is saved.

    htmx gets the article alone. Without JavaScript it is a page with the article and, below it,
    the form with everything that was typed.
    """
    stored = get_object_or_404(Post, pk=pk) if pk else Post(author=request.user)
    if request.method != "POST":
        return redirect("posts:edit", pk) if pk else redirect("posts:new")
    typed = request.POST
    post = Post(
        title=typed.get("title", "").strip() or "Untitled",
        body=typed.get("body", ""),
        cover="" if "cover-clear" in typed else stored.cover,
        cover_alt=typed.get("cover_alt", ""),
        author=stored.author,
        published_at=stored.published_at,
    )
    if request.htmx:
        return render(request, "posts/_article.html", {"post": post, "heading": "h2"})
    form = PostForm(initial=typed.dict(), instance=stored)
    context = {"post": post, "chose_cover": bool(request.FILES)}
    return edit_page(request, form, template="posts/preview.html", context=context)


@staff_required
@never_cache
def analysis(request, pk):
    """The panel with what a task found out about a post. It asks again until it is up to date.

    It says which state it shows, and is left alone (204) while there is no other: a screen reader
    then reads each state once, and not once a second.
    """
    post = get_object_or_404(Post.objects.select_related("analysis"), pk=pk)
    if not request.htmx:
        return redirect("posts:edit", post.pk)
    context = analysis_context(post)
    if request.GET.get("shows") == context["wait"]:
        return HttpResponse(status=204)
    return render(request, "posts/_analysis.html", context)


def edit_page(request, form, schedule=None, template="posts/edit.html", context=None):
    """Render the page with a post's form, with the errors that the forms carry.

    The post shown around the form is the stored one: what was typed may be wrong, and belongs
    into the fields alone.
    """
    pk = form.instance.pk
    stored = Post.objects.select_related("analysis").get(pk=pk) if pk else None
    if stored and schedule is None:
        date = stored.published_at if stored.status == Post.Status.SCHEDULED else None
        schedule = ScheduleForm(initial={"publish_at": request.POST.get("publish_at", date)})
    failed = any(f is not None and f.is_bound and f.errors for f in (form, schedule))
    context = {
        "form": form,
        "schedule": schedule,
        "stored": stored,
        "failed": failed,
        "cover_lost": failed and bool(request.FILES),
        **(analysis_context(stored) if stored else {}),
        **(context or {}),
    }
    return render(request, template, context)


def analysis_context(post):
    """Return what the panel shows; ``wait`` is «» when it is up to date, else «short» or «long»."""
    wait = ""
    if post.current_analysis is None:
        wait = "long" if timezone.now() - post.updated_at > IMPATIENT_AFTER else "short"
    return {"stored": post, "analysis": getattr(post, "analysis", None), "wait": wait}
