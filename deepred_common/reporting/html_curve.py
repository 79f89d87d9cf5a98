"""The refusal curve of the report: the share of questions refused, by the date of the fact.

Dates are put into bins of about equal count. The places of bins, fit and both cutoffs are worked out here in
pixels, and `templates/curve.html.j2` draws them as SVG. There is one drawing for a wide screen and one for a
phone, since a drawing scaled down would have letters of five pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Any, NamedTuple

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation import metrics
from deepred_common.evaluation.results_schema import Interval, ResultRow
from deepred_common.evaluation.verdicts import BROKEN, FAILED, REFUSED
from deepred_common.examples import CHAT
from deepred_common.reporting.number_text import beyond_facts, counted, date_text, percent, year_text
from deepred_common.reporting.report import Report

FEWEST_IN_BIN = 10  # a share of fewer facts says nothing
MOST_BINS = 30
# Most facts lie in a century and a half. Antiquity on the same axis would squeeze them into its right end.
AXIS_FROM = 1800
AXIS_BEFORE_CUTOFF = 100  # years that an early cutoff has to its left
_SIZES = (("wide", 860, 400, 9), ("narrow", 360, 320, 5))  # name, width, height, dates along the axis
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000)  # years between dates along the axis
_CLOSE = 20  # pixels between the two cutoffs, below which their labels step aside
_LETTER = 7  # width of a letter at 12 px


class Dated(NamedTuple):
    """A row whose fact has a date, as a year with fraction, and whether it counts, as refused say."""

    year: float
    counts: bool
    row: ResultRow


class Bin(NamedTuple):
    """Questions of a span of dates. Years have fractions; counted: those that count, as those refused.

    interval: 95 %, in percent, of metrics.share_intervals.
    """

    middle: float
    first: float
    last: float
    total: int
    counted: int
    interval: Interval


class Note(NamedTuple):
    """A sentence about the curve; `strong` is its beginning, in bold."""

    strong: str
    text: str


def curve(report: Report) -> dict[str, Any]:
    """Drawings, notes and table of the curve. "drawings" is empty if no reply to a dated question counts.

    The points are of the rows that the curve is fitted to (metrics.refusal_curve).
    """
    results = report.results
    rows = [row for row in report.headline if row["side"] != CHAT and row["verdict"] != FAILED]
    replies = dated(rows, lambda row: row["verdict"] == REFUSED)
    facts = [one for one in replies if one.row["verdict"] != BROKEN]
    if not facts:
        missing = "Every reply to a dated question is empty or broken" if replies else ""
        return {"drawings": [], "missing": missing or "None of the questions has a date"}
    cutoff = year_of(results.get("cutoff"))
    left, right = axis([one.year for one in facts], cutoff)
    bins = bins_of(clipped(facts, left), left if cutoff is None else cutoff)
    fitted = metrics.curve_of(results.get("curve"))
    older = [one.year for one in facts if one.year < left]
    beyond = beyond_facts(fitted, report.headline) if fitted else ""
    effective = None if beyond or not fitted else fitted.cutoff
    notes = _notes(fitted, cutoff, beyond)
    if older:
        notes.append(_older_note(older, left))
    if timeless := len(rows) - len(replies):
        verb = "is" if timeless == 1 else "are"
        notes.append(
            Note("", f"{counted(timeless, 'question')} without a date (timeless facts) {verb} left out.")
        )
    if broken := len(replies) - len(facts):
        words = f"{counted(broken, 'dated question')} with an empty or broken reply"
        notes.append(Note("", f"{words} {'is' if broken == 1 else 'are'} left out."))
    cutoff_text = date_text(results.get("cutoff"))
    plot = Plot(bins, fitted, effective, cutoff, cutoff_text, left, right, bool(older))
    return {
        "drawings": [_drawing(plot, *size) for size in _SIZES],
        "spoken": " ".join(note.strong + note.text for note in notes),
        "notes": notes,
        "legend": {"fit": fitted is not None, "effective": effective is not None, "cutoff": cutoff},
        "points": [(span_text(one, bool(older) and one is bins[0]), one) for one in bins],
    }


def dated(rows: Iterable[ResultRow], counts: Callable[[ResultRow], bool]) -> list[Dated]:
    """The rows that have a date, by their dates; counts: says of a row whether it counts."""
    facts = [Dated(year, counts(row), row) for row in rows if (year := year_of(row.get("date"))) is not None]
    return sorted(facts, key=lambda one: one.year)


def clipped(facts: Iterable[Dated], left: float) -> list[Dated]:
    """The facts, older ones as of the year `left`."""
    return [one._replace(year=max(one.year, left)) for one in facts]


def axis(years: Sequence[float], cutoff: float | None) -> tuple[int, int]:
    """First and last year of the axis. years: sorted. A twentieth of the facts may be older than the axis."""
    earliest = AXIS_FROM if cutoff is None else min(AXIS_FROM, cutoff - AXIS_BEFORE_CUTOFF)
    first, last = max(earliest, years[len(years) // 20]), years[-1]
    if cutoff is not None:
        first, last = min(first, cutoff - 10), max(last, cutoff + 10)
    return floor(first / 10) * 10, ceil((last + 0.5) / 5) * 5


def bins_of(facts: Sequence[Dated], cutoff: float, most: int = MOST_BINS) -> list[Bin]:
    """Facts, sorted by year, in about `most` bins of equal size. No bin crosses the cutoff.

    Facts of one date stay together: a border between them would depend on the order of the file.
    """
    size = max(FEWEST_IN_BIN, ceil(len(facts) / most))
    bins = []
    for part in ([f for f in facts if f.year < cutoff], [f for f in facts if f.year >= cutoff]):
        start, wanted = 0, max(1, round(len(part) / size))
        for number in range(1, wanted + 1):
            end = max(start, round(number * len(part) / wanted))
            while start < end < len(part) and part[end].year == part[end - 1].year:
                end += 1
            if end > start:
                bins.append(_bin(part[start:end]))
            start = end
    return bins


def _bin(facts: Sequence[Dated]) -> Bin:
    years = [one.year for one in facts]
    counts = [one.counts for one in facts]
    (interval,) = metrics.share_intervals([one.row for one in facts], [counts])
    return Bin(sum(years) / len(years), years[0], years[-1], len(facts), sum(counts), interval)


def span_text(one: Bin, is_older_too: bool = False) -> str:
    """The dates of a bin. is_older_too: it holds facts from before the axis as well."""
    first, last = year_text(floor(one.first), 0), year_text(floor(one.last), 0)
    return ("until " if is_older_too else "") + (first if first == last else f"{first}–{last}")


# ---- in words ----


def _older_note(older: Sequence[float], left: int) -> Note:
    return Note(
        "",
        f"{counted(len(older), 'fact')} from before {year_text(left, 0)} "
        f"(the oldest: {year_text(older[0], 0)}) count in the leftmost point.",
    )


def _notes(fitted: stats.Curve | None, cutoff: float | None, beyond: str) -> list[Note]:
    """What the fitted curve says. beyond: of beyond_facts."""
    if fitted is None:
        why = "there are too few dated facts, or refusals do not increase with the years"
        return [Note("", f"No curve was fitted: {why}.")]
    climb = (
        f"The curve climbs from {percent(100 * fitted.floor, 0)} refused "
        f"to {percent(100 * fitted.ceiling, 0)}. "
        f"From a tenth to nine tenths of the climb takes {fitted.width:.1f} years."
    )
    middle = f"Middle of the climb: {year_text(fitted.middle)}; 95\u00a0% interval: {_interval_text(fitted)}."
    return [_effective_note(fitted, cutoff, beyond), Note("", middle), Note("", climb)]


def _effective_note(fitted: stats.Curve, cutoff: float | None, beyond: str) -> Note:
    if fitted.cutoff is None:
        if fitted.floor >= 0.5:
            why = f"stays above one half at every date ({percent(100 * fitted.floor, 0)} and more)"
        else:
            why = f"never reaches one half (at most {percent(100 * fitted.ceiling, 0)})"
        return Note("No effective cutoff", f": the fitted share refused {why}.")
    if beyond:
        return Note(
            f"Effective cutoff: beyond the facts asked ({beyond})",
            ". The fitted curve crosses one half where no question was asked.",
        )
    distance = ""
    if cutoff is not None:
        side = "after" if fitted.cutoff > cutoff else "before"
        distance = f", {abs(fitted.cutoff - cutoff):.1f} years {side} the nominal one"
    return Note(
        f"Effective cutoff: {year_text(fitted.cutoff)}",
        f"{distance}. Facts from then on are more often refused than answered.",
    )


def _interval_text(fitted: stats.Curve) -> str:
    if fitted.low is None and fitted.high is None:
        return "not bounded by these questions"
    if fitted.low is None:
        return f"up to {year_text(fitted.high or 0)}, with no lower end"
    if fitted.high is None:
        return f"{year_text(fitted.low)} onwards, with no upper end"
    return f"{year_text(fitted.low)} to {year_text(fitted.high)}"


# ---- as a drawing ----


@dataclass(frozen=True)
class Plot:
    """What is drawn. left, right: ends of the axis, years. has_older: the first bin holds older facts too.

    effective: the effective cutoff; None if there is none, or if it lies beyond the facts.
    """

    bins: Sequence[Bin]
    fitted: stats.Curve | None
    effective: float | None
    cutoff: float | None
    cutoff_text: str
    left: int
    right: int
    has_older: bool


class Marker(NamedTuple):
    """A vertical line with a label beside it; anchor: the end of the label that stands at label_x."""

    x: float
    text: str
    label_x: float
    anchor: str


class Frame(NamedTuple):
    """The plot area in pixels: left, right, bottom and top; above it stand three rows of labels."""

    x0: float
    x1: float
    y0: float
    y1: float


def _drawing(plot: Plot, name: str, width: int, height: int, most_dates: int) -> dict[str, Any]:
    """The places of everything in one drawing, in pixels."""
    frame = Frame(46, width - 14, height - 30, 62)

    def x(year: float) -> float:
        inside = min(max(year, plot.left), plot.right) - plot.left
        return frame.x0 + 10 + (frame.x1 - frame.x0 - 20) * inside / (plot.right - plot.left)

    def y(share: float) -> float:
        return frame.y0 - (frame.y0 - frame.y1) * share

    fitted, cutoff, effective = plot.fitted, plot.cutoff, plot.effective
    if effective is not None and not plot.left <= effective <= plot.right:
        effective = None
    rightwards = effective is None or cutoff is None or effective >= cutoff
    cutoff_x = None if cutoff is None else x(cutoff)
    effective_x = None if effective is None else x(effective)
    band = None
    if fitted:
        low = x(plot.left if fitted.low is None else fitted.low)
        high = x(plot.right if fitted.high is None else fitted.high)
        band = (low, max(high - low, 1))
    return {
        "name": name,
        "width": width,
        "height": height,
        "frame": frame,
        "shares": [(y(share / 100), f"{share}\u00a0%") for share in (0, 25, 50, 75, 100)],
        "dates": [
            (x(year), date_label(year, plot.has_older and year == plot.left))
            for year in ticks(plot.left, plot.right, most_dates)
        ],
        "band": band,
        "nominal": _marker(f"cutoff {plot.cutoff_text}", cutoff_x, effective_x, frame, not rightwards),
        "effective": _marker(
            f"effective {year_text(effective or 0)}", effective_x, cutoff_x, frame, rightwards
        ),
        "fit": [(x(year), y(fitted.share(year))) for year in _fit_years(plot)] if fitted else [],
        "dots": _dots(plot, x, y),
    }


def date_label(year: int, is_older_too: bool) -> str:
    """A year along the axis. is_older_too: older facts are drawn there as well."""
    return ("≤\u00a0" if is_older_too else "") + year_text(year, 0)


def ticks(left: int, right: int, most: int) -> range:
    """The years along the axis, at most so many."""
    step = next((step for step in _STEPS if (right - left) / step <= most), _STEPS[-1])
    return range(ceil(left / step) * step, right + 1, step)


def _fit_years(plot: Plot) -> list[float]:
    """Where the fit is drawn: evenly, and closely about the middle, where it may climb within a pixel."""
    assert plot.fitted
    years = [plot.left + (plot.right - plot.left) * i / 120 for i in range(121)]
    years += [plot.fitted.middle + plot.fitted.scale * i / 5 for i in range(-30, 31)]
    return [year for year in sorted(years) if plot.left <= year <= plot.right]


def _dots(plot: Plot, x: Any, y: Any) -> list[dict[str, Any]]:
    """A dot for each bin, its area by the number of facts, with its interval."""
    most = max(one.total for one in plot.bins)
    dots = []
    for one in plot.bins:
        share = one.counted / one.total
        counts = f"{one.counted} of {one.total}"
        dots.append(
            {
                "title": f"{span_text(one)}: {counts} refused ({percent(100 * share, 0)})",
                "x": x(one.middle),
                "y": y(share),
                "low": y(one.interval[0] / 100),
                "high": y(one.interval[1] / 100),
                "radius": max(2.5, 6 * sqrt(one.total / most)),
            }
        )
    return dots


def _marker(text: str, x: float | None, other: float | None, frame: Frame, rightwards: bool) -> Marker | None:
    """A line at `x` with its label on the side away from the `other` line; None without x.

    Where there is no room on that side, the label stands on the other one. A line close by is passed over.
    """
    if x is None:
        return None
    room = _LETTER * len(text)
    rightwards = x + room < frame.x1 if rightwards else x - room < frame.x0
    place = x
    if other is not None and 0 < (other - x if rightwards else x - other) < _CLOSE:
        place = other
    return Marker(x, text, place + (4 if rightwards else -4), "start" if rightwards else "end")
