import pytest

from posts.models import Post


@pytest.fixture
def make_posts(staff):
    """Make a number of posts without sending tasks: ``make_posts(3)``."""

    def make(number):
        posts = [
            Post(title=f"Post {n}", slug=f"post-{n}", body="Text", author=staff)
            for n in range(number)
        ]
        return Post.objects.bulk_create(posts)

    return make
