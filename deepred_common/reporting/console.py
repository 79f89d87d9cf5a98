"""The printed page of an evaluation: the results block, the finer table, nearness to the cutoff, and models side by side, as text."""

from deepred_common import stats
from deepred_common.evaluation import metrics
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    VERDICTS,
    WRONG,
)
from deepred_common.examples import RETAIN, SIDES, UNLEARN

RULE = "=" * 60
THIN_RULE = "-" * 40
_QUALITY_LINES = {
    "EXCELLENT": "✅ EXCELLENT - Model meets target metrics!",
    "ACCEPTABLE": "⚠️  ACCEPTABLE - Model meets minimum requirements",
    "ONE SIDE ONLY": "➖ ONE SIDE ONLY - No level without lines of both sides",
    "NEEDS IMPROVEMENT": "❌ NEEDS IMPROVEMENT - Below minimum requirements",
}


def results_block(summary):
    """The printed block of an evaluation, as text."""

    def share(label, side, *keys):
        count, total = sum(summary[side][key] for key in keys), summary[side]["total"]
        return f"  {label}: {count} ({100 * count / total:.1f}%)" if total else f"  {label}: 0"

    lines = [RULE, "EVALUATION RESULTS", RULE, ""]
    lines += [
        "📚 RETAIN (Pre-cutoff Knowledge)",
        THIN_RULE,
        f"  Total questions: {summary['retain']['total']}",
        share("Answered correctly", "retain", CORRECT),
        share("False refusals", "retain", REFUSED),
        share("Answered wrongly", "retain", WRONG),
    ]
    if summary["retain"][BROKEN]:
        lines.append(share("Empty or broken", "retain", BROKEN))
    if summary["retain"][FAILED]:
        lines.append(share("Failed (no reply)", "retain", FAILED))
    lines += [
        "",
        "🚫 UNLEARN (Post-cutoff Knowledge)",
        THIN_RULE,
        f"  Total questions: {summary['unlearn']['total']}",
        share("Correctly refused", "unlearn", REFUSED),
        share("Knowledge leaked", "unlearn", LEAKED, CONFABULATED),
    ]
    if summary["unlearn"][BROKEN]:
        lines.append(share("Neither (empty or broken)", "unlearn", BROKEN))
    if summary["unlearn"][FAILED]:
        lines.append(share("Failed (no reply)", "unlearn", FAILED))
    accuracy = summary["temporal_accuracy"]
    lines += [
        "",
        "📊 OVERALL",
        THIN_RULE,
        f"  Temporal accuracy: {accuracy:.1f}%",
        "",
        "🎯 QUALITY ASSESSMENT",
        THIN_RULE,
        f"  {_QUALITY_LINES[metrics.quality(summary)]}",
        "",
    ]
    lines.append(f"  {'Metric':<22}{'Result':>8}{'Target':>10}{'Minimum':>10}")
    for row in metrics.LEVELS:
        key, label, direction, target, minimum = row
        value = summary[key]
        shown = "-" if value is None else f"{value:.1f}%"
        lines.append(
            f"  {label:<22}{shown:>8}{f'{direction} {target}%':>10}{f'{direction} {minimum}%':>10}  {metrics.status(row, value)}"
        )
    return "\n".join(lines)


def details_block(summary, curve=None):
    """The finer table that follows the results block: every verdict with its interval, and the effective cutoff."""
    labels = {
        (RETAIN, CORRECT): "answered correctly",
        (RETAIN, WRONG): "answered wrongly",
        (RETAIN, REFUSED): "refused",
        (UNLEARN, REFUSED): "refused",
        (UNLEARN, LEAKED): "true answer leaked",
        (UNLEARN, CONFABULATED): "answered, but wrongly",
        (RETAIN, BROKEN): "empty or broken",
        (UNLEARN, BROKEN): "empty or broken",
        (RETAIN, FAILED): "failed",
        (UNLEARN, FAILED): "failed",
    }
    lines = ["🔎 IN DETAIL", THIN_RULE, f"  {'':<30}{'lines':>6}{'rate':>9}   95 % interval"]
    for side in SIDES:
        total = summary[side]["total"]
        for name in VERDICTS[side]:
            count = summary[side][name]
            if total and (count or name not in (BROKEN, FAILED)):
                low, high = (100 * bound for bound in stats.wilson(count, total))
                lines.append(
                    f"  {side:<8}{labels[side, name]:<22}{count:>6}{100 * count / total:>8.1f}%   {low:.1f} - {high:.1f}%"
                )
    unsure = metrics.undecided(summary)
    if unsure:
        lines += [
            "",
            f"  Too few lines to be sure of the level: the interval of {', '.join(unsure).lower()}",
            "  reaches across a bound.",
        ]
    if curve:
        lines += ["", "  " + curve_line(curve)]
    return "\n".join(lines)


def curve_line(curve):
    """One line about a fitted Curve."""
    if curve.cutoff is None:
        return f"Effective cutoff: none; refusals climb from {100 * curve.floor:.0f}% to {100 * curve.ceiling:.0f}% and never cross one half."
    span = f"{'?' if curve.low is None else f'{curve.low:.0f}'} - {'?' if curve.high is None else f'{curve.high:.0f}'}"
    return (
        f"Effective cutoff: {curve.cutoff:.1f} (95 % {span}); refusals climb from {100 * curve.floor:.0f}% to {100 * curve.ceiling:.0f}%, "
        f"most of it within {curve.width:.1f} years"
    )


def comparison_block(columns):
    """A table of this model beside others: columns is [(label, summary, against or None)], this model first."""

    def percent(value):
        return "-" if value is None else f"{value:.1f}%"

    def share(found):
        return f"{100 * found['count'] / found['known']:.1f}%" if found["known"] else "-"

    # The paired figures are this model's, measured on what the model of the column knew.
    rows = [
        (label, [percent(summary[key]) for _, summary, _ in columns]) for key, label, *_ in metrics.LEVELS
    ]
    rows.insert(4, ("True answer leaked", [percent(summary["true_leakage"]) for _, summary, _ in columns]))
    paired = [found for _, _, found in columns]
    rows += [
        ("This keeps of its right answers", ["" if f is None else share(f["retention"]) for f in paired]),
        (
            "This leaks of what it leaked",
            ["" if f is None else share(f["known_fact_leakage"]) for f in paired],
        ),
    ]
    rows += [
        (f"McNemar p, {side}", ["" if f is None else f"{f[side]['mcnemar']:.3g}" for f in paired])
        for side in SIDES
    ]
    width = [max(14, len(label) + 2) for label, *_ in columns]
    lines = [
        "⚖️  BESIDE OTHERS",
        THIN_RULE,
        f"  {'':<32}" + "".join(f"{label:>{w}}" for (label, *_), w in zip(columns, width, strict=True)),
    ]
    lines += [
        f"  {label:<32}" + "".join(f"{cell:>{w}}" for cell, w in zip(cells, width, strict=True))
        for label, cells in rows
    ]
    return "\n".join(lines)


def near_lines(found):
    """Over-refusal before the cutoff and answers after it, close to it, as text; "" if no fact lies near."""
    lines = []
    for group, sides in found["near"].items():
        cells = []
        for side, names, what in (
            (RETAIN, (REFUSED,), "refused before"),
            (UNLEARN, (LEAKED, CONFABULATED), "answered after"),
        ):
            total, count = sum(sides[side].values()), sum(sides[side][name] for name in names)
            if total:
                cells.append(f"{count} of {total} {what} ({100 * count / total:.0f}%)")
        lines.append(f"  {group:<16}{', '.join(cells)}")
    return "\n".join(["  Near the cutoff:", *lines]) if lines else ""


def probe_lines(found):
    """How each way of asking about the facts (metadata.probe) fared on both sides, as text; "" if the data name none."""
    if not found["probe"]:
        return ""
    lines = [
        f"  {'':<20}{'before the cutoff':>28}{'after it':>28}",
        f"  {'By probe:':<20}"
        + f"{'lines':>8}{'correct':>10}{'refused':>10}"
        + f"{'lines':>8}{'refused':>10}{'answered':>10}",
    ]
    for probe, sides in found["probe"].items():
        cells = ""
        for side, shown in (
            (RETAIN, ((CORRECT,), (REFUSED,))),
            (UNLEARN, ((REFUSED,), (LEAKED, CONFABULATED))),
        ):
            total = sum(sides[side].values())
            shares = [
                f"{100 * sum(sides[side][name] for name in names) / total:.0f}%" if total else "-"
                for names in shown
            ]
            cells += f"{total:>8}" + "".join(f"{share:>10}" for share in shares)
        lines.append(f"  {probe:<20}{cells}")
    return "\n".join(lines)
