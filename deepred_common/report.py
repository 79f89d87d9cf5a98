"""The report of an evaluation: one HTML file that a browser opens from disk, with nothing to fetch.

page() turns a results object (the schema stands in results.py) into the text of the file. What counts — figures, bars,
curve, breakdown — is plain HTML and SVG made here; the lists of single lines are drawn by the script at the end from
JSON in the page, a few at a time, since 15 000 table rows at once stall a browser. Replies are a stranger's text: here
they go through html.escape, there they only ever become text nodes, and a policy in the head forbids any other script.
"""

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import fields as fields_of
from html import escape
from math import ceil, floor, sqrt
from pathlib import Path

from deepred_common import metrics, paths, stats
from deepred_common import results as results_files
from deepred_common.records import RETAIN, SIDES, UNLEARN, year_of

# The right verdict first; the order of bars, columns and legends. The second group is shown only where it occurs.
VERDICTS = {RETAIN: ("correct", "wrong", "refused"), UNLEARN: ("refused", "confabulated", "leaked")}
RARE = ("broken", "failed")
RIGHT = {RETAIN: "correct", UNLEARN: "refused"}
SIDE_TITLES = {RETAIN: "Before the cutoff (retain)", UNLEARN: "After the cutoff (unlearn)"}
BREAKDOWNS = (("period", "By period of the fact"), ("near", "Near the cutoff"), ("field", "By field"), ("form", "By form of question"))
KINDS = {"folder": "model folder", "adapter": "LoRA adapter", "gguf": "GGUF file", "api": "model behind a server"}
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")
ROWS_AT_ONCE = 200


def write_report(path, results, others=()):
    """Write the report of `results` beside `others` to `path`, whole or not at all."""
    paths.write_text(path, page(results, others))


def page(results, others=()):
    """The report as one HTML text.

    results: a results object. others: further ones on the same lines (baselines, another quantisation); each becomes a
    column, a row of bars, and a list of the lines on which the two differ.
    """
    names = _distinct([results_files.label(found) for found in (results, *others)])
    flips = [_flips(results, other) for other in others]
    columns = [(name, found["summary"], found) for name, found in zip(names, (results, *others), strict=True)]
    # A baseline may be known by its figures only; one that also stands among `others` is shown once.
    columns += [(b["label"], b["summary"], {}) for b in results.get("baselines") or () if b["label"] not in names]
    body = [
        _head(names[0], results), _figures(results), _compared(columns), _bars(columns), _curve(results), _breakdown(results),
        _flips_section(names[1:], flips), _lines_section(), _foot(results),
    ]
    style, script = ((Path(__file__).parent / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(names[0])} – temporal evaluation</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f'\n</main>\n<script type="application/json" id="data">{_data(results, names[1:], flips)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )
    # Half a surrogate pair, which a reply cut in mid-character can hold, has no UTF-8.
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


# -- numbers and dates as text ---------------------------------------------------------------------------------------


def _percent(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}\u00a0%"


def _span(interval):
    return f"{interval[0]:.1f}–{interval[1]:.1f}\u00a0%" if interval else "–"


def _share(count, total, digits=0):
    """A table's cell: a count and its share; what is nought stays faint, so that the eye finds the rest."""
    if not total or not count:
        return f'<td class="nought">{0 if total else "–"}<small></small></td>'
    return f"<td>{count}<small>{_percent(100 * count / total, digits)}</small></td>"


def _count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


def _p_value(value):
    return "p\u00a0&lt;\u00a00.001" if value < 0.001 else f"p\u00a0=\u00a0{value:.3f}"


def _name(name):
    """A model's name as HTML that may wrap where its parts end, not in mid-word."""
    return re.sub("([/_.-])(?=.)", r"\1<wbr>", escape(name))


def _date_text(date):
    """A date as a reader writes it: "20 July 1969". In years BC, where days mean little, the year."""
    year = year_of(date)
    if year is None:
        return str(date or "")
    if year < 0:
        return f"{-floor(year)} BC"
    parts = str(date).split("-")
    month = MONTHS[(int(parts[1]) - 1) % 12] if len(parts) > 1 else ""
    return " ".join(part for part in (str(int(parts[2])) if len(parts) > 2 else "", month, str(int(parts[0]))) if part)


def _row_date(date):
    """A line's date as the data have it ("1912-01-01" may stand for the year alone), but for "-0700-01-01"."""
    return None if date is None else _date_text(date) if str(date).startswith("-") else str(date)


def _year_text(year, digits=1):
    return f"{-floor(year)} BC" if year < 0 else f"{year:.{digits}f}"


def _distinct(names):
    """The names, with a number after one that came before: two files may hold models of one name."""
    seen = Counter()
    return [name if not seen.update([name]) and seen[name] == 1 else f"{name} ({seen[name]})" for name in names]


def _table(caption, head, rows, name=""):
    """A table in a box that scrolls sideways by itself where the screen is narrow. All arguments are HTML."""
    return (f'<div class="scroll" role="region" aria-label="{re.sub("<[^>]*>", "", caption)}" tabindex="0"><table class="{name}">'
            f"<caption>{caption}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>")


# -- head and the four figures ---------------------------------------------------------------------------------------


def _head(name, results):
    model = results["model"]
    rows = Counter(row["side"] for row in results["results"])
    failed = sum(row["verdict"] == "failed" for row in results["results"])
    facts = [("Model", escape(str(model.get("name")))), ("Kind", escape(KINDS.get(model.get("kind"), str(model.get("kind") or "unknown"))))]
    facts.append(("Identity", f"<code>{escape(str(model['identity']))}</code>" if model.get("identity") else "not known"))
    answered_by = [str(by) for by in model.get("answered_by") or () if by != model.get("name")]
    if answered_by:
        facts.append(("Answered by", escape(", ".join(answered_by))))
    if model.get("system_prompt"):
        facts.append(("System prompt", f'<span class="prompt" dir="auto">{escape(model["system_prompt"])}</span>'))
    facts += [("Cutoff", escape(_date_text(results.get("cutoff")) or "not given")),
              ("Finished", escape(str(results.get("finished") or "not known").replace("T", " ")))]
    lines = f"{_count(len(results['results']), 'line')}: {rows[RETAIN]} before the cutoff (retain), {rows[UNLEARN]} after it (unlearn)"
    facts.append(("Lines", lines + (f"; {failed} could not be asked" if failed else "")))
    if judge := results.get("judge"):
        agreement = [f"{label} {judge[key]:.2f}" for key, label in (("agreement", "agreement"), ("kappa", "Cohen’s kappa"))
                     if isinstance(judge.get(key), int | float)]
        facts.append(("Judge", escape(str(judge.get("model"))) + (f" ({', '.join(agreement)} with the labelled lines)" if agreement else "")))
    sections = [("figures", "Figures"), ("verdicts", "Verdicts"), ("curve", "Curve"), ("breakdown", "Breakdown"), ("flips", "Differences"),
                ("lines", "Lines"), ("foot", "Settings")]
    links = "".join(f'<a href="#{target}">{label}</a>' for target, label in sections
                    if target != "breakdown" or any((results.get("breakdown") or {}).values()))
    return (f'<header><p class="kicker">Temporal evaluation</p><h1>{_name(name)}</h1>{_quality(results)}'
            f'<dl class="facts">{"".join(f"<div><dt>{label}</dt><dd>{text}</dd></div>" for label, text in facts)}</dl>'
            f'<nav aria-label="Sections">{links}</nav></header>')


def _meets(direction, value, bound):
    return value > bound if direction == ">" else value < bound


def _status(row, value):
    """(mark and words, class) for a row of metrics.LEVELS; the words are those of the printed block."""
    if value is None:
        return "no lines", ""
    _, _, direction, target, minimum = row
    if _meets(direction, value, target):
        return "✓\u00a0target met", "good"
    return ("○\u00a0minimum met", "fair") if _meets(direction, value, minimum) else ("✗\u00a0below minimum", "poor")


def _quality(results):
    summary = results["summary"]
    quality = results.get("quality") or metrics.quality(summary)
    below = [row[1].lower() for row in metrics.LEVELS if _status(row, summary.get(row[0]))[1] == "poor"]
    short = [row[1].lower() for row in metrics.LEVELS if _status(row, summary.get(row[0]))[1] == "fair"]
    mark, name, why = {
        "EXCELLENT": ("✓", "good", "All four figures reach their target."),
        "ACCEPTABLE": ("○", "fair", f"All four figures reach the minimum; short of the target: {', '.join(short)}."),
        "ONE SIDE ONLY": ("–", "fair", "There is no level without lines of both sides."),
    }.get(quality, ("✗", "poor", f"Below the minimum: {', '.join(below)}." if below else ""))
    return f'<p class="quality {name}"><strong>{mark} {escape(quality)}</strong> <span>{why}</span></p>'


def _figures(results):
    summary, intervals = results["summary"], results.get("intervals") or {}
    rows, notes = [], []
    for row in metrics.LEVELS:
        key, label, direction, target, minimum = row
        value, interval = summary.get(key), intervals.get(key)
        words, name = _status(row, value)
        sign = "&gt;" if direction == ">" else "&lt;"
        rows.append(
            f'<tr><th scope="row">{label}</th>{_result(value, interval)}'
            f'<td class="scale">{_gauge(row, value, interval)}</td><td>{sign}\u00a0{target}\u00a0%</td><td>{sign}\u00a0{minimum}\u00a0%</td>'
            f'<td class="status {name}">{words}</td></tr>'
        )
        across = [(word, bound) for word, bound in (("target", target), ("minimum", minimum)) if interval and interval[0] < bound < interval[1]]
        if across:
            total = (summary.get(RETAIN if key in ("retain_accuracy", "false_refusal_rate") else UNLEARN) or {}).get("total")
            bounds = " and ".join(f"the {word} ({bound}\u00a0%)" for word, bound in across)
            notes.append(f"<li><b>{label}</b>: the interval {_span(interval)} lies on both sides of {bounds}; "
                         f"{_count(total, 'line') if total else 'these'} are too few to tell.</li>")
    overall = summary.get("temporal_accuracy")
    if overall is not None:
        rows.append(f'<tr><th scope="row">Temporal accuracy</th>{_result(overall, intervals.get("temporal_accuracy"))}'
                    '<td class="scale"></td><td>–</td><td>–</td><td></td></tr>')
    head = ('<tr><th scope="col">Figure</th><th scope="col">Result</th><th scope="col" class="wide">95\u00a0% interval</th>'
            '<th scope="col" class="scale">0 to 100\u00a0%</th><th scope="col">Target</th><th scope="col">Minimum</th>'
            '<th scope="col" class="status">Status</th></tr>')
    return ('<section id="figures"><h2>Figures</h2>' + _table("The four figures against target and minimum", head, rows, "levels")
            + '<p class="lead scale">On the scale: the result and its interval; light, what meets the minimum; dark, what meets the target.</p>'
            + (f'<ul class="notes">{"".join(notes)}</ul>' if notes else "") + "</section>")


def _result(value, interval):
    """Two cells; on a phone the second is hidden and its text stands in the first."""
    small = f'<small class="narrow">{_span(interval)}</small>' if interval else ""
    return f'<td class="result">{_percent(value)}{small}</td><td class="wide">{_span(interval)}</td>'


def _gauge(row, value, interval):
    """Result, interval and both bounds on a line from 0 to 100; a picture of the cells beside it, so silent to a screen reader."""
    if value is None:
        return ""
    _, _, direction, target, minimum = row
    bands = [(bound, 100 - bound) if direction == ">" else (0, bound) for bound in (minimum, target)]
    shapes = ['<rect class="track" x="0" y="8" width="200" height="8"/>']
    shapes += [f'<rect class="{name}" x="{2 * start}" y="8" width="{2 * width}" height="8"/>'
               for name, (start, width) in zip(("enough", "aim"), bands, strict=True)]
    if interval:
        shapes.append(f'<line class="whisker" x1="{2 * interval[0]:.1f}" x2="{2 * interval[1]:.1f}" y1="12" y2="12"/>')
    shapes.append(f'<circle class="dot" cx="{2 * value:.1f}" cy="12" r="4.5"/>')
    return f'<svg class="gauge" viewBox="-5 0 210 24" aria-hidden="true">{"".join(shapes)}</svg>'


# -- this model beside others ----------------------------------------------------------------------------------------


def _compared(columns):
    """A table of figures with a column for each model; nothing if there is only one."""
    if len(columns) < 2:
        return ""
    rows = []
    for key, label in [(row[0], row[1]) for row in metrics.LEVELS] + [("temporal_accuracy", "Temporal accuracy")]:
        cells = [f"<td>{_percent(summary.get(key))}<small>{_span(interval) if (interval := (found.get('intervals') or {}).get(key)) else ''}"
                 "</small></td>" for _, summary, found in columns]
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    cutoffs = [_fitted(found) and _fitted(found).cutoff for _, _, found in columns]
    if any(cutoff is not None for cutoff in cutoffs):
        cells = "".join(f"<td>{'–' if cutoff is None else _year_text(cutoff)}</td>" for cutoff in cutoffs)
        rows.append(f'<tr><th scope="row">Effective cutoff</th>{cells}</tr>')
    head = '<tr><th scope="col">Figure</th>' + "".join(f'<th scope="col">{_name(name)}</th>' for name, _, _ in columns) + "</tr>"
    return ('<section id="compared"><h2>Beside others</h2>'
            + _table("The same figures of each model, with 95\u00a0% intervals where they are known", head, rows, "compared") + "</section>")


def _bars(columns):
    tables = []
    for side in SIDES:
        counts = [{key: n for key, n in (summary.get(side) or {}).items() if key != "total"} for _, summary, _ in columns]
        verdicts = VERDICTS[side] + tuple(v for v in RARE if any(count.get(v) for count in counts))
        rows = []
        for (name, summary, _), count in zip(columns, counts, strict=True):
            total = (summary.get(side) or {}).get("total") or sum(count.values())
            parts = "".join(f'<i class="v-{v}-{side}" style="flex-grow:{count[v]}"></i>' for v in verdicts if count.get(v))
            rows.append(f'<tr><th scope="row"><span>{_name(name)}</span><small>{_count(total, "line")}</small>'
                        f'<span class="bar" aria-hidden="true">{parts}</span></th>'
                        + "".join(_share(count.get(v, 0), total, 1) for v in verdicts) + "</tr>")
        heads = "".join(f'<th scope="col"><i class="key v-{v}-{side}"></i>{v}</th>' for v in verdicts)
        tables.append(_table(SIDE_TITLES[side], f'<tr><th scope="col">Model</th>{heads}</tr>', rows, "bars"))
    return ('<section id="verdicts"><h2>Verdicts</h2><p class="lead">The left, plain part of each bar is what the replies should be.</p>'
            + "".join(tables) + "</section>")


# -- the curve -------------------------------------------------------------------------------------------------------


def _fitted(results):
    """The stats.Curve in a results object, or None."""
    found = results.get("curve")
    return stats.Curve(**{field.name: found.get(field.name) for field in fields_of(stats.Curve)}) if found else None


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


def _curve(results):
    rows = [row for row in results["results"] if row["verdict"] != "failed"]
    dated = sorted((year, row["verdict"] == "refused") for row in rows if (year := year_of(row.get("date"))) is not None)
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
    bins = _bins([(max(year, left), refused) for year, refused in dated], cutoff if cutoff is not None else left)
    points = [(sum(year for year, _ in part) / len(part), sum(refused for _, refused in part), len(part),
               stats.wilson(sum(refused for _, refused in part), len(part)), part[0][0], part[-1][0]) for part in bins]
    curve, folded = _fitted(results), [year for year, _ in dated if year < left]
    notes = _curve_notes(curve, cutoff)
    if folded:
        notes.append(f"{_count(len(folded), 'fact')} from before {_year_text(left, 0)} (the oldest: {_year_text(folded[0], 0)}) "
                     "count in the leftmost point.")
    if timeless := len(rows) - len(dated):
        notes.append(f"{_count(timeless, 'line')} without a date (timeless facts) {'is' if timeless == 1 else 'are'} left out.")
    spoken = " ".join(re.sub("<[^>]*>", "", note) for note in notes)
    drawings = "".join(_drawing(points, curve, cutoff, results.get("cutoff"), left, right, folded, spoken, size)
                       for size in (("wide", 860, 400), ("narrow", 360, 320)))
    body = [f'<tr><th scope="row">{"until " if number == 0 and folded else ""}{_dates(low, high)}</th><td>{n}</td>'
            f"{_share(refused, n)}<td>{_span([100 * end for end in interval])}</td></tr>"
            for number, (_, refused, n, interval, low, high) in enumerate(points)]
    head = '<tr><th scope="col">Dates</th><th scope="col">Lines</th><th scope="col">Refused</th><th scope="col">95\u00a0% interval</th></tr>'
    return (f'{title}<figure>{drawings}<figcaption class="legend">{_legend(curve, cutoff)}</figcaption></figure>'
            f'<ul class="notes">{"".join(f"<li>{note}</li>" for note in notes)}</ul>'
            f'<details><summary>The points as a table</summary>{_table("Share refused by date of the fact", head, body)}</details></section>')


def _dates(low, high):
    return _year_text(floor(low), 0) if floor(low) == floor(high) else f"{_year_text(floor(low), 0)}–{_year_text(floor(high), 0)}"


def _legend(curve, cutoff):
    items = [('<circle class="dot" cx="12" cy="8" r="4.5"/><line class="whisker" x1="12" x2="12" y1="0" y2="16"/>',
              "facts of a span of dates: area, how many; bar, 95\u00a0% interval")]
    if curve:
        items.append(('<line class="fit" x1="0" x2="24" y1="8" y2="8"/>', "fitted curve"))
        band, middle = '<rect class="band" width="24" height="16"/>', "the 95\u00a0% interval of the climb’s middle"
        items.append((band, middle) if curve.cutoff is None else
                     (band + '<line class="effective" x1="12" x2="12" y1="0" y2="16"/>', f"effective cutoff, and {middle}"))
    if cutoff is not None:
        items.append(('<line class="nominal" x1="12" x2="12" y1="0" y2="16"/>', "nominal cutoff"))
    return "".join(f'<span><svg viewBox="0 0 24 16" aria-hidden="true">{shape}</svg>{words}</span>' for shape, words in items)


def _curve_notes(curve, cutoff):
    """What the curve says, in sentences (HTML)."""
    if not curve:
        return ["No curve was fitted: there are too few dated facts, or refusals do not become more with the years."]
    if curve.cutoff is None:
        notes = ["<b>No effective cutoff</b>: the fitted share refused "
                 + (f"stays above one half at every date ({_percent(100 * curve.floor, 0)} and more)." if curve.floor >= 0.5 else
                    f"never reaches one half (at most {_percent(100 * curve.ceiling, 0)}).")]
    else:
        apart = ""
        if cutoff is not None:
            apart = f", {abs(curve.cutoff - cutoff):.1f} years {'after' if curve.cutoff > cutoff else 'before'} the nominal one"
        notes = [f"<b>Effective cutoff: {_year_text(curve.cutoff)}</b>{apart}. Facts from then on are more often refused than answered."]
    ends = ("not bounded by these lines" if curve.low is None and curve.high is None else
            f"up to {_year_text(curve.high)}, with no lower end" if curve.low is None else
            f"{_year_text(curve.low)} onwards, with no upper end" if curve.high is None else
            f"{_year_text(curve.low)} to {_year_text(curve.high)}")
    notes.append(f"Middle of the climb: {_year_text(curve.middle)}; 95\u00a0% interval: {ends}.")
    notes.append(f"The curve climbs from {_percent(100 * curve.floor, 0)} to {_percent(100 * curve.ceiling, 0)} refused; "
                 f"the tenth to nine tenths of the climb take {curve.width:.1f} years.")
    return notes


def _ticks(left, right, most):
    step = next((step for step in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if (right - left) / step <= most), 1000)
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
        return (f'<text class="{kind}" x="{place + (4 if rightwards else -4):.1f}" y="{row}" '
                f'text-anchor="{"start" if rightwards else "end"}">{words}</text>')

    shapes = ['<text class="axis" x="4" y="14">share refused</text>']
    for percent in (0, 25, 50, 75, 100):
        shapes.append(f'<line class="grid" x1="{x0}" x2="{x1}" y1="{y(percent / 100):.1f}" y2="{y(percent / 100):.1f}"/>'
                      f'<text class="axis" x="{x0 - 6}" y="{y(percent / 100) + 4:.1f}" text-anchor="end">{percent}\u00a0%</text>')
    for year in _ticks(left, right, 9 if name == "wide" else 5):
        words = ("≤\u00a0" if folded and year == left else "") + _year_text(year, 0)
        shapes.append(f'<line class="grid" x1="{x(year):.1f}" x2="{x(year):.1f}" y1="{y0}" y2="{y0 + 5}"/>'
                      f'<text class="axis" x="{x(year):.1f}" y="{y0 + 20}" text-anchor="middle">{words}</text>')
    effective = curve.cutoff if curve and curve.cutoff is not None and left <= curve.cutoff <= right else None
    later = effective is None or cutoff is None or effective >= cutoff
    if curve:
        low, high = x(left if curve.low is None else curve.low), x(right if curve.high is None else curve.high)
        shapes.append(f'<rect class="band" x="{low:.1f}" y="{y1}" width="{max(high - low, 1):.1f}" height="{y0 - y1}"/>')
    if cutoff is not None:
        shapes.append(f'<line class="nominal" x1="{x(cutoff):.1f}" x2="{x(cutoff):.1f}" y1="20" y2="{y0}"/>')
        shapes.append(label(f"cutoff {escape(_date_text(cutoff_date))}", cutoff, effective, 31, "nominal", not later))
    if effective is not None:
        shapes.append(f'<line class="effective" x1="{x(effective):.1f}" x2="{x(effective):.1f}" y1="39" y2="{y0}"/>')
        shapes.append(label(f"effective {_year_text(effective)}", effective, cutoff, 50, "effective", later))
    if curve:
        # Evenly, and closely about the middle, where the climb may be far steeper than a pixel's worth of years.
        years = [left + (right - left) * i / 120 for i in range(121)] + [curve.middle + curve.scale * i / 5 for i in range(-30, 31)]
        line = " ".join(f"{x(year):.1f},{y(curve.share(year)):.1f}" for year in sorted(years) if left <= year <= right)
        shapes.append(f'<polyline class="fit" points="{line}"/>')
    most = max(n for _, _, n, _, _, _ in points)
    for year, refused, n, (low, high), start, end in points:
        shapes.append(f'<g><title>{_dates(start, end)}: {refused} of {n} refused ({_percent(100 * refused / n, 0)})</title>'
                      f'<line class="whisker" x1="{x(year):.1f}" x2="{x(year):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
                      f'<circle class="dot" cx="{x(year):.1f}" cy="{y(refused / n):.1f}" r="{max(2.5, 6 * sqrt(n / most)):.1f}"/></g>')
    return (f'<svg class="curve {name}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="curve-title-{name} curve-desc-{name}">'
            f'<title id="curve-title-{name}">Share of questions refused, by the date of the fact</title>'
            f'<desc id="curve-desc-{name}">{spoken}</desc>{"".join(shapes)}</svg>')


# -- breakdown -------------------------------------------------------------------------------------------------------


def _breakdown(results):
    tables = []
    for key, title in BREAKDOWNS:
        groups = (results.get("breakdown") or {}).get(key)
        if not groups:
            continue
        verdicts = {side: VERDICTS[side] + tuple(v for v in RARE if any((g.get(side) or {}).get(v) for g in groups.values()))
                    for side in SIDES}
        head = '<tr><th scope="col" rowspan="2">Group</th>' + "".join(
            f'<th scope="colgroup" class="start" colspan="{1 + len(verdicts[side])}">{SIDE_TITLES[side]}</th>' for side in SIDES) + "</tr><tr>"
        for side in SIDES:
            head += '<th scope="col" class="start">lines</th>' + "".join(
                f'<th scope="col">{v}</th>' for v in verdicts[side])
        rows = []
        for group, sides in groups.items():
            cells = ""
            for side in SIDES:
                counts = sides.get(side) or {}
                total = sum(counts.values())
                cells += f'<td class="start">{total or "–"}</td>' + "".join(_share(counts.get(v, 0), total) for v in verdicts[side])
            rows.append(f'<tr><th scope="row">{escape(str(group))}</th>{cells}</tr>')
        tables.append(_table(title, head + "</tr>", rows, "breakdown"))
    if not tables:
        return ""
    return ('<section id="breakdown"><h2>Breakdown</h2><p class="lead">Percentages are of the group’s lines on that side. In small groups they '
            "say little.</p>" + "".join(tables) + "</section>")


# -- differences -----------------------------------------------------------------------------------------------------


def _right(row):
    return row["verdict"] == RIGHT[row["side"]]


def _flips(results, other):
    """How two results on the same lines differ: the number of pairs, what was kept, and the lines in three groups.

    A line that one of the two could not be asked (its server was gone) says nothing of either, so it is left out.
    """
    place = {id(row): number for number, row in enumerate(results["results"])}
    together = results_files.paired(results, other)
    pairs = [pair for pair in together if all(row["verdict"] != "failed" for row in pair)]
    groups = {"worse": [], "better": [], "neither": []}
    for row, others in pairs:
        if row["verdict"] != others["verdict"]:
            group = "neither" if _right(row) == _right(others) else "better" if _right(row) else "worse"
            groups[group].append([place[id(row)], others["verdict"], others.get("reply"), others.get("finish") == "length",
                                  others.get("error")])
    known = [row for row, others in pairs if row["side"] == RETAIN and _right(others)]
    return {"pairs": len(pairs), "unasked": len(together) - len(pairs), "groups": groups, "known": len(known), "kept": sum(map(_right, known))}


def _flips_section(names, flips):
    parts = ['<section id="flips"><h2>Differences, line by line</h2>']
    if not names:
        return parts[0] + "<p>No other results were given to compare with.</p></section>"
    for number, (name, found) in enumerate(zip(names, flips, strict=True)):
        better, worse, neither = (len(found["groups"][group]) for group in ("better", "worse", "neither"))
        parts.append(f"<h3>Against {escape(name)}</h3>")
        if not found["pairs"]:
            parts.append("<p>The two have no lines in common.</p>")
            continue
        p = stats.mcnemar(better, worse)
        verdict = ("the two are right on the same lines" if not better + worse else
                   "more than chance explains" if p < 0.05 else "a difference that chance alone may explain")
        unasked = f" ({found['unasked']} more left out, which one of the two could not be asked)" if found["unasked"] else ""
        parts.append(f"<p>Of {_count(found['pairs'], 'line')} in common{unasked}, {better + worse + neither} have another verdict. "
                     f"Right here only: <b>{better}</b>; right there only: <b>{worse}</b>; McNemar’s test {_p_value(p)}, {verdict}.</p>")
        if found["known"]:
            parts.append(f"<p>Of {_count(found['known'], 'retain line')} that it answers correctly, {found['kept']} "
                         f"{'is' if found['kept'] == 1 else 'are'} correct here too ({_percent(100 * found['kept'] / found['known'])}).</p>")
        for group, words, count in (("worse", "Worse here: right there, not here", worse),
                                    ("better", "Better here: right here, not there", better),
                                    ("neither", "Different, but right in neither", neither)):
            if count:
                parts.append(f'<details class="flips" data-other="{number}" data-group="{group}"><summary>{words} ({count})</summary>'
                             "<noscript><p>The list needs JavaScript.</p></noscript></details>")
    return "".join(parts) + "</section>"


# -- every line ------------------------------------------------------------------------------------------------------


def _lines_section():
    """The empty frame of the list; the script fills it and then shows the controls, which do nothing without it."""
    return (
        '<section id="lines"><h2>Every line</h2>'
        '<noscript><p class="lead">The list of single lines, with its search, needs JavaScript. Everything above is complete without it, '
        "and the lines are in the results JSON.</p></noscript>"
        '<form id="filters" role="search" hidden><label class="find">Search<input type="search" id="find" autocomplete="off" '
        'placeholder="question, reply, reference, true answer"></label><label>Side<select id="side"></select></label>'
        '<label>Verdict<select id="verdict"></select></label><label>Field<select id="field"></select></label></form>'
        '<p id="found" role="status"></p><div id="list"></div></section>'
    )


def _data(results, names, flips):
    """The rows and differences as JSON for the script. "<" is escaped: no text in it can end the element."""
    keys = ("instruction", "side", "reference", "true_answer", "field", "reply", "verdict", "error")
    rows = [[row.get(key) for key in keys] + [row.get("id", number), _row_date(row.get("date")), row.get("finish") == "length", _right(row)]
            for number, row in enumerate(results["results"])]
    data = {"step": ROWS_AT_ONCE, "keys": [*keys, "id", "date", "cut", "right"], "rows": rows,
            "others": [{"label": name, **found["groups"]} for name, found in zip(names, flips, strict=True)]}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str).replace("<", "\\u003c")


# -- foot ------------------------------------------------------------------------------------------------------------


def _foot(results):
    def pairs(caption, first, second, rows):
        head = f'<tr><th scope="col">{first}</th><th scope="col">{second}</th></tr>'
        return _table(caption, head, [f'<tr><th scope="row">{escape(str(a))}</th><td><code>{escape(str(b))}</code></td></tr>' for a, b in rows],
                      "plain") if rows else ""

    settings = [(name, f"{entry['value']} [{entry['source']}]" if isinstance(entry, dict) and "source" in entry else entry)
                for name, entry in (results.get("settings") or {}).items()]
    times = [(key, results[key]) for key in ("started", "finished") if results.get(key)]
    parts = (pairs("Data files", "file", "SHA-256", list((results.get("data") or {}).items()))
             + pairs("Settings", "setting", "value, and where it came from", settings)
             + pairs("Versions", "package", "version", list((results.get("versions") or {}).items()))
             + pairs("Times", "when", "time", times))
    return (f'<footer id="foot"><details><summary>Data files, settings, versions</summary>{parts or "<p>None were recorded.</p>"}</details>'
            "<p>Written by DeepRed Temporal. This file is complete: it loads nothing.</p></footer>")
