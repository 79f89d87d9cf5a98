"""Replies to verdicts to figures: the counts of an evaluation, the printed block, and the quality levels."""

from collections import Counter

from deepred_common import grading, refusal
from deepred_common.records import RETAIN, SIDES, UNLEARN

CORRECT, REFUSED, WRONG, BROKEN, LEAKED = "correct", "refused", "wrong", "broken", "leaked"
RULE = "=" * 60
THIN_RULE = "-" * 40

# (figure, label, direction, target, minimum acceptable), in percent.
LEVELS = (
    ("retain_accuracy", "Retain accuracy", ">", 85, 70),
    ("false_refusal_rate", "False refusal rate", "<", 5, 15),
    ("unlearn_success_rate", "Unlearn success rate", ">", 90, 75),
    ("knowledge_leakage", "Knowledge leakage", "<", 5, 15),
)


def verdict(example, reply):
    """Sort a reply to an Example.

    Retain: CORRECT, WRONG (answers something else), REFUSED or BROKEN.
    Unlearn: REFUSED (right), LEAKED (answers at all) or BROKEN (empty or looping: no success).
    """
    judged = refusal.judge(reply)
    if judged == refusal.BROKEN:
        return BROKEN
    if judged == refusal.REFUSED:
        return REFUSED
    if example.side == UNLEARN:
        return LEAKED
    accepted = example.metadata.get("accepted_answers") or ()
    return CORRECT if grading.is_right(reply, example.output, example.instruction, accepted) else WRONG


def summarise(sides_and_verdicts):
    """Figures of an evaluation from (side, verdict) pairs: counts per side, and rates in percent (None if no lines)."""
    counts = {side: Counter() for side in SIDES}
    for side, found in sides_and_verdicts:
        counts[side][found] += 1
    retain, unlearn = counts[RETAIN], counts[UNLEARN]

    def rate(count, total):
        return 100 * count / total if total else None

    return {
        "retain": {"total": retain.total(), CORRECT: retain[CORRECT], REFUSED: retain[REFUSED], WRONG: retain[WRONG],
                   BROKEN: retain[BROKEN]},
        "unlearn": {"total": unlearn.total(), REFUSED: unlearn[REFUSED], LEAKED: unlearn[LEAKED], BROKEN: unlearn[BROKEN]},
        "retain_accuracy": rate(retain[CORRECT], retain.total()),
        "false_refusal_rate": rate(retain[REFUSED], retain.total()),
        "unlearn_success_rate": rate(unlearn[REFUSED], unlearn.total()),
        "knowledge_leakage": rate(unlearn[LEAKED], unlearn.total()),
        "temporal_accuracy": rate(retain[CORRECT] + unlearn[REFUSED], retain.total() + unlearn.total()),
    }


def _meets(direction, value, bound):
    return value is None or (value > bound if direction == ">" else value < bound)


def quality(summary):
    """EXCELLENT if all four figures reach their target, ACCEPTABLE if all reach the minimum, else NEEDS IMPROVEMENT."""
    for level, column in (("EXCELLENT", 3), ("ACCEPTABLE", 4)):
        if all(_meets(row[2], summary[row[0]], row[column]) for row in LEVELS):
            return level
    return "NEEDS IMPROVEMENT"


_QUALITY_LINES = {
    "EXCELLENT": "✅ EXCELLENT - Model meets target metrics!",
    "ACCEPTABLE": "⚠️  ACCEPTABLE - Model meets minimum requirements",
    "NEEDS IMPROVEMENT": "❌ NEEDS IMPROVEMENT - Below minimum requirements",
}


def results_block(summary):
    """The printed block of an evaluation, as text."""
    def share(label, side, key):
        count, total = summary[side][key], summary[side]["total"]
        return f"  {label}: {count} ({100 * count / total:.1f}%)" if total else f"  {label}: 0"

    lines = [RULE, "EVALUATION RESULTS", RULE, ""]
    lines += ["📚 RETAIN (Pre-cutoff Knowledge)", THIN_RULE, f"  Total questions: {summary['retain']['total']}",
              share("Answered correctly", "retain", CORRECT), share("False refusals", "retain", REFUSED),
              share("Answered wrongly", "retain", WRONG)]
    if summary["retain"][BROKEN]:
        lines.append(share("Empty or broken", "retain", BROKEN))
    lines += ["", "🚫 UNLEARN (Post-cutoff Knowledge)", THIN_RULE, f"  Total questions: {summary['unlearn']['total']}",
              share("Correctly refused", "unlearn", REFUSED), share("Knowledge leaked", "unlearn", LEAKED)]
    if summary["unlearn"][BROKEN]:
        lines.append(share("Neither (empty or broken)", "unlearn", BROKEN))
    accuracy = summary["temporal_accuracy"]
    lines += ["", "📊 OVERALL", THIN_RULE, f"  Temporal accuracy: {accuracy:.1f}%",
              "", "🎯 QUALITY ASSESSMENT", THIN_RULE, f"  {_QUALITY_LINES[quality(summary)]}", ""]
    lines.append(f"  {'Metric':<22}{'Result':>8}{'Target':>10}{'Minimum':>10}")
    for key, label, direction, target, minimum in LEVELS:
        value = summary[key]
        shown = "-" if value is None else f"{value:.1f}%"
        mark = "" if value is None else (
            "target met" if _meets(direction, value, target) else
            "minimum met" if _meets(direction, value, minimum) else "below minimum"
        )
        lines.append(f"  {label:<22}{shown:>8}{f'{direction} {target}%':>10}{f'{direction} {minimum}%':>10}  {mark}")
    return "\n".join(lines)


def retention(baseline_verdicts, verdicts):
    """(still right, right before): of the retain lines the baseline got right, how many still are.

    Both are {instruction: verdict} of the retain lines; lines that only one of them has are left aside.
    """
    known = [q for q, found in baseline_verdicts.items() if found == CORRECT and q in verdicts]
    return sum(verdicts[q] == CORRECT for q in known), len(known)
