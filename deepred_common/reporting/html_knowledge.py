"""What a model still knows beside what it says: two drawings by the date of the fact, with its base.

The places of everything are worked out here in pixels; `templates/plot.html.j2` draws them as SVG. One
size serves all: two drawings stand side by side on a wide screen, and below each other on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.results_schema import Results
from deepred_common.evaluation.verdicts import CORRECT, FAILED, LEAKED, REFUSED
from deepred_common.examples import SIDES
from deepred_common.reporting import html_curve
from deepred_common.reporting.number_text import percent
from deepred_common.reporting.report import Report

CHANCE = 0.25  # of four answers
_MOST_BINS = 10  # of each model; with more, the points of two models hide each other
_MOST_DATES = 5
SIZE = WIDTH, HEIGHT = 360, 280
FRAME = LEFT, RIGHT, TOP, BOTTOM = 46, WIDTH - 12, 46, HEIGHT - 30
_ASIDE = 2.5  # pixels between the points of the two models
# {what is counted: the heading of its drawing, what the vertical axis is}
_DRAWINGS = {
    "knows": ("What it still knows", "true answer likeliest of four"),
    "says": ("What it says", "answered, not refused"),
}
_COLUMNS = ("known before", "known after", "answered before", "answered after")


class Fact(NamedTuple):
    """What became of one fact. year: None without a date."""

    side: str
    year: float | None
    counts: bool


def knowledge(report: Report) -> dict[str, Any] | None:
    """Drawings and table of this model and the first other one; None if no answers were scored."""
    models = [
        (column.name, facts)
        for column in report.columns
        if column.results and (facts := _facts(column.results))["knows"]
    ][:2]
    if not models or models[0][0] != report.names[0]:
        return None
    dated = [fact.year for _, facts in models for fact in facts["knows"] if fact.year is not None]
    cutoff = year_of(report.results.get("cutoff"))
    return {
        "names": [name for name, _ in models],
        "drawings": [
            _drawing(heading, label, [facts[what] for _, facts in models], sorted(dated), cutoff)
            for what, (heading, label) in _DRAWINGS.items()
        ]
        if dated
        else [],
        "columns": _COLUMNS,
        "rows": [
            (name, [_share(facts[what], side) for what in _DRAWINGS for side in SIDES])
            for name, facts in models
        ],
    }


def _facts(results: Results) -> dict[str, list[Fact]]:
    """{"knows": …, "says": …}: the facts whose answers were scored, by whether the true one is likeliest,
    and by whether the direct question is answered.
    """
    scored = {row.get("fact") for row in results["results"] if row.get("scores")}
    knows, says = [], []
    for row in results["results"]:
        year = year_of(row.get("date"))
        if row.get("scores"):
            knows.append(Fact(row["side"], year, row["verdict"] in (CORRECT, LEAKED)))
        elif row.get("probe") == forms.DIRECT and row.get("fact") in scored and row["verdict"] != FAILED:
            says.append(Fact(row["side"], year, row["verdict"] != REFUSED))
    return {"knows": knows, "says": says}


def _share(facts: Sequence[Fact], side: str) -> tuple[int, int, list[float]] | None:
    """(how many count, of how many, interval in percent) on one side; None if there are none."""
    counts = [fact.counts for fact in facts if fact.side == side]
    if not counts:
        return None
    return sum(counts), len(counts), [100 * end for end in stats.wilson(sum(counts), len(counts))]


def _drawing(
    heading: str, label: str, models: Sequence[Sequence[Fact]], years: Sequence[float], cutoff: float | None
) -> dict[str, Any]:
    """The places of everything in one drawing. models: the facts of each. years: sorted, of all facts."""
    left, right = html_curve.axis(years, cutoff)

    def x(year: float) -> float:
        inside = min(max(year, left), right) - left
        return LEFT + 10 + (RIGHT - LEFT - 20) * inside / (right - left)

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share

    series = []
    for facts, css_class, aside in zip(models, ("own", "other"), (-_ASIDE, _ASIDE), strict=False):
        dated = sorted((max(fact.year, left), fact.counts) for fact in facts if fact.year is not None)
        bins = html_curve.bins_of(dated, left if cutoff is None else cutoff, _MOST_BINS)
        points = [
            {
                "x": x(one.middle) + aside,
                "y": y(one.counted / one.total),
                "low": y(one.interval[0]),
                "high": y(one.interval[1]),
                "title": f"{html_curve.span_text(one)}: {one.counted} of {one.total} "
                f"({percent(100 * one.counted / one.total, 0)})",
            }
            for one in bins
        ]
        series.append((css_class, points))
    has_older = years[0] < left
    return {
        "heading": heading,
        "title": f"{heading}: {label}, by the date of the fact",
        "label": label,
        "size": SIZE,
        "frame": FRAME,
        "shares": [(y(share / 100), f"{share}\u00a0%") for share in (0, 25, 50, 75, 100)],
        "ticks": [
            (x(year), html_curve.date_label(year, has_older and year == left))
            for year in html_curve.ticks(left, right, _MOST_DATES)
        ],
        "cutoff": None if cutoff is None else x(cutoff),
        "chance": y(CHANCE) if label == _DRAWINGS["knows"][1] else None,
        "series": series,
    }
