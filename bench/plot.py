# SPDX-License-Identifier: Apache-2.0
"""Lines on two logarithmic axes as SVG, each with a proportional line for comparison. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from msgspec import Struct

WIDTH, HEIGHT = 460, 380
"""Of one panel, in pixels."""

LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 96
COLOURS = ("#1f6fb2", "#d9822b", "#2e8b57", "#8e44ad")
FONT = 'font-family="sans-serif" font-size="11"'
GREY, INK = "#d8dde2", "#26323d"
PROPORTIONAL = "grows with the work"
ROOM = 1.15
"""Factor by which the axes extend beyond the values."""

Point = tuple[float, float]


class Line(Struct, frozen=True):
    """Measured points, in ascending x. All are positive."""

    name: str
    points: tuple[Point, ...]


class Panel(Struct, frozen=True):
    """The content of one pair of axes: at least one line with a point."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]


class _Axis(Struct, frozen=True):
    """Positions of values between ``least`` and ``most`` on a logarithmic axis."""

    least: float
    most: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = math.log(value / self.least) / math.log(self.most / self.least)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
        ticks = [digit * 10.0**power for power in decades for digit in (1, 3)]
        return [tick for tick in ticks if self.least <= tick <= self.most]


def log_log(panels: Sequence[Panel]) -> str:
    """A picture of the panels side by side. A dashed line begins at each line's first point and shows y in
    proportion to x: a line below it grows less."""
    width = WIDTH * len(panels)
    size = f'viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {FONT} fill="{INK}">',
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel) -> Iterable[str]:
    points = [point for line in panel.lines for point in line.points]
    across = _axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    yield _text(panel.title, LEFT, 22, "start", 'font-size="13" font-weight="bold"')
    yield from _grid(across, up)
    yield _text(panel.x, middle_x, HEIGHT - BOTTOM + 34)
    yield _text(panel.y, 16, middle_y, more=f'transform="rotate(-90 16 {middle_y})"')
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        yield _path(
            _proportional(line, across, up), across, up, colour, 'stroke-dasharray="5 4" opacity="0.55"'
        )
        yield _path(line.points, across, up, colour, 'stroke-width="2"')
        for x, y in line.points:
            yield f'<circle cx="{across.at(x)}" cy="{up.at(y)}" r="3" fill="{colour}"/>'
    yield from _legend([line.name for line in panel.lines])


def _axis(values: list[float], start: float, end: float) -> _Axis:
    return _Axis(min(values) / ROOM, max(values) * ROOM, start, end)


def _proportional(line: Line, across: _Axis, up: _Axis) -> tuple[Point, Point]:
    """From the first point of ``line`` to the point where its proportion leaves the axes."""
    x, y = line.points[0]
    grown = min(across.most / x, up.most / y)
    return (x, y), (x * grown, y * grown)


def _grid(across: _Axis, up: _Axis) -> Iterable[str]:
    for value in across.ticks():
        x = across.at(value)
        yield f'<path d="M{x} {up.start}V{up.end}" stroke="{GREY}"/>'
        yield _text(f"{value:,.0f}", x, up.start + 16)
    for value in up.ticks():
        y = up.at(value)
        yield f'<path d="M{across.start} {y}H{across.end}" stroke="{GREY}"/>'
        yield _text(f"{value:g}", across.start - 6, y + 4, "end")


def _path(points: Iterable[Point], across: _Axis, up: _Axis, colour: str, more: str) -> str:
    at = " ".join(f"{across.at(x)},{up.at(y)}" for x, y in points)
    return f'<polyline points="{at}" fill="none" stroke="{colour}" {more}/>'


def _legend(names: list[str]) -> Iterable[str]:
    """The lines' names and the meaning of the dashes, three in a row below the axis."""
    entries = [(name, COLOURS[n], "") for n, name in enumerate(names)]
    entries.append((PROPORTIONAL, INK, 'stroke-dasharray="5 4" opacity="0.55"'))
    for n, (name, colour, more) in enumerate(entries):
        x, y = LEFT + n % 3 * 128, HEIGHT - 38 + n // 3 * 20
        yield f'<path d="M{x} {y}h18" stroke="{colour}" stroke-width="2" {more}/>'
        yield _text(name, x + 23, y + 4, "start")


def _text(text: str, x: float, y: float, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
