"""How the two sides lie in the probability of refusing: two distributions on one axis, and the figures.

Below them stands what other thresholds would cost (html_frontier).

The places of bars and marks are worked out here in pixels; `templates/discrimination.html.j2` draws them as
SVG, once for a wide screen and once for a phone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import floor, inf, log
from typing import Any

from deepred_common.evaluation import discrimination as measured
from deepred_common.examples import SIDES
from deepred_common.reporting import html_frontier
from deepred_common.reporting.number_text import percent
from deepred_common.reporting.report import Report

_SIZES = (("wide", 860, 300), ("narrow", 360, 280))  # name, width, height
_BIN = 0.5  # of the log-odds
_END = 7.0  # log-odds of 0.1 and 99.9 %, about; what lies beyond counts in the last bars
_TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)  # shares named along the axis
_LETTER = 7  # width of a letter at 12 px
_TITLES = {measured.ALL: "All questions", measured.RECENT: "Dated after 1900"}


def discrimination(report: Report) -> dict[str, Any] | None:
    """Drawings and figures; None if the back end gave no probabilities, or too few."""
    separations = report.results.get("discrimination") or {}
    frontier = html_frontier.frontier(report)
    shares = [measured.shares_of(report.headline, side) for side in SIDES]
    if not all(shares) or not (separations or frontier):
        return None
    every = separations.get(measured.ALL)
    threshold = every["threshold"] if every else None
    return {
        "drawings": [_drawing(shares, threshold, *size) for size in _SIZES],
        "rows": [(_TITLES.get(group, group), one) for group, one in separations.items()],
        "error": every["equal_error"] if every else None,
        "threshold": None if threshold is None else _share_text(threshold),
        "frontier": frontier,
    }


def log_odds(share: float) -> float:
    """The log-odds of a share from 0 to 1, within the ends of the axis."""
    odds = inf if share >= 1 else share / (1 - share)
    return min(max(log(odds) if odds > 0 else -inf, -_END), _END)


def _drawing(
    shares: Sequence[Sequence[float]], threshold: float | None, name: str, width: int, height: int
) -> dict[str, Any]:
    """The places of everything in one drawing, in pixels. shares: before and after the cutoff."""
    left, right, top, bottom = 24, width - 24, 44, height - 40
    middle = (top + bottom) / 2

    def x(odds: float) -> float:
        return left + (right - left) * (odds + _END) / (2 * _END)

    last = round(2 * _END / _BIN) - 1
    counts = [Counter(min(floor((log_odds(one) + _END) / _BIN), last) for one in side) for side in shares]
    # Each side's bars by its own number of questions: the sides may be of different size.
    tallest = max(count[n] / len(side) for count, side in zip(counts, shares, strict=True) for n in count)
    bars = []
    for css_class, direction, count, side in zip(SIDES, (-1, 1), counts, shares, strict=True):
        for number, questions in sorted(count.items()):
            part = questions / len(side)
            size = (middle - top) * part / tallest
            bars.append(
                {
                    "css_class": css_class,
                    "x": x(number * _BIN - _END) + 0.5,
                    "y": middle - size if direction < 0 else middle,
                    "width": x(_BIN) - x(0) - 1,
                    "height": size,
                    "title": f"{questions} of {len(side)} ({percent(100 * part, 0)})",
                }
            )
    marker = None
    if threshold is not None:
        text = f"equal error at {_share_text(threshold)}"
        place = x(log_odds(threshold))
        rightwards = place + _LETTER * len(text) < right
        marker = (place, text, place + (4 if rightwards else -4), "start" if rightwards else "end")
    return {
        "name": name,
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "top": top,
        "bottom": bottom,
        "middle": middle,
        "bars": bars,
        "ticks": [(x(log_odds(share)), _share_text(share)) for share in _TICKS],
        "threshold": marker,
    }


def _share_text(share: float) -> str:
    """A probability in percent, near its ends with the digits that tell it from them.

    Beyond the ends of the axis it is "under" or "over" them: 0 or 100 % would be another threshold.
    """
    if share < _TICKS[0]:
        return f"under {percent(100 * _TICKS[0])}"
    if share > _TICKS[-1]:
        return f"over {percent(100 * _TICKS[-1])}"
    return percent(100 * share, 0 if 0.0095 < share < 0.9905 else 1)
