"""The section on probe forms: what each way of asking gets out of the models, and the replies behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from deepred_common import stats
from deepred_common.conversation import shown_in
from deepred_common.evaluation.probe_figures import DECIDING, UNCOUNTED
from deepred_common.evaluation.probes import forms
from deepred_common.evaluation.results_schema import ProbeFigures, ResultRow, Results, VerdictCounts
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    WRONG,
)
from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.reporting.html_sections import SIDE_TITLES
from deepred_common.reporting.number_text import interval, percent
from deepred_common.reporting.probe_table import ANY_FORM
from deepred_common.reporting.report import Column, Report

SHOWN_REPLIES = 20  # of one form and side; a page with thousands of conversations is slow to open
# The order of the columns. Rare verdicts get a column only where they occur.
_VERDICTS = {
    UNLEARN: (LEAKED, CONFABULATED, REFUSED, BROKEN, FAILED),
    RETAIN: (CORRECT, WRONG, REFUSED, BROKEN, LEAKED, FAILED),
}
_UNCOUNTED_SIGNS = {UNLEARN: "*", RETAIN: "†"}
_FAINTEST, _STRONGEST = 8, 62  # percent of colour in a cell; with more, dark letters are hard to read
_RARE = ((RETAIN, LEAKED), (UNLEARN, FAILED), (RETAIN, FAILED))


_ByForm = Mapping[str, Mapping[str, VerdictCounts]]  # {form: {side: counts}}


class _Model(NamedTuple):
    """A model that was asked in forms."""

    name: str
    figures: ProbeFigures
    by_form: _ByForm


@dataclass(frozen=True)
class Cell:
    """A verdict's count among the questions of a form and side, its share and interval in percent."""

    count: int
    total: int
    share: float
    interval: list[float]
    verdict: str
    side: str
    is_worst: bool  # of the worst form, in the deciding column

    @property
    def is_deciding(self) -> bool:
        """True in the column by which the forms of a side are compared."""
        return self.verdict == DECIDING[self.side]

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
    models = [model for column in report.columns if (model := _model(column, report.results))]
    if not models or models[0].name != report.names[0]:
        return None
    own, *others = models
    verdicts = {side: _shown_verdicts(side, own.by_form) for side in _VERDICTS}
    about = {form.name: form.about for form in forms.FORMS}
    rows = []
    for form in own.figures["forms"]:
        blocks = []
        for side, shown in verdicts.items():
            is_worst = own.figures["worst"].get(side) == form
            blocks.append([_cell(own.by_form.get(form), side, verdict, is_worst) for verdict in shown])
        for other in others:
            blocks.append([_cell(other.by_form.get(form), side, DECIDING[side]) for side in _VERDICTS])
        mark = "".join(sign for side, sign in _UNCOUNTED_SIGNS.items() if form in UNCOUNTED[side])
        rows.append((form, about.get(form, ""), mark, blocks))
    totals = {cell.total for *_, blocks in rows for cells in blocks for cell in cells if cell}
    return {
        "sides": [(side, SIDE_TITLES[side], verdicts[side]) for side in _VERDICTS],
        "others": [other.name for other in others],
        "rows": rows,
        "total": totals.pop() if len(totals) == 1 else None,  # questions of each form, if equally many
        "any": _any_form(models),
        "still_leaked": [
            (one["label"], one["still_leaked"])
            for one in report.results["baselines"]
            if one.get("still_leaked")
        ],
        "replies": _replies(own.figures["forms"], report.results["results"]),
    }


def _model(column: Column, results: Results) -> _Model | None:
    """None if the model of the column was not asked in forms. results: hold the figures of baselines."""
    if column.results:
        figures = column.results.get("probes")
        by_form = (column.results.get("breakdown") or {}).get("probe")
    else:
        baseline = next(one for one in results["baselines"] if one["label"] == column.name)
        figures, by_form = baseline.get("probes"), baseline.get("by_probe")
    return _Model(column.name, figures, by_form or {}) if figures else None


def _shown_verdicts(side: str, groups: _ByForm) -> list[str]:
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
    is_worst = is_worst_form and verdict == DECIDING[side] and count > 0
    return Cell(count, total, 100 * count / total, _interval(count, total), verdict, side, is_worst)


def _interval(count: int, total: int) -> list[float]:
    return [100 * end for end in stats.wilson(count, total)]


def _any_form(models: Sequence[_Model]) -> list[tuple[str, list[tuple[str, int, int, list[float]]]]]:
    """For each side its words and, of each model, (name, facts, of how many, interval in percent)."""
    sentences = []
    for side, words in ANY_FORM.items():
        shares = []
        for model in models:
            if side in model.figures["any"]:
                count, facts = model.figures["any"][side]
                shares.append((model.name, count, facts, _interval(count, facts)))
        if shares:
            sentences.append((words, shares))
    return sentences


def _replies(names: Sequence[str], rows: Sequence[ResultRow]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each form and side, the conversations with the verdict that decides on the side."""
    deciding: dict[tuple[str | None, str], list[ResultRow]] = defaultdict(list)
    for row in rows:
        if row["verdict"] == DECIDING.get(row["side"]):
            deciding[row.get("probe"), row["side"]].append(row)
    replies: list[tuple[str, list[dict[str, Any]]]] = []
    asked = {row.get("probe") for row in rows}
    for form in (name for name in names if name in asked):
        sides = [
            {
                "side": side,
                "verdict": verdict,
                "count": len(deciding[form, side]),
                "title": SIDE_TITLES[side],
                "rows": [_conversation(row) for row in deciding[form, side][:SHOWN_REPLIES]],
            }
            for side, verdict in DECIDING.items()
            if deciding[form, side]
        ]
        replies.append((form, sides))
    return replies


def _conversation(row: ResultRow) -> dict[str, Any]:
    return {
        "turns": shown_in(row),
        "prefix": row.get("prefix"),
        "reply": row["reply"],
        "true_answer": row.get("true_answer") or row["reference"],
    }
