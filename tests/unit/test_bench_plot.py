# SPDX-License-Identifier: Apache-2.0
"""The plots of measurements: the positions of what is drawn."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from bench.plot import PROPORTIONAL, Line, Panel, Point, log_log

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ElementTree.Element:
    """The picture, parsed."""
    return ElementTree.fromstring(log_log(panels))


def lines_of(picture: ElementTree.Element, *, dashed: bool) -> list[list[Point]]:
    """The points of every dashed line, or of every other line, in pixels."""
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]
        for line in picture.iter(f"{SVG}polyline")
        if ("stroke-dasharray" in line.attrib) == dashed
    ]


def panel(*lines: Line, title: str = "a title") -> Panel:
    """A panel with these lines."""
    return Panel(title, "operations", "seconds", lines)


def slope(points: list[Point]) -> float:
    """As fractions of the distance from the first point to the last one."""
    (x, y), (to_x, to_y) = points[0], points[-1]
    return (to_y - y) / (to_x - x)


PROPORTION = Line("linear", ((10.0, 0.1), (100.0, 1.0), (1000.0, 10.0)))
FLAT = Line("flat", ((10.0, 1.0), (1000.0, 1.0)))
SQUARE = Line("square", ((10.0, 0.1), (100.0, 10.0)))


def test_every_line_has_its_points_and_a_dashed_line_from_its_first_one() -> None:
    """Every measured point is drawn, and each dashed line begins at the start of its line."""
    picture = drawn(panel(PROPORTION, FLAT), panel(SQUARE))
    solid, dashed = lines_of(picture, dashed=False), lines_of(picture, dashed=True)
    assert [len(points) for points in solid] == [3, 2, 2]
    assert [points[0] for points in dashed] == [points[0] for points in solid]
    assert len(list(picture.iter(f"{SVG}circle"))) == 7


def test_what_grows_with_the_work_lies_on_its_dashed_line() -> None:
    """A proportional line is straight and has the dashed slope. A flat one is level. A more than proportional
    one is steeper."""
    picture = drawn(panel(PROPORTION, FLAT, SQUARE))
    solid, dashed = lines_of(picture, dashed=False), lines_of(picture, dashed=True)
    linear, flat, square = map(slope, solid)
    assert [slope(list(step)) for step in pairwise(solid[0])] == pytest.approx([linear, linear], abs=0.01)
    assert [slope(points) for points in dashed] == pytest.approx([linear] * 3, abs=0.01)
    assert flat == 0
    assert square < linear < 0, "pixels count downwards"


def test_all_of_it_lies_inside_the_picture() -> None:
    """Dashed lines end at the axes, however steep they are."""
    picture = drawn(panel(FLAT, PROPORTION))
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for points in lines_of(picture, dashed=True) + lines_of(picture, dashed=False):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_axes_and_legend_are_named() -> None:
    """Titles, axis labels, ticks at 1 and 3 of each decade, and each line's name are drawn as given."""
    picture = drawn(panel(PROPORTION, title="1 < 2 & more"))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert texts[0] == "1 < 2 & more"
    assert {"operations", "seconds", "linear", PROPORTIONAL, "10", "30", "1,000", "0.1", "0.3", "3"} <= set(
        texts
    )
    assert "3,000" not in texts, "a tick beyond the axis"


def test_one_value_alone_can_be_drawn() -> None:
    """A line of one point, which has no extent in either direction."""
    assert lines_of(drawn(panel(Line("one", ((5.0, 2.0),)))), dashed=False) == [
        [(pytest.approx(254.0), 162.0)]
    ]
