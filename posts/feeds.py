"""The RSS feed."""

from django.contrib.syndication.views import Feed
from django.urls import reverse_lazy

from .markup import to_html, without_control_characters
from .models import Post


class LatestPosts(Feed):
    title = "Later"
    link = reverse_lazy("posts:list")
    description = "A blog about work that need not happen now."

    def items(self):
        return Post.objects.published().select_related("author")[:20]

    def item_title(self, post):
        return without_control_characters(post.title)

    def item_description(self, post):
        return to_html(post.body)

    def item_author_name(self, post):
        return post.author.get_full_name() or post.author.get_username()

    def item_pubdate(self, post):
        return post.published_at

    def item_updateddate(self, post):
        return post.updated_at
