"""Thumbnails: what is made of a cover, what of a hostile file, and what goes again."""

import io
import os
import struct
import zlib

import pytest
from django.core.files.base import ContentFile
from PIL import Image

from posts import images
from posts.images import BadImage, folder_of, thumbnails, write_thumbnail
from posts.models import Post
from posts.tasks import images as tasks
from posts.tasks.analysis import analyse_post
from posts.tasks.images import make_thumbnail, make_thumbnails

from .helpers import TYPED, picture, text_of


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    """The thumbnails that were asked for. There is no broker in these tests."""
    calls = []
    monkeypatch.setattr(make_thumbnails, "delay", calls.append)
    monkeypatch.setattr(analyse_post, "delay", lambda pk: None)
    return calls


def encode(size=(1600, 800), mode="RGB", kind="JPEG", **options):
    data = io.BytesIO()
    Image.new(mode, size, "teal").save(data, kind, **options)
    return data.getvalue()


def png_bomb(width, height):
    """A PNG of some bytes that says it has so many pixels."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write(folder, content, name="cover.jpg"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.fixture
def covered(make_post):
    """A post whose cover is 1600 pixels wide."""
    return make_post(cover=ContentFile(encode(), name="cover.jpg"))


def make_all(post_id):
    """What `make_thumbnails` and its parts do, without Celery."""
    for path in images.others_than(post_id, tasks.cover_of(post_id)):
        path.unlink()
    return [make_thumbnail(post_id, width) for width in images.WIDTHS]


@pytest.mark.parametrize("width", images.WIDTHS)
def test_a_thumbnail_is_as_wide_as_asked_for(tmp_path, width):
    target = tmp_path / "new" / "small.webp"
    assert write_thumbnail(write(tmp_path, encode()), target, width) == [width, width // 2]
    with Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", (width, width // 2))
    assert target.stat().st_mode & 0o777 == 0o644, "the web server reads it"


def test_nothing_is_made_larger_than_it_is(tmp_path):
    source, target = write(tmp_path, encode((100, 50))), tmp_path / "small.webp"
    assert write_thumbnail(source, target, 640) is None
    assert not target.exists()
    assert write_thumbnail(source, target, min(images.WIDTHS)) == [100, 50]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "1"), ("PNG", "I;16"), ("GIF", "P"),
     ("WEBP", "RGBA"), ("JPEG", "CMYK"), ("JPEG", "L"), ("AVIF", "RGB")],
)  # fmt: skip
def test_all_kinds_of_images_will_do(tmp_path, kind, mode):
    data = io.BytesIO()
    Image.new(mode, (800, 400)).save(data, kind)
    target = tmp_path / "small.webp"
    assert write_thumbnail(write(tmp_path, data.getvalue()), target, 320) == [320, 160]
    with Image.open(target) as image:
        assert (image.mode == "RGBA") == (mode in ("RGBA", "LA"))


def test_a_photo_that_lies_on_its_side_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    source = write(tmp_path, encode((800, 400), exif=exif))
    assert write_thumbnail(source, tmp_path / "small.webp", 320) == [320, 640]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png_bomb(7000, 7000), "has 7000 × 7000 pixels, and a cover may have 40,000,000"),
        (png_bomb(10_000, 10_000), "pixels"),
        (png_bomb(60_000, 60_000), "has far more pixels than the 40,000,000 allowed"),
        (encode()[:2000], "is damaged: .*truncated"),
        (encode(kind="PNG")[:200], "is damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is no image|is damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image of these types: AVIF, GIF"),
        (encode(kind="TIFF"), "is no image of these types"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image of these types"),
        (b"", "is no image"),
    ],
)
def test_a_hostile_image_is_a_clear_error_and_leaves_nothing(tmp_path, content, message):
    source = write(tmp_path, content)
    with pytest.raises(BadImage, match=message):
        write_thumbnail(source, tmp_path / "out" / "small.webp", 320)
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_write_leaves_nothing_and_keeps_the_older_one(tmp_path, monkeypatch):
    source, folder = write(tmp_path, encode()), tmp_path / "out"
    target = folder / "small.webp"
    write_thumbnail(source, target, 320)
    before = target.read_bytes()

    def fail(self, file, *args, **kwargs):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_thumbnail(source, target, 320)
    assert list(folder.iterdir()) == [target]
    assert target.read_bytes() == before


def test_run_twice_there_is_the_same(covered):
    make_all(covered.pk)
    before = {path: path.read_bytes() for path in folder_of(covered.pk).iterdir()}
    assert len(before) == len(images.WIDTHS)
    assert make_all(covered.pk) == [[320, 160], [640, 320], [1280, 640]]
    assert {path: path.read_bytes() for path in folder_of(covered.pk).iterdir()} == before


def test_a_saved_cover_asks_for_thumbnails_after_the_commit_and_once(
    writer, sent, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks() as callbacks:
        writer.post("/write/new/", {**TYPED, "cover": picture()})
    assert not sent
    for callback in callbacks:
        callback()
    post = Post.objects.get()
    assert sent == [post.pk]
    make_all(post.pk)
    with django_capture_on_commit_callbacks(execute=True):
        writer.post(f"/write/{post.pk}/", {**TYPED, "title": "Another"})
    assert sent == [post.pk], "the cover is as it was"


def test_a_post_without_cover_asks_for_nothing(writer, sent, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        writer.post("/write/new/", TYPED)
    assert not sent


@pytest.mark.parametrize("how", ["replace", "clear", "delete"])
def test_thumbnails_go_with_their_cover(covered, how, sent, django_capture_on_commit_callbacks):
    make_all(covered.pk)
    old, pk = covered.cover.name, covered.pk
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        if how == "delete":
            covered.delete()
        else:
            covered.cover = ContentFile(encode(), name="new.jpg") if how == "replace" else ""
            covered.save()
    assert sent == [pk]
    make_all(pk)
    assert not thumbnails(pk, old)
    left = 3 if how == "replace" else 0
    assert len(list(folder_of(pk).iterdir())) == left


def test_a_thumbnail_of_a_cover_that_was_replaced_meanwhile_goes_again(covered, monkeypatch):
    write_it = tasks.write_thumbnail

    def write_slowly(*args):
        size = write_it(*args)
        Post.objects.update(cover="covers/new.jpg")
        return size

    monkeypatch.setattr(tasks, "write_thumbnail", write_slowly)
    assert make_thumbnail(covered.pk, 320) is None
    assert not list(folder_of(covered.pk).iterdir())


def test_what_a_killed_process_left_goes_when_it_is_old(covered):
    make_all(covered.pk)
    partial = folder_of(covered.pk) / ".partial-x.webp"
    partial.touch()
    assert images.others_than(covered.pk, covered.cover.name) == [], "somebody writes it"
    os.utime(partial, (0, 0))
    assert images.others_than(covered.pk, covered.cover.name) == [partial]


def test_pages_offer_the_thumbnails_once_they_are_made(client, covered):
    address = covered.get_absolute_url()
    assert "srcset" not in text_of(client.get(address))
    make_all(covered.pk)
    for page in (text_of(client.get(address)), text_of(client.get("/"))):
        assert page.count(" 320w, ") == page.count(" 1280w") == 1
        for url in thumbnails(covered.pk, covered.cover.name).values():
            assert url in page


def test_a_post_that_is_gone_or_has_no_cover_is_no_failure(make_post):
    assert make_thumbnail(make_post().pk, 320) is None
    assert make_thumbnail(0, 320) is None
