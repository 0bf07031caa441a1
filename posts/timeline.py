"""When the parts of a run were at work, as bars that a template draws."""

from dataclasses import dataclass

from django.utils import timezone

from .progress import Progress

ROW = 36  # pixels
THIN = 0.6  # per cent: a bar that is shorter is drawn so long, to be seen


@dataclass
class Bar:
    """A part: where its bar begins and how long it is in per cent, and at which height."""

    part: Progress
    y: int
    x: float = 0
    width: float = 0

    @property
    def drawn(self):
        return self.width > 0

    @property
    def text_y(self):
        return self.y + 14

    @property
    def bar_y(self):
        return self.y + 20


@dataclass
class Timeline:
    """All bars. ``seconds`` is what the whole width stands for."""

    bars: list[Bar]
    height: int
    seconds: float


def timeline_of(progress):
    """Lay out the parts of a run side by side in time.

    Args:
        progress (Progress): of a run with parts.

    Returns:
        Timeline | None: None for a run without parts, and where the results backend does not know
        when they began.
    """
    parts = progress.shown_parts
    known = [part for part in parts if part.ran is not None]
    if not known:
        return None
    begin = min(part.started for part in known)
    ends = [part.ended if part.finished else timezone.now() for part in known]
    seconds = max((max(ends) - begin).total_seconds(), 0.001)
    bars = []
    for number, part in enumerate(parts):
        bar = Bar(part, y=number * ROW)
        if part.ran is not None:
            bar.width = max(100 * part.ran.total_seconds() / seconds, THIN)
            bar.x = 100 * (part.started - begin).total_seconds() / seconds
            bar.x = min(bar.x, 100 - bar.width)
        bars.append(bar)
    return Timeline(bars, height=len(bars) * ROW, seconds=seconds)
