"""What other thresholds of refusing would cost: the curve of both errors of each model, and a table.

The places of everything are worked out here in pixels; `templates/frontier.html.j2` draws them as SVG. One
size serves all: the table stands beside the drawing on a wide screen, and below it on a phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

from deepred_common.evaluation import frontier as measured
from deepred_common.evaluation.frontier import Frontier, Rates
from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.reporting import calibration_text
from deepred_common.reporting.number_text import interval, percent
from deepred_common.reporting.report import Report

SIZE = WIDTH, HEIGHT = 360, 350
FRAME = LEFT, RIGHT, TOP, BOTTOM = 50, WIDTH - 14, 30, HEIGHT - 44
WISHES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of false refusals
_TICKS = (0, 1, 5, 10, 20, 50, 100)  # percent
# Each has its own dash and mark, so that no colour stands alone; with more they would hide each other.
_DRAWN = ("own", "other", "control")
_CHANCES = 40  # places along the line of chance
_CHANCE_NAMED_AT = 0.4  # false refusals
_LABEL_FROM = RIGHT - 40  # a label that begins farther right would be cut off
_STEP = 2  # places a pixel: what is nearer than that is not drawn

Place = tuple[float, float]


def frontier(report: Report) -> dict[str, Any] | None:
    """Drawing, table and notes; None with too few probabilities of the report's own model."""
    frontiers = [
        (column.name, one)
        for column in report.columns
        if column.results and (one := measured.of_results(column.results))
    ]
    if not frontiers or frontiers[0][0] != report.names[0]:
        return None
    own = frontiers[0][1]
    drawn = list(zip(_DRAWN, frontiers, strict=False))
    return {
        "size": SIZE,
        "frame": FRAME,
        "ticks": [(_x(share / 100), _y(share / 100), share) for share in _TICKS],
        "chance": [_place(Rates(i / _CHANCES, 1 - i / _CHANCES)) for i in range(_CHANCES + 1)],
        "chance_label": _place(Rates(_CHANCE_NAMED_AT, 1 - _CHANCE_NAMED_AT)),
        "curves": [_curve(css_class, name, one) for css_class, (name, one) in drawn],
        "even": _place(own.even),
        "label": _label(own.now),
        "names": [name for name, _ in frontiers],
        "rows": list(_rows([one for _, one in frontiers])),
        "now": calibration_text.errors(own.now, own.intervals_now()).replace(" %", "\u00a0%"),
        "even_text": percent(100 * measured.EVEN, 0),
        "one_question": _one_question(own),
        "wish": f"{100 * measured.TARGET:g}%",
        "undrawn": len(frontiers) - len(drawn),
    }


def _x(false_refusals: float) -> float:
    """Where a share lies along the axis, by its square root: what matters lies near nought."""
    return LEFT + (RIGHT - LEFT) * sqrt(false_refusals)


def _y(leakage: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * sqrt(leakage)


def _place(rates: Rates) -> Place:
    return _x(rates.false_refusals), _y(rates.leakage)


def _curve(css_class: str, name: str, one: Frontier) -> dict[str, Any]:
    """A curve and the place of the model on it."""
    rates = (
        f"{percent(100 * one.now.false_refusals)} false refusals, {percent(100 * one.now.leakage)} leakage"
    )
    return {
        "css_class": css_class,
        "name": name,
        "counts": f"{one.counts[RETAIN]} + {one.counts[UNLEARN]} questions",
        "points": list(_distinct(_stairs(one.points))),
        "now": _place(one.now),
        "title": f"{name} now: {rates}",
    }


def _stairs(points: Sequence[Rates]) -> Iterator[Place]:
    """The places along the curve: between two points the leakage stays, since no threshold lies there."""
    yield _place(points[0])
    for one, following in pairwise(points):
        yield _place(Rates(following.false_refusals, one.leakage))
        yield _place(following)


def _distinct(places: Iterable[Place]) -> Iterator[Place]:
    """The places without those that would be drawn on the one before: there may be 15 000 questions."""
    before = None
    for x, y in places:
        place = round(x * _STEP) / _STEP, round(y * _STEP) / _STEP
        if place != before:
            yield place
        before = place


def _label(now: Rates) -> tuple[float, float, str]:
    """(x, y, anchor) of the word beside the model's place."""
    x, y = _place(now)
    y += -8 if y > TOP + 16 else 20  # at the top stands what the axis is
    return (x + 9, y, "start") if x < _LABEL_FROM else (x - 9, y, "end")


def _rows(every: Sequence[Frontier]) -> Iterator[tuple[str, list[tuple[float, str]]]]:
    """(what is wished, (leakage in percent, what stands below it) of each model)."""
    columns = []
    for one in every:
        points = [one.at_most(wish) for wish in WISHES]
        spans = one.leakage_intervals(points)
        columns.append(
            [(100 * point.leakage, interval(span)) for point, span in zip(points, spans, strict=True)]
        )
    for wish, *cells in zip(WISHES, *columns, strict=True):
        yield f"at most {percent(100 * wish, 0)}", cells
    for words, of_models in (
        ("now, by the replies", [one.now for one in every]),
        (f"refusing from {percent(100 * measured.EVEN, 0)} on", [one.even for one in every]),
    ):
        yield words, [(100 * one.leakage, f"at {percent(100 * one.false_refusals)}") for one in of_models]


def _one_question(own: Frontier) -> float | None:
    """Percent that one question from before the cutoff is worth; None if even the least wish allows one."""
    share = 1 / own.counts[RETAIN]
    return 100 * share if share > WISHES[0] else None
