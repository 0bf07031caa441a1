import io
from html import unescape

from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

TYPED = {"title": "A title", "body": "Some *text*."}


def text_of(response):
    """Return a page as a reader sees its characters: without HTML escapes."""
    return unescape(response.content.decode())


def picture():
    """Return a small PNG, as an upload."""
    data = io.BytesIO()
    Image.new("RGB", (4, 2), "teal").save(data, "PNG")
    return SimpleUploadedFile("cover.png", data.getvalue())
