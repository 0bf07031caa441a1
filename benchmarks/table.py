"""One table of figures."""

from dataclasses import dataclass


@dataclass
class Row:
    """A figure of both sides, and what is asked of this one, if anything.

    Args:
        figure (str): what was measured, unit first: "ms for …".
        stock (float | None): on the other side. None: there is nothing like it.
        here (float): on this side.
        at_least (float | None): the bar, where more is better.
        at_most (float | None): the bar, where less is better.
    """

    figure: str
    stock: float | None
    here: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self):
        enough = self.at_least is None or self.here >= self.at_least
        return enough and (self.at_most is None or self.here <= self.at_most)

    def cells(self):
        stock = "" if self.stock is None else short(self.stock)
        ratio = f"{self.here / self.stock:.2f}" if self.stock else ""
        return [self.figure, stock, short(self.here), ratio, self.bar(), self.verdict()]

    def bar(self):
        if self.at_least is not None:
            return f"≥ {short(self.at_least)}"
        return "" if self.at_most is None else f"≤ {short(self.at_most)}"

    def verdict(self):
        return self.bar() and ("ok" if self.passed else "MISSED")


def short(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def text(rows):
    """Return the rows as a Markdown table."""
    head = ["figure", "stock", "here", "ratio", "bar", ""]
    cells = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(f"| {line} |" for line in lines)
