"""The chat section of the report: how often each kind of prompt is refused, and replies beside the base's."""

from __future__ import annotations

from typing import Any

from deepred_common.conversation import shown_in
from deepred_common.evaluation import comparison
from deepred_common.evaluation.results_schema import ResultRow
from deepred_common.evaluation.verdicts import REFUSED, REPLIED
from deepred_common.examples import CHAT
from deepred_common.reporting.report import Report

SHOWN_REPLIES = 200  # conversations in the page; those whose verdicts differ come first


def chat(report: Report) -> dict[str, Any] | None:
    """Verdicts by kind of prompt and the conversations; None if no chat prompt was asked."""
    rows = [row for row in report.results["results"] if row["side"] == CHAT]
    if not rows:
        return None
    groups = (report.results.get("breakdown") or {}).get("chat") or {}
    kinds = [
        (kind, sum(sides[CHAT].values()), sides[CHAT].get(REFUSED, 0), sides[CHAT].get(REPLIED, 0))
        for kind, sides in groups.items()
    ]
    other = _replies_beside(report)
    shown = [_conversation(row, other.get(row["id"])) for row in rows]
    shown.sort(key=lambda one: not one["differs"])
    return {
        "kinds": kinds,
        "names": [report.names[0], report.names[1] if other else None],
        "conversations": shown[:SHOWN_REPLIES],
        "total": len(rows),
    }


def _replies_beside(report: Report) -> dict[int, ResultRow]:
    """{id of a row: the row of the first other model on the same prompt}; the base comes first."""
    others = [column.results for column in report.columns[1:] if column.results]
    if not others:
        return {}
    pairs = comparison.paired(report.results, others[0])
    return {row["id"]: other for row, other in pairs if row["side"] == CHAT}


def _conversation(row: ResultRow, other: ResultRow | None) -> dict[str, Any]:
    return {
        "turns": shown_in(row),
        "reply": row["reply"],
        "verdict": row["verdict"],
        "other_turns": shown_in(other) if other and other.get("turns") else [],
        "other_reply": other["reply"] if other else None,
        "other_verdict": other["verdict"] if other else None,
        "differs": other is not None and other["verdict"] != row["verdict"],
    }
