import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from posts.models import Post

from .helpers import TYPED, picture, text_of


def test_a_cover_is_stored_and_shown(writer, media):
    writer.post("/write/new/", {**TYPED, "cover": picture(), "cover_alt": "Teal"})
    post = Post.objects.get()
    assert (media / post.cover.name).exists()
    assert f'<img class="cover" src="{post.cover.url}" alt="Teal">' in text_of(
        writer.get(post.get_absolute_url())
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cover.png", b"no picture", "not an image or a corrupted image"),
        ("cover.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        ("cover.png", None, "“cover.png” has 5.0 MB, and a cover may have 5.0 MB"),
        ("cover.bmp", picture().read(), "File extension “bmp” is not allowed"),
    ],
)
def test_a_cover_that_will_not_do_is_explained(writer, name, content, message, media):
    too_large = picture().read().ljust(5 * 1024 * 1024 + 1, b"\0")
    cover = SimpleUploadedFile(name, too_large if content is None else content)
    page = text_of(writer.post("/write/new/", {**TYPED, "cover": cover}))
    assert message in page.replace("\xa0", " ")
    assert "Please choose the cover again" in page
    assert not Post.objects.exists()
    assert not list(media.rglob("*.*"))


def test_a_cover_of_five_megabytes_is_taken(writer):
    cover = SimpleUploadedFile("cover.png", picture().read().ljust(5 * 1024 * 1024, b"\0"))
    writer.post("/write/new/", {**TYPED, "cover": cover})
    assert Post.objects.get().cover.size == 5 * 1024 * 1024


def test_a_cover_stays_until_it_is_cleared(writer):
    writer.post("/write/new/", {**TYPED, "cover": picture()})
    post = Post.objects.get()
    writer.post(f"/write/{post.pk}/", TYPED)
    assert Post.objects.get().cover
    writer.post(f"/write/{post.pk}/", {**TYPED, "cover-clear": "on"})
    assert not Post.objects.get().cover


def test_a_post_whose_cover_file_is_lost_can_still_be_edited(writer, make_post):
    post = make_post(cover="covers/lost.png")
    writer.post(f"/write/{post.pk}/", TYPED)
    assert Post.objects.get().title == "A title"
