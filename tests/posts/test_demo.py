from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from posts.covers import PALETTES, SIZE, draw_cover
from posts.models import Post, Subscriber

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def debug(settings):
    settings.DEBUG = True


def load():
    call_command("load_demo")


def test_it_loads_posts_of_each_status_over_more_than_a_year(capsys):
    load()
    assert "Loaded 8 demo posts" in capsys.readouterr().out
    statuses = sorted(Post.objects.values_list("status", flat=True))
    assert statuses == ["draft", *["published"] * 6, "scheduled"]
    dates = Post.objects.published().values_list("published_at", flat=True)
    assert max(dates) - min(dates) > timedelta(days=365)
    assert not Post.objects.due().exists()
    assert all(
        post.created_at <= timezone.now() - timedelta(days=5) for post in Post.objects.published()
    )


def test_each_post_has_a_current_analysis():
    load()
    for post in Post.objects.select_related("analysis"):
        assert post.current_analysis.words > 50
        assert post.current_analysis.summary


def test_there_are_readers_for_the_newsletter():
    load()
    emails = Subscriber.objects.active().values_list("email", flat=True)
    assert len(emails) == 3
    assert all(email.endswith("@example.org") for email in emails)  # Nobody's.


def test_covers_are_pictures_with_a_description(media):
    load()
    covered = Post.objects.exclude(cover="")
    assert len(covered) == 3
    for post in covered:
        with Image.open(media / post.cover.name) as image:
            assert (image.format, image.size) == ("JPEG", SIZE)
        assert post.cover_alt


@pytest.mark.parametrize("name", PALETTES)
def test_a_cover_is_the_same_each_time(name):
    assert draw_cover(name).read() == draw_cover(name).read()


def test_pages_of_the_demo_work(client):
    load()
    for post in Post.objects.published():
        assert client.get(post.get_absolute_url()).status_code == 200
    assert client.get("/feed/").status_code == 200


def test_the_account_can_sign_in_to_everything():
    load()
    user = authenticate(username="demo", password="demo")
    assert user.is_staff
    assert user.is_superuser


def test_a_second_load_does_nothing(capsys):
    load()
    load()
    assert Post.objects.count() == 8
    assert "not loaded" in capsys.readouterr().out


def test_posts_of_others_are_left_alone(make_post):
    make_post()
    load()
    assert Post.objects.count() == 1
    assert not get_user_model().objects.filter(username="demo").exists()


def test_an_account_that_is_there_keeps_its_password():
    get_user_model().objects.create_user("demo", password="of my own")
    load()
    assert authenticate(username="demo", password="of my own")


def test_it_refuses_without_debug(settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="DEBUG"):
        load()
    assert not Post.objects.exists()
    assert not get_user_model().objects.exists()


def test_an_interrupted_load_leaves_nothing_and_can_be_repeated():
    command = "posts.management.commands.load_demo"
    with (
        patch(f"{command}.analyse", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        load()
    assert not Post.objects.exists()
    assert not get_user_model().objects.exists()
    load()
    assert Post.objects.count() == 8


def test_it_needs_no_broker(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        load()
    assert callbacks == []


def test_code_in_the_demo_posts_is_python_that_compiles():
    for path in Path("posts/demo").glob("*.md"):
        for block in path.read_text().split("```python\n")[1:]:
            compile(block.split("```")[0], path.name, "exec")
