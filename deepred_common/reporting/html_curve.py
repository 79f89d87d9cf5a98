"""The curve of refusals by the facts' dates, drawn for a report: bins, fit and both cutoffs as SVG, and in words."""

import re
from html import escape
from math import ceil, floor, sqrt

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation import metrics
from deepred_common.reporting import html_parts


def _bins(facts, cutoff):
    """Facts (year, refused), sorted, in bins of about equal count: at least ten, at most some thirty bins; none crosses the cutoff.

    Facts of one date stay together: a line between them would be drawn by the order of the file.
    """
    size = max(10, ceil(len(facts) / 30))
    bins = []
    for part in ([f for f in facts if f[0] < cutoff], [f for f in facts if f[0] >= cutoff]):
        start, wanted = 0, max(1, round(len(part) / size))
        for number in range(1, wanted + 1):
            end = max(start, round(number * len(part) / wanted))
            while start < end < len(part) and part[end][0] == part[end - 1][0]:
                end += 1
            if end > start:
                bins.append(part[start:end])
            start = end
    return bins


def section(results):
    """The section of a report (HTML) that draws the refusals of a results object by the facts' dates, and says what they say."""
    rows = [row for row in results["results"] if row["verdict"] != "failed"]
    dated = sorted(
        (year, row["verdict"] == "refused") for row in rows if (year := year_of(row.get("date"))) is not None
    )
    title = '<section id="curve"><h2>Refusals by the fact’s date</h2>'
    if not dated:
        return title + "<p>None of the lines has a date, so there is no curve.</p></section>"
    cutoff = year_of(results.get("cutoff"))
    # Most facts lie in a century and a half; antiquity on the same axis would squeeze them into its right end.
    earliest = 1800 if cutoff is None else min(1800, cutoff - 100)
    first = max(earliest, dated[len(dated) // 20][0])
    last = dated[-1][0]
    if cutoff is not None:
        first, last = min(first, cutoff - 10), max(last, cutoff + 10)
    left, right = floor(first / 10) * 10, ceil((last + 0.5) / 5) * 5
    bins = _bins(
        [(max(year, left), refused) for year, refused in dated], cutoff if cutoff is not None else left
    )
    points = [
        (
            sum(year for year, _ in part) / len(part),
            sum(refused for _, refused in part),
            len(part),
            stats.wilson(sum(refused for _, refused in part), len(part)),
            part[0][0],
            part[-1][0],
        )
        for part in bins
    ]
    curve, folded = metrics.curve_of(results.get("curve")), [year for year, _ in dated if year < left]
    notes = _notes(curve, cutoff)
    if folded:
        notes.append(
            f"{html_parts.count(len(folded), 'fact')} from before {html_parts.year_text(left, 0)} (the oldest: "
            f"{html_parts.year_text(folded[0], 0)}) "
            "count in the leftmost point."
        )
    if timeless := len(rows) - len(dated):
        notes.append(
            f"{html_parts.count(timeless, 'line')} without a date (timeless facts) {'is' if timeless == 1 else 'are'} left out."
        )
    spoken = " ".join(re.sub("<[^>]*>", "", note) for note in notes)
    drawings = "".join(
        _drawing(points, curve, cutoff, results.get("cutoff"), left, right, folded, spoken, size)
        for size in (("wide", 860, 400), ("narrow", 360, 320))
    )
    body = [
        f'<tr><th scope="row">{"until " if number == 0 and folded else ""}{_dates(low, high)}</th><td>{n}</td>'
        f"{html_parts.share(refused, n)}<td>{html_parts.span([100 * end for end in interval])}</td></tr>"
        for number, (_, refused, n, interval, low, high) in enumerate(points)
    ]
    head = '<tr><th scope="col">Dates</th><th scope="col">Lines</th><th scope="col">Refused</th><th scope="col">95\u00a0% interval</th></tr>'
    return (
        f'{title}<figure>{drawings}<figcaption class="legend">{_legend(curve, cutoff)}</figcaption></figure>'
        f'<ul class="notes">{"".join(f"<li>{note}</li>" for note in notes)}</ul>'
        "<details><summary>The points as a table</summary>"
        f"{html_parts.table('Share refused by date of the fact', head, body)}</details></section>"
    )


def _dates(low, high):
    first, last = html_parts.year_text(floor(low), 0), html_parts.year_text(floor(high), 0)
    return first if first == last else f"{first}–{last}"


def _legend(curve, cutoff):
    items = [
        (
            '<circle class="dot" cx="12" cy="8" r="4.5"/><line class="whisker" x1="12" x2="12" y1="0" y2="16"/>',
            "facts of a span of dates: area, how many; bar, 95\u00a0% interval",
        )
    ]
    if curve:
        items.append(('<line class="fit" x1="0" x2="24" y1="8" y2="8"/>', "fitted curve"))
        band, middle = (
            '<rect class="band" width="24" height="16"/>',
            "the 95\u00a0% interval of the climb’s middle",
        )
        items.append(
            (band, middle)
            if curve.cutoff is None
            else (
                band + '<line class="effective" x1="12" x2="12" y1="0" y2="16"/>',
                f"effective cutoff, and {middle}",
            )
        )
    if cutoff is not None:
        items.append(('<line class="nominal" x1="12" x2="12" y1="0" y2="16"/>', "nominal cutoff"))
    return "".join(
        f'<span><svg viewBox="0 0 24 16" aria-hidden="true">{shape}</svg>{words}</span>'
        for shape, words in items
    )


def _notes(curve, cutoff):
    """What the curve says, in sentences (HTML)."""
    if not curve:
        return [
            "No curve was fitted: there are too few dated facts, or refusals do not become more with the years."
        ]
    if curve.cutoff is None:
        notes = [
            "<b>No effective cutoff</b>: the fitted share refused "
            + (
                f"stays above one half at every date ({html_parts.percent(100 * curve.floor, 0)} and more)."
                if curve.floor >= 0.5
                else f"never reaches one half (at most {html_parts.percent(100 * curve.ceiling, 0)})."
            )
        ]
    else:
        apart = ""
        if cutoff is not None:
            apart = f", {abs(curve.cutoff - cutoff):.1f} years {'after' if curve.cutoff > cutoff else 'before'} the nominal one"
        notes = [
            f"<b>Effective cutoff: {html_parts.year_text(curve.cutoff)}</b>{apart}. Facts from then on are more often refused than answered."
        ]
    ends = (
        "not bounded by these lines"
        if curve.low is None and curve.high is None
        else f"up to {html_parts.year_text(curve.high)}, with no lower end"
        if curve.low is None
        else f"{html_parts.year_text(curve.low)} onwards, with no upper end"
        if curve.high is None
        else f"{html_parts.year_text(curve.low)} to {html_parts.year_text(curve.high)}"
    )
    notes.append(f"Middle of the climb: {html_parts.year_text(curve.middle)}; 95\u00a0% interval: {ends}.")
    notes.append(
        f"The curve climbs from {html_parts.percent(100 * curve.floor, 0)} to {html_parts.percent(100 * curve.ceiling, 0)} refused; "
        f"the tenth to nine tenths of the climb take {curve.width:.1f} years."
    )
    return notes


def _ticks(left, right, most):
    step = next(
        (step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if (right - left) / step <= most), 1000
    )
    return range(ceil(left / step) * step, floor(right) + 1, step)


def _drawing(points, curve, cutoff, cutoff_date, left, right, folded, spoken, size):
    """The curve as SVG, drawn for a width: one drawing scaled down to a phone would have letters of five pixels."""
    name, width, height = size
    x0, x1, y0, y1 = 46, width - 14, height - 30, 62  # plot area; above it, three rows of labels

    def x(year):
        return x0 + 10 + (x1 - x0 - 20) * (min(max(year, left), right) - left) / (right - left)

    def y(share):
        return y0 - (y0 - y1) * share

    def label(words, year, other, row, kind, rightwards):
        """On the side of its line that is away from the other line; past that one, if it stands close by on this side."""
        room = 7 * len(words)  # about its width at 12 px
        rightwards = x(year) + room < x1 if rightwards else x(year) - room < x0
        place, across = x(year), x(year if other is None else other)
        if 0 < (across - place if rightwards else place - across) < 20:
            place = across
        return (
            f'<text class="{kind}" x="{place + (4 if rightwards else -4):.1f}" y="{row}" '
            f'text-anchor="{"start" if rightwards else "end"}">{words}</text>'
        )

    shapes = ['<text class="axis" x="4" y="14">share refused</text>']
    for percent in (0, 25, 50, 75, 100):
        shapes.append(
            f'<line class="grid" x1="{x0}" x2="{x1}" y1="{y(percent / 100):.1f}" y2="{y(percent / 100):.1f}"/>'
            f'<text class="axis" x="{x0 - 6}" y="{y(percent / 100) + 4:.1f}" text-anchor="end">{percent}\u00a0%</text>'
        )
    for year in _ticks(left, right, 9 if name == "wide" else 5):
        words = ("≤\u00a0" if folded and year == left else "") + html_parts.year_text(year, 0)
        shapes.append(
            f'<line class="grid" x1="{x(year):.1f}" x2="{x(year):.1f}" y1="{y0}" y2="{y0 + 5}"/>'
            f'<text class="axis" x="{x(year):.1f}" y="{y0 + 20}" text-anchor="middle">{words}</text>'
        )
    effective = curve.cutoff if curve and curve.cutoff is not None and left <= curve.cutoff <= right else None
    later = effective is None or cutoff is None or effective >= cutoff
    if curve:
        low, high = (
            x(left if curve.low is None else curve.low),
            x(right if curve.high is None else curve.high),
        )
        shapes.append(
            f'<rect class="band" x="{low:.1f}" y="{y1}" width="{max(high - low, 1):.1f}" height="{y0 - y1}"/>'
        )
    if cutoff is not None:
        shapes.append(f'<line class="nominal" x1="{x(cutoff):.1f}" x2="{x(cutoff):.1f}" y1="20" y2="{y0}"/>')
        shapes.append(
            label(
                f"cutoff {escape(html_parts.date_text(cutoff_date))}",
                cutoff,
                effective,
                31,
                "nominal",
                not later,
            )
        )
    if effective is not None:
        shapes.append(
            f'<line class="effective" x1="{x(effective):.1f}" x2="{x(effective):.1f}" y1="39" y2="{y0}"/>'
        )
        shapes.append(
            label(f"effective {html_parts.year_text(effective)}", effective, cutoff, 50, "effective", later)
        )
    if curve:
        # Evenly, and closely about the middle, where the climb may be far steeper than a pixel's worth of years.
        years = [left + (right - left) * i / 120 for i in range(121)] + [
            curve.middle + curve.scale * i / 5 for i in range(-30, 31)
        ]
        line = " ".join(
            f"{x(year):.1f},{y(curve.share(year)):.1f}" for year in sorted(years) if left <= year <= right
        )
        shapes.append(f'<polyline class="fit" points="{line}"/>')
    most = max(n for _, _, n, _, _, _ in points)
    for year, refused, n, (low, high), start, end in points:
        shapes.append(
            f"<g><title>{_dates(start, end)}: {refused} of {n} refused ({html_parts.percent(100 * refused / n, 0)})</title>"
            f'<line class="whisker" x1="{x(year):.1f}" x2="{x(year):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
            f'<circle class="dot" cx="{x(year):.1f}" cy="{y(refused / n):.1f}" r="{max(2.5, 6 * sqrt(n / most)):.1f}"/></g>'
        )
    return (
        f'<svg class="curve {name}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="curve-title-{name} curve-desc-{name}">'
        f'<title id="curve-title-{name}">Share of questions refused, by the date of the fact</title>'
        f'<desc id="curve-desc-{name}">{spoken}</desc>{"".join(shapes)}</svg>'
    )
