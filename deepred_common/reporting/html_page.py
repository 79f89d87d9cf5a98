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
from html import escape
from pathlib import Path

from deepred_common import stats
from deepred_common.evaluation import comparison, metrics, results_file
from deepred_common.examples import RETAIN, SIDES, UNLEARN
from deepred_common.files import write_text
from deepred_common.reporting import html_curve, html_parts

# The right verdict first; the order of bars, columns and legends. The second group is shown only where it occurs.
VERDICTS = {RETAIN: ("correct", "wrong", "refused"), UNLEARN: ("refused", "confabulated", "leaked")}
RARE = ("broken", "failed")
SIDE_TITLES = {RETAIN: "Before the cutoff (retain)", UNLEARN: "After the cutoff (unlearn)"}
BREAKDOWNS = (
    ("period", "By period of the fact"),
    ("near", "Near the cutoff"),
    ("field", "By field"),
    ("form", "By form of question"),
    ("probe", "By the way of asking about the fact"),
)
KINDS = {
    "folder": "model folder",
    "adapter": "LoRA adapter",
    "gguf": "GGUF file",
    "api": "model behind a server",
}
ROWS_AT_ONCE = 200


def write_report(path, results, others=()):
    """Write the report of `results` beside `others` to `path`, whole or not at all."""
    write_text(path, page(results, others))


def page(results, others=()):
    """The report as one HTML text.

    results: a results object. others: further ones on the same lines (baselines, another quantisation); each becomes a
    column, a row of bars, and a list of the lines on which the two differ.
    """
    names = _distinct([results_file.label(found) for found in (results, *others)])
    flips = [comparison.differences(results, other) for other in others]
    columns = [(name, found["summary"], found) for name, found in zip(names, (results, *others), strict=True)]
    # A baseline may be known by its figures only; one that also stands among `others` is shown once.
    columns += [
        (b["label"], b["summary"], {}) for b in results.get("baselines") or () if b["label"] not in names
    ]
    body = [
        _head(names[0], results),
        _figures(results),
        _compared(columns),
        _bars(columns),
        html_curve.section(results),
        _breakdown(results),
        section(names[1:], flips),
        _lines_section(),
        _foot(results),
    ]
    style, script = (
        (Path(__file__).parent / f"html_page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
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


def _row_date(date):
    """A line's date as the data have it ("1912-01-01" may stand for the year alone), but for "-0700-01-01"."""
    return None if date is None else html_parts.date_text(date) if str(date).startswith("-") else str(date)


def _distinct(names):
    """The names, with a number after one that came before: two files may hold models of one name."""
    seen = Counter()
    return [
        name if not seen.update([name]) and seen[name] == 1 else f"{name} ({seen[name]})" for name in names
    ]


# -- head and the four figures ---------------------------------------------------------------------------------------


def _head(name, results):
    model = results["model"]
    rows = Counter(row["side"] for row in results["results"])
    failed = sum(row["verdict"] == "failed" for row in results["results"])
    facts = [
        ("Model", escape(str(model.get("name")))),
        ("Kind", escape(KINDS.get(model.get("kind"), str(model.get("kind") or "unknown")))),
    ]
    facts.append(
        (
            "Identity",
            f"<code>{escape(str(model['identity']))}</code>" if model.get("identity") else "not known",
        )
    )
    answered_by = [str(by) for by in model.get("answered_by") or () if by != model.get("name")]
    if answered_by:
        facts.append(("Answered by", escape(", ".join(answered_by))))
    if model.get("system_prompt"):
        facts.append(
            ("System prompt", f'<span class="prompt" dir="auto">{escape(model["system_prompt"])}</span>')
        )
    facts += [
        ("Cutoff", escape(html_parts.date_text(results.get("cutoff")) or "not given")),
        ("Finished", escape(str(results.get("finished") or "not known").replace("T", " "))),
    ]
    lines = f"{html_parts.count(len(results['results']), 'line')}: {rows[RETAIN]} before the cutoff (retain), {rows[UNLEARN]} after it (unlearn)"
    facts.append(("Lines", lines + (f"; {failed} could not be asked" if failed else "")))
    if judge := results.get("judge"):
        agreement = [
            f"{label} {judge[key]:.2f}"
            for key, label in (("agreement", "agreement"), ("kappa", "Cohen’s kappa"))
            if isinstance(judge.get(key), int | float)
        ]
        facts.append(
            (
                "Judge",
                escape(str(judge.get("model")))
                + (f" ({', '.join(agreement)} with the labelled lines)" if agreement else ""),
            )
        )
    sections = [
        ("figures", "Figures"),
        ("verdicts", "Verdicts"),
        ("curve", "Curve"),
        ("breakdown", "Breakdown"),
        ("flips", "Differences"),
        ("lines", "Lines"),
        ("foot", "Settings"),
    ]
    links = "".join(
        f'<a href="#{target}">{label}</a>'
        for target, label in sections
        if target != "breakdown" or any((results.get("breakdown") or {}).values())
    )
    return (
        f'<header><p class="kicker">Temporal evaluation</p><h1>{html_parts.name(name)}</h1>{_quality(results)}'
        f'<dl class="facts">{"".join(f"<div><dt>{label}</dt><dd>{text}</dd></div>" for label, text in facts)}</dl>'
        f'<nav aria-label="Sections">{links}</nav></header>'
    )


def _status(row, value):
    """(mark and words, class) for a row of metrics.LEVELS; the words are those of the printed block."""
    words = metrics.status(row, value)
    mark, name = {
        "target met": ("✓", "good"),
        "minimum met": ("○", "fair"),
        "below minimum": ("✗", "poor"),
        "": ("", ""),
    }[words]
    return (f"{mark}\u00a0{words}", name) if words else ("no lines", "")


def _quality(results):
    summary = results["summary"]
    quality = results.get("quality") or metrics.quality(summary)
    below = [row[1].lower() for row in metrics.LEVELS if _status(row, summary.get(row[0]))[1] == "poor"]
    short = [row[1].lower() for row in metrics.LEVELS if _status(row, summary.get(row[0]))[1] == "fair"]
    mark, name, why = {
        "EXCELLENT": ("✓", "good", "All four figures reach their target."),
        "ACCEPTABLE": (
            "○",
            "fair",
            f"All four figures reach the minimum; short of the target: {', '.join(short)}.",
        ),
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
        across = [
            (word, bound)
            for word, bound in (("target", target), ("minimum", minimum))
            if interval and interval[0] < bound < interval[1]
        ]
        if across:
            total = (
                summary.get(RETAIN if key in ("retain_accuracy", "false_refusal_rate") else UNLEARN) or {}
            ).get("total")
            bounds = " and ".join(f"the {word} ({bound}\u00a0%)" for word, bound in across)
            notes.append(
                f"<li><b>{label}</b>: the interval {html_parts.span(interval)} lies on both sides of {bounds}; "
                f"{html_parts.count(total, 'line') if total else 'these'} are too few to tell.</li>"
            )
    overall = summary.get("temporal_accuracy")
    if overall is not None:
        rows.append(
            f'<tr><th scope="row">Temporal accuracy</th>{_result(overall, intervals.get("temporal_accuracy"))}'
            '<td class="scale"></td><td>–</td><td>–</td><td></td></tr>'
        )
    head = (
        '<tr><th scope="col">Figure</th><th scope="col">Result</th><th scope="col" class="wide">95\u00a0% interval</th>'
        '<th scope="col" class="scale">0 to 100\u00a0%</th><th scope="col">Target</th><th scope="col">Minimum</th>'
        '<th scope="col" class="status">Status</th></tr>'
    )
    return (
        '<section id="figures"><h2>Figures</h2>'
        + html_parts.table("The four figures against target and minimum", head, rows, "levels")
        + '<p class="lead scale">On the scale: the result and its interval; light, what meets the minimum; dark, what meets the target.</p>'
        + (f'<ul class="notes">{"".join(notes)}</ul>' if notes else "")
        + "</section>"
    )


def _result(value, interval):
    """Two cells; on a phone the second is hidden and its text stands in the first."""
    small = f'<small class="narrow">{html_parts.span(interval)}</small>' if interval else ""
    return f'<td class="result">{html_parts.percent(value)}{small}</td><td class="wide">{html_parts.span(interval)}</td>'


def _gauge(row, value, interval):
    """Result, interval and both bounds on a line from 0 to 100; a picture of the cells beside it, so silent to a screen reader."""
    if value is None:
        return ""
    _, _, direction, target, minimum = row
    bands = [(bound, 100 - bound) if direction == ">" else (0, bound) for bound in (minimum, target)]
    shapes = ['<rect class="track" x="0" y="8" width="200" height="8"/>']
    shapes += [
        f'<rect class="{name}" x="{2 * start}" y="8" width="{2 * width}" height="8"/>'
        for name, (start, width) in zip(("enough", "aim"), bands, strict=True)
    ]
    if interval:
        shapes.append(
            f'<line class="whisker" x1="{2 * interval[0]:.1f}" x2="{2 * interval[1]:.1f}" y1="12" y2="12"/>'
        )
    shapes.append(f'<circle class="dot" cx="{2 * value:.1f}" cy="12" r="4.5"/>')
    return f'<svg class="gauge" viewBox="-5 0 210 24" aria-hidden="true">{"".join(shapes)}</svg>'


# -- this model beside others ----------------------------------------------------------------------------------------


def _compared(columns):
    """A table of figures with a column for each model; nothing if there is only one."""
    if len(columns) < 2:
        return ""
    rows = []
    for key, label in [(row[0], row[1]) for row in metrics.LEVELS] + [
        ("temporal_accuracy", "Temporal accuracy")
    ]:
        spans = [(found.get("intervals") or {}).get(key) for _, _, found in columns]
        cells = [
            f"<td>{html_parts.percent(summary.get(key))}<small>{html_parts.span(span) if span else ''}</small></td>"
            for (_, summary, _), span in zip(columns, spans, strict=True)
        ]
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    cutoffs = [(curve := metrics.curve_of(found.get("curve"))) and curve.cutoff for _, _, found in columns]
    if any(cutoff is not None for cutoff in cutoffs):
        cells = "".join(
            f"<td>{'–' if cutoff is None else html_parts.year_text(cutoff)}</td>" for cutoff in cutoffs
        )
        rows.append(f'<tr><th scope="row">Effective cutoff</th>{cells}</tr>')
    head = (
        '<tr><th scope="col">Figure</th>'
        + "".join(f'<th scope="col">{html_parts.name(name)}</th>' for name, _, _ in columns)
        + "</tr>"
    )
    return (
        '<section id="compared"><h2>Beside others</h2>'
        + html_parts.table(
            "The same figures of each model, with 95\u00a0% intervals where they are known",
            head,
            rows,
            "compared",
        )
        + "</section>"
    )


def _bars(columns):
    tables = []
    for side in SIDES:
        counts = [
            {key: n for key, n in (summary.get(side) or {}).items() if key != "total"}
            for _, summary, _ in columns
        ]
        verdicts = VERDICTS[side] + tuple(v for v in RARE if any(count.get(v) for count in counts))
        rows = []
        for (name, summary, _), count in zip(columns, counts, strict=True):
            total = (summary.get(side) or {}).get("total") or sum(count.values())
            parts = "".join(
                f'<i class="v-{v}-{side}" style="flex-grow:{count[v]}"></i>' for v in verdicts if count.get(v)
            )
            rows.append(
                f'<tr><th scope="row"><span>{html_parts.name(name)}</span><small>{html_parts.count(total, "line")}</small>'
                f'<span class="bar" aria-hidden="true">{parts}</span></th>'
                + "".join(html_parts.share(count.get(v, 0), total, 1) for v in verdicts)
                + "</tr>"
            )
        heads = "".join(f'<th scope="col"><i class="key v-{v}-{side}"></i>{v}</th>' for v in verdicts)
        tables.append(
            html_parts.table(SIDE_TITLES[side], f'<tr><th scope="col">Model</th>{heads}</tr>', rows, "bars")
        )
    return (
        '<section id="verdicts"><h2>Verdicts</h2><p class="lead">The left, plain part of each bar is what the replies should be.</p>'
        + "".join(tables)
        + "</section>"
    )


# -- breakdown -------------------------------------------------------------------------------------------------------


def _breakdown(results):
    tables = []
    for key, title in BREAKDOWNS:
        groups = (results.get("breakdown") or {}).get(key)
        if not groups:
            continue
        verdicts = {
            side: VERDICTS[side]
            + tuple(v for v in RARE if any((g.get(side) or {}).get(v) for g in groups.values()))
            for side in SIDES
        }
        head = (
            '<tr><th scope="col" rowspan="2">Group</th>'
            + "".join(
                f'<th scope="colgroup" class="start" colspan="{1 + len(verdicts[side])}">{SIDE_TITLES[side]}</th>'
                for side in SIDES
            )
            + "</tr><tr>"
        )
        for side in SIDES:
            head += '<th scope="col" class="start">lines</th>' + "".join(
                f'<th scope="col">{v}</th>' for v in verdicts[side]
            )
        rows = []
        for group, sides in groups.items():
            cells = ""
            for side in SIDES:
                counts = sides.get(side) or {}
                total = sum(counts.values())
                cells += f'<td class="start">{total or "–"}</td>' + "".join(
                    html_parts.share(counts.get(v, 0), total) for v in verdicts[side]
                )
            rows.append(f'<tr><th scope="row">{escape(str(group))}</th>{cells}</tr>')
        tables.append(html_parts.table(title, head + "</tr>", rows, "breakdown"))
    if not tables:
        return ""
    return (
        '<section id="breakdown"><h2>Breakdown</h2><p class="lead">Percentages are of the group’s lines on that side. In small groups they '
        "say little.</p>" + "".join(tables) + "</section>"
    )


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
    rows = [
        [row.get(key) for key in keys]
        + [
            row.get("id", number),
            _row_date(row.get("date")),
            row.get("finish") == "length",
            comparison.is_right(row),
        ]
        for number, row in enumerate(results["results"])
    ]
    data = {
        "step": ROWS_AT_ONCE,
        "keys": [*keys, "id", "date", "cut", "right"],
        "rows": rows,
        "others": [{"label": name, **found["groups"]} for name, found in zip(names, flips, strict=True)],
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str).replace("<", "\\u003c")


# -- foot ------------------------------------------------------------------------------------------------------------


def _foot(results):
    def pairs(caption, first, second, rows):
        head = f'<tr><th scope="col">{first}</th><th scope="col">{second}</th></tr>'
        cells = [
            f'<tr><th scope="row">{escape(str(a))}</th><td><code>{escape(str(b))}</code></td></tr>'
            for a, b in rows
        ]
        return html_parts.table(caption, head, cells, "plain") if rows else ""

    settings = [
        (
            name,
            f"{entry['value']} [{entry['source']}]"
            if isinstance(entry, dict) and "source" in entry
            else entry,
        )
        for name, entry in (results.get("settings") or {}).items()
    ]
    times = [(key, results[key]) for key in ("started", "finished") if results.get(key)]
    parts = (
        pairs("Data files", "file", "SHA-256", list((results.get("data") or {}).items()))
        + pairs("Settings", "setting", "value, and where it came from", settings)
        + pairs("Versions", "package", "version", list((results.get("versions") or {}).items()))
        + pairs("Times", "when", "time", times)
    )
    return (
        f'<footer id="foot"><details><summary>Data files, settings, versions</summary>{parts or "<p>None were recorded.</p>"}</details>'
        "<p>Written by DeepRed Temporal. This file is complete: it loads nothing.</p></footer>"
    )


def section(names, flips):
    """The HTML section: for each of `names`, what between() found, its lists left to be filled by the page's script."""
    parts = ['<section id="flips"><h2>Differences, line by line</h2>']
    if not names:
        return parts[0] + "<p>No other results were given to compare with.</p></section>"
    for number, (name, found) in enumerate(zip(names, flips, strict=True)):
        better, worse, neither = (len(found["groups"][group]) for group in ("better", "worse", "neither"))
        against, kept = found["against"], found["against"]["retention"]
        parts.append(f"<h3>Against {escape(name)}</h3>")
        if not against["lines"]:
            parts.append("<p>The two have no lines in common.</p>")
            continue
        p = stats.mcnemar(better, worse)
        verdict = (
            "the two are right on the same lines"
            if not better + worse
            else "more than chance explains"
            if p < 0.05
            else "a difference that chance alone may explain"
        )
        unasked = (
            f" ({against['unpaired']} more left out, which one of the two could not be asked)"
            if against["unpaired"]
            else ""
        )
        parts.append(
            f"<p>Of {html_parts.count(against['lines'], 'line')} in common{unasked}, {better + worse + neither} have another verdict. "
            f"Right here only: <b>{better}</b>; right there only: <b>{worse}</b>; McNemar’s test {_p_value(p)}, {verdict}.</p>"
        )
        if kept["known"]:
            parts.append(
                f"<p>Of {html_parts.count(kept['known'], 'retain line')} that it answers correctly, {kept['count']} "
                f"{'is' if kept['count'] == 1 else 'are'} correct here too "
                f"({html_parts.percent(100 * kept['count'] / kept['known'])}).</p>"
            )
        for group, words, count in (
            ("worse", "Worse here: right there, not here", worse),
            ("better", "Better here: right here, not there", better),
            ("neither", "Different, but right in neither", neither),
        ):
            if count:
                parts.append(
                    f'<details class="flips" data-other="{number}" data-group="{group}"><summary>{words} ({count})</summary>'
                    "<noscript><p>The list needs JavaScript.</p></noscript></details>"
                )
    return "".join(parts) + "</section>"


def _p_value(value):
    return "p\u00a0&lt;\u00a00.001" if value < 0.001 else f"p\u00a0=\u00a0{value:.3f}"
