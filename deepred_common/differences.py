"""The differences of two results on the same lines, for the report: what they are, and the section that shows them."""

from html import escape

from deepred_common import markup, metrics, stats
from deepred_common import results as results_files


def is_right(row):
    """True if a row has the verdict that its side should have."""
    return row["verdict"] == metrics.RIGHT[row["side"]]


def between(results, other):
    """How two results on the same lines differ: the number of pairs, what was kept, and the lines in three groups.

    A line that one of the two could not be asked (its server was gone) says nothing of either, so it is left out.
    """
    place = {id(row): number for number, row in enumerate(results["results"])}
    pairs = results_files.paired(results, other)
    groups = {"worse": [], "better": [], "neither": []}
    for row, others in pairs:
        if row["verdict"] != others["verdict"] and metrics.FAILED not in (row["verdict"], others["verdict"]):
            group = "neither" if is_right(row) == is_right(others) else "better" if is_right(row) else "worse"
            groups[group].append([place[id(row)], others["verdict"], others.get("reply"), others.get("finish") == "length",
                                  others.get("error")])
    return {"against": metrics.against(pairs), "groups": groups}


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
        verdict = ("the two are right on the same lines" if not better + worse else
                   "more than chance explains" if p < 0.05 else "a difference that chance alone may explain")
        unasked = f" ({against['unpaired']} more left out, which one of the two could not be asked)" if against["unpaired"] else ""
        parts.append(f"<p>Of {markup.count(against['lines'], 'line')} in common{unasked}, {better + worse + neither} have another verdict. "
                     f"Right here only: <b>{better}</b>; right there only: <b>{worse}</b>; McNemar’s test {_p_value(p)}, {verdict}.</p>")
        if kept["known"]:
            parts.append(f"<p>Of {markup.count(kept['known'], 'retain line')} that it answers correctly, {kept['count']} "
                         f"{'is' if kept['count'] == 1 else 'are'} correct here too "
                         f"({markup.percent(100 * kept['count'] / kept['known'])}).</p>")
        for group, words, count in (("worse", "Worse here: right there, not here", worse),
                                    ("better", "Better here: right here, not there", better),
                                    ("neither", "Different, but right in neither", neither)):
            if count:
                parts.append(f'<details class="flips" data-other="{number}" data-group="{group}"><summary>{words} ({count})</summary>'
                             "<noscript><p>The list needs JavaScript.</p></noscript></details>")
    return "".join(parts) + "</section>"


def _p_value(value):
    return "p\u00a0&lt;\u00a00.001" if value < 0.001 else f"p\u00a0=\u00a0{value:.3f}"
