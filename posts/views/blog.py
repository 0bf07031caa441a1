"""The public pages: list, post, archive."""

from functools import reduce
from operator import and_

from django.core.paginator import Paginator
from django.db.models import Q
from django.shortcuts import get_object_or_404, render

from ..forms import SearchForm
from ..models import Post

POSTS_PER_PAGE = 5


def post_list(request):
    """Show the published posts, newest first; with `?q=` those which contain each word of it."""
    posts = Post.objects.published().select_related("analysis").defer("body")
    form = SearchForm(request.GET)
    query = form.cleaned_data["q"] if form.is_valid() else ""
    if query:
        conditions = (Q(title__icontains=w) | Q(body__icontains=w) for w in query.split())
        posts = posts.filter(reduce(and_, conditions))
    page = Paginator(posts, POSTS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "posts/list.html", {"page": page, "form": form, "query": query})


def detail(request, slug):
    """Show one post. Drafts and scheduled posts exist for staff only, as a preview."""
    posts = Post.objects.select_related("author", "analysis")
    if not request.user.is_staff:
        posts = posts.published()
    post = get_object_or_404(posts, slug=slug)
    return render(request, "posts/detail.html", {"post": post})


def archive(request):
    """Show all published posts by year and month."""
    posts = Post.objects.published().only("title", "slug", "published_at")
    return render(request, "posts/archive.html", {"posts": posts})
