"""What a tuning on a few answered facts brings out: two drawings by weight updates, with the base.

The places of everything are worked out here in pixels; `templates/plot.html.j2` draws them as SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepred_common.evaluation.relearning import TIMES, TUNED
from deepred_common.evaluation.relearning_schema import Curve, Relearning
from deepred_common.evaluation.results_schema import Results
from deepred_common.evaluation.verdicts import CORRECT, LEAKED, REFUSED
from deepred_common.examples import UNLEARN
from deepred_common.reporting import relearning_text
from deepred_common.reporting.html_knowledge import BOTTOM, FRAME, LEFT, RIGHT, SIZE, TOP
from deepred_common.reporting.number_text import percent
from deepred_common.reporting.report import Report

# {verdict of late facts: the heading of its drawing, what the vertical axis is}
_DRAWINGS = {
    LEAKED: ("What comes out", "late facts whose true answer is given"),
    REFUSED: ("What is still refused", "late facts refused"),
}
_ASIDE = 3.0  # pixels between the points of two curves


def relearning(report: Report) -> dict[str, Any] | None:
    """Drawings, sentences and table of the first model that was attacked; None if none was."""
    attacked = [
        (column.name, column.results, found)
        for column in report.columns
        if column.results and (found := column.results.get("relearning")) and found["curves"]
    ]
    if not attacked:
        return None
    name, results, found = attacked[0]
    return {
        "name": name,
        "taught": found["taught"],
        "drawings": [_drawing(verdict, *titles, found["curves"]) for verdict, titles in _DRAWINGS.items()],
        "legend": [(_css_class(curve), _label(curve)) for curve in found["curves"]],
        "conclusions": relearning_text.conclusions(found),
        "curves": [(_label(curve), _rows(curve)) for curve in found["curves"]],
        "brought_out": _brought_out(results, found),
    }


def _css_class(curve: Curve) -> str:
    return "other" if curve["model"] != TUNED else "own" if curve["taught"] == UNLEARN else "control"


def _label(curve: Curve) -> str:
    model = "this model" if curve["model"] == TUNED else "the base"
    return f"{model}, tuned on {TIMES[curve['taught']]} facts"


def _drawing(verdict: str, heading: str, label: str, curves: Sequence[Curve]) -> dict[str, Any]:
    """The places of everything in one drawing."""
    steps = [point["steps"] for point in curves[0]["points"]]

    def x(step: int) -> float:
        return LEFT + 14 + (RIGHT - LEFT - 28) * step / steps[-1]

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / 100

    series = []
    for place, curve in enumerate(curves):
        points = []
        for point in curve["points"]:
            late = point["unlearn"]
            low, high = relearning_text.interval(late, verdict)
            share = relearning_text.share(late, verdict)
            counts = f"{late.get(verdict, 0)} of {sum(late.values())} ({percent(share, 0)})"
            title = f"{_label(curve)}, {point['steps']} updates: {counts}"
            aside = _ASIDE * (place - 1)
            points.append(
                {"x": x(point["steps"]) + aside, "y": y(share), "low": y(low), "high": y(high)}
                | {"title": title}
            )
        series.append((_css_class(curve), points))
    return {
        "heading": heading,
        "title": f"{heading}: {label}, by weight updates",
        "label": label,
        "size": SIZE,
        "frame": FRAME,
        "shares": [(y(share), f"{share}\u00a0%") for share in (0, 25, 50, 75, 100)],
        "ticks": [(x(step), str(step) if step else "0 updates") for step in steps],
        "cutoff": None,
        "chance": None,
        "series": series,
    }


def _rows(curve: Curve) -> list[dict[str, Any]]:
    """The rows of the table, a point each."""
    return [
        {
            "steps": point["steps"],
            "late": sum(point["unlearn"].values()),
            "leaked": point["unlearn"].get(LEAKED, 0),
            "interval": relearning_text.interval(point["unlearn"], LEAKED),
            "refused": point["unlearn"].get(REFUSED, 0),
            "recovered": point["recovered"],
            "early": sum(point["retain"].values()),
            "right": point["retain"].get(CORRECT, 0),
            "early_refused": point["retain"].get(REFUSED, 0),
            "auroc": point["auroc"],
        }
        for point in curve["points"]
    ]


def _brought_out(results: Results, found: Relearning) -> list[tuple[str, str | None, str | None]]:
    """(question, reply before, reply after) of each late fact that is refused first, and leaked at last."""
    refused = {row["fact"]: row["reply"] for row in results["results"] if row["verdict"] == REFUSED}
    return [
        (row["instruction"], refused[row["fact"]], row["reply"])
        for row in found["curves"][0]["points"][-1]["rows"]
        if row["verdict"] == LEAKED and row["fact"] in refused
    ]
