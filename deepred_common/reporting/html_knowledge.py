"""What a model still knows beside what it says: two drawings by the date of the fact, with its base.

The places of everything are worked out here in pixels; `templates/plot.html.j2` draws them as SVG. One
size serves all: two drawings stand side by side on a wide screen, and below each other on a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from deepred_common.dates import year_of
from deepred_common.evaluation import metrics
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.results_schema import Interval, ResultRow, Results
from deepred_common.evaluation.verdicts import CONFABULATED, CORRECT, FAILED, LEAKED, WRONG
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
    "says": ("What it says", "answered, right or wrong"),
}
# {what is counted: the verdicts that count}
_COUNTED = {"knows": (CORRECT, LEAKED), "says": (CORRECT, WRONG, LEAKED, CONFABULATED)}
_COLUMNS = ("known before", "known after", "answered before", "answered after")


def knowledge(report: Report) -> dict[str, Any] | None:
    """Drawings and table of this model and the first other one; None if no answers were scored."""
    models = [
        (column.name, rows)
        for column in report.columns
        if column.results and (rows := _rows(column.results))["knows"]
    ][:2]
    if not models or models[0][0] != report.names[0]:
        return None
    dated = {
        what: [(name, html_curve.dated(rows[what], partial(_counts, what))) for name, rows in models]
        for what in _DRAWINGS
    }
    years = sorted(one.year for every in dated.values() for _, facts in every for one in facts)
    cutoff = year_of(report.results.get("cutoff"))
    return {
        "names": [name for name, _ in models],
        # One without a point says nothing: the direct question may not have been asked.
        "drawings": [
            _drawing(heading, label, dated[what], years, cutoff)
            for what, (heading, label) in _DRAWINGS.items()
            if any(facts for _, facts in dated[what])
        ],
        "columns": _COLUMNS,
        "rows": [
            (name, [_share(rows[what], what, side) for what in _DRAWINGS for side in SIDES])
            for name, rows in models
        ],
    }


def _rows(results: Results) -> dict[str, list[ResultRow]]:
    """{"knows": rows whose given answers were scored, "says": the direct questions about the same facts}."""
    scored = {row.get("fact") for row in results["results"] if row.get("scores")}
    knows, says = [], []
    for row in results["results"]:
        if row.get("scores"):
            knows.append(row)
        elif row.get("probe") == forms.DIRECT and row.get("fact") in scored and row["verdict"] != FAILED:
            says.append(row)
    return {"knows": knows, "says": says}


def _counts(what: str, row: ResultRow) -> bool:
    return row["verdict"] in _COUNTED[what]


def _share(rows: Sequence[ResultRow], what: str, side: str) -> tuple[int, int, Interval] | None:
    """(how many count, of how many, interval in percent) on one side; None if there are none."""
    of_side = [row for row in rows if row["side"] == side]
    if not of_side:
        return None
    counts = [_counts(what, row) for row in of_side]
    (interval,) = metrics.share_intervals(of_side, [counts])
    return sum(counts), len(counts), interval


def _drawing(
    heading: str,
    label: str,
    models: Sequence[tuple[str, Sequence[html_curve.Dated]]],
    years: Sequence[float],
    cutoff: float | None,
) -> dict[str, Any]:
    """The places of everything in one drawing, and its points as a table.

    models: the name and the facts of each. years: sorted, of all facts.
    """
    left, right = html_curve.axis(years, cutoff)

    def x(year: float) -> float:
        inside = min(max(year, left), right) - left
        return LEFT + 10 + (RIGHT - LEFT - 20) * inside / (right - left)

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share

    has_older = years[0] < left
    series, table = [], []
    for (name, facts), css_class, aside in zip(models, ("own", "other"), (-_ASIDE, _ASIDE), strict=False):
        in_axis = html_curve.clipped(facts, left)
        bins = html_curve.bins_of(in_axis, left if cutoff is None else cutoff, _MOST_BINS)
        table += [(html_curve.span_text(one, has_older and one is bins[0]), name, one) for one in bins]
        points = [
            {
                "x": x(one.middle) + aside,
                "y": y(one.counted / one.total),
                "low": y(one.interval[0] / 100),
                "high": y(one.interval[1] / 100),
                "title": f"{html_curve.span_text(one)}: {one.counted} of {one.total} "
                f"({percent(100 * one.counted / one.total, 0)})",
            }
            for one in bins
        ]
        series.append((css_class, points))
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
        "table": table,
    }
