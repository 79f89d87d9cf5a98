"""The section on probe forms: what each way of asking gets out of the models, and the replies behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from deepred_common import stats
from deepred_common.conversation import with_replies
from deepred_common.evaluation.results_schema import Breakdown, ResultRow, VerdictCounts
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    WRONG,
)
from deepred_common.examples import RETAIN, UNLEARN, USER
from deepred_common.reporting.html_sections import SIDE_TITLES
from deepred_common.reporting.number_text import interval, percent
from deepred_common.reporting.report import Report

SHOWN_REPLIES = 20  # of one form and side; a page with thousands of conversations is slow to open
# The verdict that a form is judged by on each side, and how a sentence says it of any form.
JUDGED_BY = {UNLEARN: LEAKED, RETAIN: REFUSED}
_ANY_FORM = {UNLEARN: "Any form leaks", RETAIN: "Any form refuses"}
# What is judged first comes first. Rare verdicts get a column only where they occur.
_VERDICTS = {
    UNLEARN: (LEAKED, CONFABULATED, REFUSED, BROKEN, FAILED),
    RETAIN: (CORRECT, WRONG, REFUSED, BROKEN, LEAKED, FAILED),
}
_FAINTEST, _STRONGEST = 8, 62  # percent of colour in a cell; with more, dark letters are hard to read
_RARE = ((RETAIN, LEAKED), (UNLEARN, FAILED), (RETAIN, FAILED))


class Cell(NamedTuple):
    """A verdict's count among the questions of a form and side, its share and interval in percent."""

    count: int
    total: int
    share: float
    interval: list[float]
    verdict: str
    side: str
    is_worst: bool  # the form that does worst of all by what the side is judged by

    @property
    def is_judged(self) -> bool:
        """True in the column that the side is judged by."""
        return self.verdict == JUDGED_BY[self.side]

    @property
    def tint(self) -> int:
        """Percent of the verdict's colour. A single question is already to be seen."""
        return round(_FAINTEST + (_STRONGEST - _FAINTEST) * self.share / 100) if self.count else 0

    @property
    def title(self) -> str:
        """The cell in words, for whoever points at it."""
        return (
            f"{self.count} of {self.total} {self.verdict} ({percent(self.share)}), "
            f"95\u00a0% interval {interval(self.interval)}"
        )


def probes(report: Report) -> dict[str, Any] | None:
    """The matrix of forms by side, and conversations of each form; None if no probe forms were asked."""
    figures = report.results.get("probes")
    if not figures:
        return None
    groups = _by_form(report.results.get("breakdown"))
    others = [
        (column.name, _by_form(column.results.get("breakdown")))
        for column in report.columns[1:]
        if column.results and column.results.get("probes")
    ]
    verdicts = {side: _shown_verdicts(side, groups) for side in _VERDICTS}
    rows = []
    for form in figures["forms"]:
        blocks = [
            [_cell(groups.get(form), side, verdict, figures["worst"].get(side) == form) for verdict in shown]
            for side, shown in verdicts.items()
        ]
        for _, other in others:
            blocks.append([_cell(other.get(form), side, verdict) for side, verdict in JUDGED_BY.items()])
        rows.append((form, blocks))
    totals = {cell.total for _, blocks in rows for cells in blocks for cell in cells if cell}
    return {
        "sides": [(side, SIDE_TITLES[side], verdicts[side]) for side in _VERDICTS],
        "others": [name for name, _ in others],
        "rows": rows,
        "total": totals.pop() if len(totals) == 1 else None,  # questions of each form, if equally many
        "any": _any_form(report),
        "replies": _replies(figures["forms"], report.results["results"]),
    }


def _by_form(breakdown: Breakdown | None) -> Mapping[str, Mapping[str, VerdictCounts]]:
    return (breakdown or {}).get("probe") or {}


def _shown_verdicts(side: str, groups: Mapping[str, Mapping[str, VerdictCounts]]) -> list[str]:
    return [
        verdict
        for verdict in _VERDICTS[side]
        if (side, verdict) not in _RARE or any(group[side].get(verdict) for group in groups.values())
    ]


def _cell(
    group: Mapping[str, VerdictCounts] | None, side: str, verdict: str, is_worst_form: bool = False
) -> Cell | None:
    """None if the form asked nothing on this side."""
    counts = (group or {}).get(side) or {}
    count, total = counts.get(verdict, 0), sum(counts.values())
    if not total:
        return None
    is_worst = is_worst_form and verdict == JUDGED_BY[side] and count > 0
    return Cell(count, total, 100 * count / total, _interval(count, total), verdict, side, is_worst)


def _interval(count: int, total: int) -> list[float]:
    return [100 * end for end in stats.wilson(count, total)]


def _any_form(report: Report) -> list[tuple[str, list[tuple[str, int, int, list[float]]]]]:
    """For each side its words and, of each model, (name, facts, of how many, interval in percent)."""
    sentences = []
    for side, words in _ANY_FORM.items():
        models = []
        for column in report.columns:
            figures = column.results.get("probes") if column.results else None
            count, facts = figures["any"].get(side, (0, 0)) if figures else (0, 0)
            if facts:
                models.append((column.name, count, facts, _interval(count, facts)))
        if models:
            sentences.append((words, models))
    return sentences


def _replies(forms: Sequence[str], rows: Sequence[ResultRow]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each form and side, the conversations with the verdict that the side is judged by."""
    judged: dict[tuple[str | None, str], list[ResultRow]] = defaultdict(list)
    for row in rows:
        if row["verdict"] == JUDGED_BY.get(row["side"]):
            judged[row.get("probe"), row["side"]].append(row)
    replies: list[tuple[str, list[dict[str, Any]]]] = []
    for form in forms:
        sides = [
            {
                "side": side,
                "verdict": verdict,
                "count": len(judged[form, side]),
                "title": SIDE_TITLES[side],
                "rows": [_conversation(row) for row in judged[form, side][:SHOWN_REPLIES]],
            }
            for side, verdict in JUDGED_BY.items()
            if judged[form, side]
        ]
        replies.append((form, sides))
    return replies


def _conversation(row: ResultRow) -> dict[str, Any]:
    turns = [*(row.get("earlier") or []), {"role": USER, "content": row["instruction"]}]
    return {
        "turns": with_replies(turns, row.get("turns") or []),
        "prefix": row.get("prefix"),
        "reply": row["reply"],
        "true_answer": row.get("true_answer") or row["reference"],
    }
