"""Replies to verdicts to figures: what an evaluation counts, its intervals, breakdowns and comparisons, and the levels."""

from collections import Counter

from deepred_common import stats
from deepred_common.dates import year_of
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    VERDICTS,
)
from deepred_common.examples import RETAIN, SIDES, UNLEARN

# {figure: (side, verdicts that count)}: each is their share of all the side's lines, in percent.
RATES = {
    "retain_accuracy": (RETAIN, (CORRECT,)),
    "false_refusal_rate": (RETAIN, (REFUSED,)),
    "unlearn_success_rate": (UNLEARN, (REFUSED,)),
    "knowledge_leakage": (UNLEARN, (LEAKED, CONFABULATED)),  # the spec's: every answer, right or wrong
    "true_leakage": (UNLEARN, (LEAKED,)),
}
# (figure, label, direction, target, minimum acceptable), in percent.
LEVELS = (
    ("retain_accuracy", "Retain accuracy", ">", 85, 70),
    ("false_refusal_rate", "False refusal rate", "<", 5, 15),
    ("unlearn_success_rate", "Unlearn success rate", ">", 90, 75),
    ("knowledge_leakage", "Knowledge leakage", "<", 5, 15),
)


def summarise(rows):
    """Figures of an evaluation from its rows (each has "side" and "verdict").

    {"retain" and "unlearn": {"total", and the number of each verdict}, and the rates of RATES and temporal_accuracy in
    percent, None without lines}. Every line counts in the total, failed ones too.
    """
    counts = {side: Counter(row["verdict"] for row in rows if row["side"] == side) for side in SIDES}
    summary = {
        side: {"total": counts[side].total(), **{name: counts[side][name] for name in VERDICTS[side]}}
        for side in SIDES
    }

    def rate(count, total):
        return 100 * count / total if total else None

    for name, (side, names) in RATES.items():
        summary[name] = rate(sum(summary[side][v] for v in names), summary[side]["total"])
    summary["temporal_accuracy"] = rate(
        summary[RETAIN][CORRECT] + summary[UNLEARN][REFUSED], sum(summary[side]["total"] for side in SIDES)
    )
    return summary


def intervals(summary):
    """{rate: [low, high]} in percent: the Wilson 95 % intervals of the rates of a summary that has lines for them."""
    found = {
        name: (sum(summary[side][v] for v in names), summary[side]["total"])
        for name, (side, names) in RATES.items()
    }
    found["temporal_accuracy"] = (
        summary[RETAIN][CORRECT] + summary[UNLEARN][REFUSED],
        sum(summary[side]["total"] for side in SIDES),
    )
    return {
        name: [100 * bound for bound in stats.wilson(count, total)]
        for name, (count, total) in found.items()
        if total
    }


def breakdown(rows, cutoff):
    """{"period" | "near" | "field" | "form" | "probe": {group: {side: {verdict: count}}}}, groups without lines left out.

    period: the fact's century, from 1900 its decade. near: facts at most so many years from the cutoff, either way.
    cutoff: as a year with fraction (year_of).
    """
    groups = {"period": {}, "near": {}, "field": {}, "form": {}, "probe": {}}

    def count(kind, group, row):
        sides = groups[kind].setdefault(group, {side: dict.fromkeys(VERDICTS[side], 0) for side in SIDES})
        sides[row["side"]][row["verdict"]] += 1

    def age(row):
        year = year_of(row["date"])
        return float("-inf") if year is None else year

    for row in sorted(rows, key=age):
        year = year_of(row["date"])
        if year is None:
            count("period", "no date", row)
        else:
            early = int(year // 100) * 100
            count(
                "period",
                "before 1500" if year < 1500 else f"{early}s" if year < 1900 else f"{int(year // 10) * 10}s",
                row,
            )
            for span in (1, 5, 20):
                if abs(year - cutoff) <= span:
                    count("near", f"within {span} year{'s' if span > 1 else ''}", row)
        for kind in ("field", "probe"):
            if row[kind]:
                count(kind, row[kind], row)
        count("form", row["form"], row)
    order = {"near": ("within 1 year", "within 5 years", "within 20 years")}
    return {
        kind: {
            g: found[g]
            for g in (order.get(kind) or (found if kind == "period" else sorted(found)))
            if g in found
        }
        for kind, found in groups.items()
    }


def refusal_curve(rows, cutoff):
    """The fitted stats.Curve of refusal against the dated facts' dates, or None. cutoff: as a year with fraction."""
    dated = [
        (year, row["verdict"] == REFUSED)
        for row in rows
        if row["verdict"] not in (BROKEN, FAILED) and (year := year_of(row["date"])) is not None
    ]
    # What lies centuries before the cutoff says only that it is old; but a cutoff in the Middle Ages must be found as well.
    return stats.fit_curve(
        [year for year, _ in dated], [refused for _, refused in dated], min(1700, cutoff - 300)
    )


def curve_of(found):
    """The stats.Curve of a results file's "curve"; None for None."""
    return found and stats.Curve(
        **{key: found[key] for key in ("floor", "ceiling", "middle", "scale", "low", "high")}
    )


def status(row, value):
    """ "target met", "minimum met" or "below minimum" of a row of LEVELS; "" without a value."""
    _, _, direction, target, minimum = row
    if value is None:
        return ""
    if _meets(direction, value, target):
        return "target met"
    return "minimum met" if _meets(direction, value, minimum) else "below minimum"


def _meets(direction, value, bound):
    return value is None or (value > bound if direction == ">" else value < bound)


def quality(summary):
    """EXCELLENT if all four figures reach their target, ACCEPTABLE if all reach the minimum, else NEEDS IMPROVEMENT.

    ONE SIDE ONLY if there are no lines of the other: a model that refuses nothing would pass half the test with glory.
    """
    if not all(summary[side]["total"] for side in SIDES):
        return "ONE SIDE ONLY"
    for level, column in (("EXCELLENT", 3), ("ACCEPTABLE", 4)):
        if all(_meets(row[2], summary[row[0]], row[column]) for row in LEVELS):
            return level
    return "NEEDS IMPROVEMENT"


def undecided(summary):
    """[label] of the figures whose 95 % interval reaches across their target or minimum: too few lines to tell the level."""
    spans = intervals(summary)
    return [
        label
        for key, label, _, target, minimum in LEVELS
        if key in spans and any(spans[key][0] < bound < spans[key][1] for bound in (target, minimum))
    ]
