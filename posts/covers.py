"""Abstract covers for the demo posts, drawn instead of shipped."""

import io
import math
import random

from django.core.files.base import ContentFile
from PIL import Image, ImageColor, ImageDraw, ImageFilter

SIZE = (1600, 800)
SCALE = 2  # Drawn twice as large and made smaller: smooth edges.
# From far to near.
PALETTES = {
    "dusk": ["#f6d9c0", "#e7a98f", "#b56d7c", "#6b4a70", "#2f2b4a"],
    "tide": ["#e8f1ec", "#a9d2cb", "#5fa8a6", "#2b7480", "#173f52"],
    "dunes": ["#f7ecd2", "#ecd09a", "#d6a766", "#a97848", "#5f4433"],
}


def draw_cover(name):
    """Draw layered hills below a low sun. The same name gives the same picture.

    Args:
        name (str): one of PALETTES.

    Returns:
        ContentFile: a JPEG of 1600 × 800 pixels, with a file name.
    """
    rng = random.Random(name)
    colours = [ImageColor.getrgb(colour) for colour in PALETTES[name]]
    width, height = SIZE[0] * SCALE, SIZE[1] * SCALE
    image = _gradient(width, height, colours[0], colours[1])
    pen = ImageDraw.Draw(image)
    x, y, radius = rng.uniform(0.2, 0.8) * width, 0.36 * height, 0.11 * height
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_mix(colours[0], "#ffffff"))
    for layer in range(1, len(colours)):
        base = height * (0.3 + 0.15 * layer)
        waves = [
            (rng.uniform(0.6, 2.2), rng.uniform(0, math.tau), height * rng.uniform(0.02, 0.07))
            for _ in range(3)
        ]
        ridge = [
            (x, base + sum(a * math.sin(math.tau * f * x / width + p) for f, p, a in waves))
            for x in range(0, width + 16, 16)
        ]
        pen.polygon([*ridge, (width, height), (0, height)], fill=colours[layer])
    image = image.resize(SIZE, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
    output = io.BytesIO()
    image.save(output, "JPEG", quality=86)
    return ContentFile(output.getvalue(), name=f"{name}.jpg")


def _gradient(width, height, top, bottom):
    """A vertical gradient."""
    mask = Image.linear_gradient("L").resize((width, height))
    return Image.composite(
        Image.new("RGB", (width, height), bottom), Image.new("RGB", (width, height), top), mask
    )


def _mix(colour, other):
    """The colour halfway between two."""
    pairs = zip(colour, ImageColor.getrgb(other), strict=True)
    return tuple((a + b) // 2 for a, b in pairs)
