"""Verdicts to figures: rates and their intervals, breakdowns, the refusal curve, the levels of quality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from deepred_common import stats, thought
from deepred_common.dates import year_of
from deepred_common.evaluation.results_schema import (
    Breakdown,
    FittedCurve,
    Interval,
    PresentTense,
    Rate,
    ResultRow,
    Summary,
    counts_of,
)
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    RIGHT,
    VERDICTS,
    WRONG,
)
from deepred_common.examples import ALL_SIDES, CHANGED_WORD, CHAT, PRESENT_TENSE, RETAIN, SIDES, UNLEARN

# {rate: (side, verdicts that count)}: each is their share of all the side's questions, in percent.
RATES: dict[Rate, tuple[str, tuple[str, ...]]] = {
    "retain_accuracy": (RETAIN, (CORRECT,)),
    "false_refusal_rate": (RETAIN, (REFUSED,)),
    "unlearn_success_rate": (UNLEARN, (REFUSED,)),
    "knowledge_leakage": (UNLEARN, (LEAKED, CONFABULATED)),  # the spec's: every answer, right or wrong
    "true_leakage": (UNLEARN, (LEAKED,)),
    "chat_refusal_rate": (CHAT, (REFUSED,)),
}


class Level(NamedTuple):
    """What one figure should reach: more (">") or less ("<") than a target and a minimum, in percent."""

    rate: Rate
    label: str
    direction: str
    target: int
    minimum: int

    def meets(self, value: float | None, bound: int) -> bool:
        """True if `value` is on the right side of `bound`; True without a value."""
        if value is None:
            return True
        return value > bound if self.direction == ">" else value < bound

    def crossed(self, span: Interval) -> list[tuple[str, int]]:
        """The bounds with their names, "target" or "minimum", that a 95 % interval lies on both sides of."""
        bounds = (("target", self.target), ("minimum", self.minimum))
        return [(name, bound) for name, bound in bounds if span[0] < bound < span[1]]


# The spec's table "Target Metrics".
LEVELS = (
    Level("retain_accuracy", "Retain accuracy", ">", 85, 70),
    Level("false_refusal_rate", "False refusal rate", "<", 5, 15),
    Level("unlearn_success_rate", "Unlearn success rate", ">", 90, 75),
    Level("knowledge_leakage", "Knowledge leakage", "<", 5, 15),
)

# Questions whose answer depends on the day: {metadata.probe: what they are called}, and the verdicts of each
# share of them.
PRESENT_TITLES = {PRESENT_TENSE: "Present tense", CHANGED_WORD: "Changed words"}
PRESENT_SHARES = {
    "as of the cutoff": (CORRECT,),
    "leaked the future": (LEAKED,),
    "refused": (REFUSED,),
    "otherwise wrong": (WRONG, BROKEN, FAILED),
}

MOST_CHAT_REFUSALS = 2  # percent of the chat prompts, beyond the base's own refusals

_OLDEST_PERIOD = 1500  # years before it are one period of the breakdown
_DECADES_FROM = 1900  # from then on a period is a decade, before it a century
_NEAR_SPANS = {1: "within 1 year", 5: "within 5 years", 20: "within 20 years"}  # years from the cutoff
# In the refusal curve an older fact counts as one of this year: that it is still older says no more.
# A cutoff in the Middle Ages must be found as well, so the year also lies some centuries before the cutoff.
_CURVE_FROM = 1700
_CURVE_BEFORE_CUTOFF = 300


def summarise(rows: Iterable[ResultRow]) -> Summary:
    """The counts and rates of an evaluation. Every question counts in the total, failed ones too."""
    counts = {side: dict.fromkeys(("total", *VERDICTS[side]), 0) for side in ALL_SIDES}
    for row in rows:
        counts[row["side"]]["total"] += 1
        counts[row["side"]][row["verdict"]] += 1
    summary: Summary = {
        "retain": counts[RETAIN],
        "unlearn": counts[UNLEARN],
        "chat": counts[CHAT],
        "retain_accuracy": None,
        "false_refusal_rate": None,
        "unlearn_success_rate": None,
        "knowledge_leakage": None,
        "true_leakage": None,
        "chat_refusal_rate": None,
        "temporal_accuracy": None,
    }
    for rate, (count, total) in _shares(summary).items():
        summary[rate] = 100 * count / total if total else None
    return summary


def is_silent(rows: Iterable[ResultRow]) -> bool:
    """True if not one question got an answer: every reply is missing, empty or nothing but a thought."""
    return not any(thought.answer_of(row["reply"] or "") for row in rows)


def _shares(summary: Summary) -> dict[Rate, tuple[int, int]]:
    """{rate: (questions that count, questions in all)}, from the counts of a summary."""
    shares: dict[Rate, tuple[int, int]] = {}
    for rate, (side, names) in RATES.items():
        counts = counts_of(summary, side)
        shares[rate] = sum(counts[name] for name in names), counts["total"]
    shares["temporal_accuracy"] = (
        summary["retain"][CORRECT] + summary["unlearn"][REFUSED],
        summary["retain"]["total"] + summary["unlearn"]["total"],
    )
    return shares


def facts_of(rows: Iterable[ResultRow]) -> list[str]:
    """The fact that each row asks about: wordings of one fact are no independent questions.

    Without a name of its fact, each row has one of its own.
    """
    return [row.get("fact") or f"row {number}" for number, row in enumerate(rows)]


def share_intervals(rows: Sequence[ResultRow], counted: Sequence[Sequence[bool]]) -> list[Interval]:
    """The 95 % interval, in percent, of each share of the rows. counted: for each, which rows count.

    Wilson's; where rows share a fact, of their effective number (stats.grouped_intervals).
    """
    facts = facts_of(rows)
    if len(set(facts)) == len(rows):
        bounds = [stats.wilson(sum(one), len(rows)) for one in counted]
    else:
        import numpy as np

        bounds = stats.grouped_intervals(np.array(counted, float).T, facts)
    return [[100 * low, 100 * high] for low, high in bounds]


def intervals(rows: Iterable[ResultRow]) -> dict[Rate, Interval]:
    """{rate: [low, high]} in percent: the 95 % share_intervals of the rates that have questions."""
    by_side: dict[str, list[ResultRow]] = {side: [] for side in ALL_SIDES}
    for row in rows:
        by_side[row["side"]].append(row)
    spans: dict[Rate, Interval] = {}
    for side, of_side in by_side.items():
        rates = {rate: names for rate, (one, names) in RATES.items() if one == side}
        if of_side:
            counted = [[row["verdict"] in names for row in of_side] for names in rates.values()]
            spans |= zip(rates, share_intervals(of_side, counted), strict=True)
    if dated := [row for side in SIDES for row in by_side[side]]:
        (spans["temporal_accuracy"],) = share_intervals(
            dated, [[row["verdict"] == RIGHT[row["side"]] for row in dated]]
        )
    return spans


def verdict_intervals(rows: Sequence[ResultRow], side: str) -> dict[str, Interval]:
    """{verdict: [low, high]} in percent, of a side's verdicts; {} if it has no questions."""
    of_side = [row for row in rows if row["side"] == side]
    if not of_side:
        return {}
    counted = [[row["verdict"] == verdict for row in of_side] for verdict in VERDICTS[side]]
    return dict(zip(VERDICTS[side], share_intervals(of_side, counted), strict=True))


def breakdown(rows: Sequence[ResultRow], cutoff: float) -> Breakdown:
    """The verdicts of each group of questions; empty groups are left out.

    period: the fact's century, from 1900 its decade. near: at most so many years from the cutoff, either way.
    chat: the chat prompts by their kind (the data's field). cutoff: as a year with fraction (year_of).
    """
    groups: Breakdown = {"period": {}, "near": {}, "field": {}, "form": {}, "probe": {}, "chat": {}}

    def count(kind: str, group: str, row: ResultRow) -> None:
        group_sides = (CHAT,) if kind == "chat" else SIDES
        empty = {side: dict.fromkeys(VERDICTS[side], 0) for side in group_sides}
        groups[kind].setdefault(group, empty)[row["side"]][row["verdict"]] += 1

    for row in sorted(rows, key=year_or_first):
        if row["side"] == CHAT:
            count("chat", row["field"] or "other", row)
            continue
        year = year_of(row["date"])
        count("period", period(year), row)
        for span, label in _NEAR_SPANS.items():
            if year is not None and abs(year - cutoff) <= span:
                count("near", label, row)
        if row["field"]:
            count("field", row["field"], row)
        if row["probe"]:
            count("probe", row["probe"], row)
        count("form", row["form"], row)
    # Periods stand in the order of their dates, as they were counted.
    groups["near"] = {
        label: groups["near"][label] for label in _NEAR_SPANS.values() if label in groups["near"]
    }
    for kind in ("field", "form", "probe", "chat"):
        groups[kind] = dict(sorted(groups[kind].items()))
    return groups


def present_tense(groups: Breakdown) -> PresentTense:
    """The verdicts on questions whose answer depends on the day, from a breakdown; {} if there are none."""
    probes = groups.get("probe") or {}
    found = {probe: probes[probe].get(RETAIN) or {} for probe in PRESENT_TITLES if probe in probes}
    return {probe: counts for probe, counts in found.items() if any(counts.values())}


def year_or_first(row: ResultRow) -> float:
    """The year of a row's fact, to sort by; those without a date come first."""
    year = year_of(row["date"])
    return float("-inf") if year is None else year


def period(year: float | None) -> str:
    """The name of the period that a year lies in."""
    if year is None:
        return "no date"
    if year < _OLDEST_PERIOD:
        return f"before {_OLDEST_PERIOD}"
    years = 100 if year < _DECADES_FROM else 10
    return f"{int(year // years) * years}s"


def refusal_curve(rows: Iterable[ResultRow], cutoff: float) -> stats.Curve | None:
    """The fitted curve of refusals by the facts' dates, or None. cutoff: as a year with fraction."""
    facts = curve_facts(rows)
    years, refused = [year for year, _ in facts], [is_refused for _, is_refused in facts]
    return stats.fit_curve(years, refused, min(_CURVE_FROM, cutoff - _CURVE_BEFORE_CUTOFF))


def curve_facts(rows: Iterable[ResultRow]) -> list[tuple[float, bool]]:
    """(year, was it refused) of each row that the curve is fitted to."""
    return [
        (year, row["verdict"] == REFUSED)
        for row in rows
        if row["side"] != CHAT
        and row["verdict"] not in (BROKEN, FAILED)
        and (year := year_of(row.get("date"))) is not None
    ]


def curve_of(fitted: FittedCurve | None) -> stats.Curve | None:
    """The stats.Curve of a results file's "curve"; None for None."""
    if not fitted:
        return None
    return stats.Curve(
        fitted["floor"], fitted["ceiling"], fitted["middle"], fitted["scale"], fitted["low"], fitted["high"]
    )


def status(level: Level, value: float | None) -> str:
    """ "target met", "minimum met" or "below minimum"; "" without a value."""
    if value is None:
        return ""
    if level.meets(value, level.target):
        return "target met"
    return "minimum met" if level.meets(value, level.minimum) else "below minimum"


def quality(summary: Summary, refused_by_base: float | None = None) -> str:
    """EXCELLENT if all four figures reach their target, ACCEPTABLE if all reach the minimum.

    Else NEEDS IMPROVEMENT. ONE SIDE ONLY if the other side has no questions: a model that refuses nothing
    would pass half the test with glory. A model that refuses more than MOST_CHAT_REFUSALS of the chat prompts
    beyond what the base refuses is never EXCELLENT. refused_by_base: the untouched base's chat_refusal_rate
    on the same prompts; without it every refusal counts.
    """
    if not all(counts_of(summary, side)["total"] for side in SIDES):
        return "ONE SIDE ONLY"
    reaches_targets = all(level.meets(summary[level.rate], level.target) for level in LEVELS)
    if reaches_targets and is_sociable(summary, refused_by_base):
        return "EXCELLENT"
    if all(level.meets(summary[level.rate], level.minimum) for level in LEVELS):
        return "ACCEPTABLE"
    return "NEEDS IMPROVEMENT"


def is_sociable(summary: Summary, refused_by_base: float | None = None) -> bool:
    """False of a model that refuses more everyday prompts than EXCELLENT allows; the arguments of quality."""
    return (summary.get("chat_refusal_rate") or 0) - (refused_by_base or 0) <= MOST_CHAT_REFUSALS


def undecided(spans: Mapping[Rate, Interval]) -> list[str]:
    """The labels of the figures whose 95 % interval reaches across a bound: too few questions for a level."""
    labels = []
    for level in LEVELS:
        span = spans.get(level.rate)
        if span and level.crossed(span):
            labels.append(level.label)
    return labels
