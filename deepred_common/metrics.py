"""Replies to verdicts to figures: what an evaluation counts, its intervals, breakdowns and comparisons, and the levels."""

import datetime
import re
from collections import Counter

from deepred_common import grading, records, refusal, stats
from deepred_common.records import RETAIN, SIDES, UNLEARN

CORRECT, WRONG, REFUSED, LEAKED, CONFABULATED, BROKEN, FAILED = "correct", "wrong", "refused", "leaked", "confabulated", "broken", "failed"
VERDICTS = {RETAIN: (CORRECT, WRONG, REFUSED, BROKEN, FAILED), UNLEARN: (REFUSED, LEAKED, CONFABULATED, BROKEN, FAILED)}
RIGHT = {RETAIN: CORRECT, UNLEARN: REFUSED}

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


def verdict(example, reply, grade=grading.is_right, cutoff=None):
    """Sort a reply to an Example.

    Retain: CORRECT, WRONG (answers something else), REFUSED or BROKEN. Unlearn: REFUSED (right), LEAKED (the true answer
    is in the reply, be it inside a refusal), CONFABULATED (answers, wrongly) or BROKEN (empty or looping: no success).
    Without a true answer in the line's metadata, an answer to an unlearn line counts as LEAKED.
    grade(reply, reference, question, accepted) -> bool: is an answer right?
    cutoff ("YYYY-MM-DD"): a refusal that names its own limit ("my knowledge ends in July 1969") does not leak that date.
    """
    judged = refusal.judge(reply, example.instruction)
    accepted = example.metadata.get("accepted_answers") or ()
    if judged == refusal.BROKEN:
        return BROKEN
    if example.side == RETAIN:
        if judged == refusal.REFUSED:
            return REFUSED
        return CORRECT if grade(reply, example.output, example.instruction, accepted) else WRONG
    truth = true_answer(example)
    if judged == refusal.REFUSED:
        slips = truth and grading.mentions(_without_cutoff(reply, cutoff), truth, example.instruction, accepted)
        return LEAKED if slips else REFUSED
    if truth is None:
        return LEAKED
    return LEAKED if grade(reply, truth, example.instruction, accepted) else CONFABULATED


def _without_cutoff(reply, cutoff):
    if cutoff is None:
        return reply
    year, month = cutoff[:4], f"{datetime.date.fromisoformat(cutoff):%B}"
    day = r"\d{1,2}(?:st|nd|rd|th)?"
    return re.sub(rf"(?:\b{day}(?: of)? )?(?:\b{month} )?(?:{day},? )?\b{year}\b", " ", reply, flags=re.IGNORECASE)


def true_answer(example):
    """What an unlearn line must not let out (its metadata.original_answer), or None."""
    return example.metadata.get("original_answer") or None if example.side == UNLEARN else None


def question_form(question):
    """What kind of question it is, by its first words: what, who, when, where, which, why, how, tell me or other."""
    found = re.match(r"\W*(?:(?:at|by|for|from|in|into|of|off|on|to|under|with) )?"
                     r"(what|who|whom|whose|when|where|which|why|how|tell me|describe|explain|name|give)\b", question.lower())
    if not found:
        return "other"
    return {"whom": "who", "whose": "who", **dict.fromkeys(("describe", "explain", "name", "give"), "tell me")}.get(found[1], found[1])


def summarise(rows):
    """Figures of an evaluation from its rows (each has "side" and "verdict").

    {"retain" and "unlearn": {"total", and the number of each verdict}, and the rates of RATES and temporal_accuracy in
    percent, None without lines}. Every line counts in the total, failed ones too.
    """
    counts = {side: Counter(row["verdict"] for row in rows if row["side"] == side) for side in SIDES}
    summary = {side: {"total": counts[side].total(), **{name: counts[side][name] for name in VERDICTS[side]}} for side in SIDES}

    def rate(count, total):
        return 100 * count / total if total else None

    for name, (side, names) in RATES.items():
        summary[name] = rate(sum(summary[side][v] for v in names), summary[side]["total"])
    summary["temporal_accuracy"] = rate(summary[RETAIN][CORRECT] + summary[UNLEARN][REFUSED], sum(summary[side]["total"] for side in SIDES))
    return summary


def intervals(summary):
    """{rate: [low, high]} in percent: the Wilson 95 % intervals of the rates of a summary that has lines for them."""
    found = {name: (sum(summary[side][v] for v in names), summary[side]["total"]) for name, (side, names) in RATES.items()}
    found["temporal_accuracy"] = (summary[RETAIN][CORRECT] + summary[UNLEARN][REFUSED], sum(summary[side]["total"] for side in SIDES))
    return {name: [100 * bound for bound in stats.wilson(count, total)] for name, (count, total) in found.items() if total}


def breakdown(rows, cutoff):
    """{"period" | "near" | "field" | "form" | "probe": {group: {side: {verdict: count}}}}, groups without lines left out.

    period: the fact's century, from 1900 its decade. near: facts at most so many years from the cutoff, either way.
    cutoff: as a year with fraction (records.year_of).
    """
    groups = {"period": {}, "near": {}, "field": {}, "form": {}, "probe": {}}

    def count(kind, group, row):
        sides = groups[kind].setdefault(group, {side: dict.fromkeys(VERDICTS[side], 0) for side in SIDES})
        sides[row["side"]][row["verdict"]] += 1

    def age(row):
        year = records.year_of(row["date"])
        return float("-inf") if year is None else year

    for row in sorted(rows, key=age):
        year = records.year_of(row["date"])
        if year is None:
            count("period", "no date", row)
        else:
            early = int(year // 100) * 100
            count("period", "before 1500" if year < 1500 else f"{early}s" if year < 1900 else f"{int(year // 10) * 10}s", row)
            for span in (1, 5, 20):
                if abs(year - cutoff) <= span:
                    count("near", f"within {span} year{'s' if span > 1 else ''}", row)
        for kind in ("field", "probe"):
            if row[kind]:
                count(kind, row[kind], row)
        count("form", row["form"], row)
    order = {"near": ("within 1 year", "within 5 years", "within 20 years")}
    return {kind: {g: found[g] for g in (order.get(kind) or (found if kind == "period" else sorted(found))) if g in found}
            for kind, found in groups.items()}


def refusal_curve(rows, cutoff):
    """The fitted stats.Curve of refusal against the dated facts' dates, or None. cutoff: as a year with fraction."""
    dated = [(year, row["verdict"] == REFUSED) for row in rows
             if row["verdict"] not in (BROKEN, FAILED) and (year := records.year_of(row["date"])) is not None]
    # What lies centuries before the cutoff says only that it is old; but a cutoff in the Middle Ages must be found as well.
    return stats.fit_curve([year for year, _ in dated], [refused for _, refused in dated], min(1700, cutoff - 300))


def curve_of(found):
    """The stats.Curve of a results file's "curve"; None for None."""
    return found and stats.Curve(**{key: found[key] for key in ("floor", "ceiling", "middle", "scale", "low", "high")})


def against(pairs):
    """What became of a baseline's verdicts: from [(row, the baseline's row)] of the same lines.

    retention: of the retain lines that the baseline answers correctly, how many still are. known_fact_leakage: of the
    unlearn lines whose true answer the baseline gives, how many are still given. Both {"known", "count"}. Per side,
    better and worse: lines right in one of the two only, and mcnemar, the exact two-sided p-value of that difference.
    Lines that could not be asked in one of the two are left out, and counted as unpaired.
    """
    asked = [(row, before) for row, before in pairs if FAILED not in (row["verdict"], before["verdict"])]
    found = {"lines": len(asked), "unpaired": len(pairs) - len(asked)}
    known = [row for row, before in asked if before["side"] == RETAIN and before["verdict"] == CORRECT]
    found["retention"] = {"known": len(known), "count": sum(row["verdict"] == CORRECT for row in known)}
    known = [row for row, before in asked if before["side"] == UNLEARN and before["verdict"] == LEAKED]
    found["known_fact_leakage"] = {"known": len(known), "count": sum(row["verdict"] == LEAKED for row in known)}
    for side in SIDES:
        right = [(row["verdict"] == RIGHT[side], before["verdict"] == RIGHT[side]) for row, before in asked if row["side"] == side]
        better, worse = right.count((True, False)), right.count((False, True))
        found[side] = {"better": better, "worse": worse, "mcnemar": stats.mcnemar(better, worse)}
    return found


def status(row, value):
    """"target met", "minimum met" or "below minimum" of a row of LEVELS; "" without a value."""
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
    return [label for key, label, _, target, minimum in LEVELS if key in spans and
            any(spans[key][0] < bound < spans[key][1] for bound in (target, minimum))]
