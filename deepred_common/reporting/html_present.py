"""How models answer questions whose right answer depends on the day: as of the cutoff, or of later."""

from __future__ import annotations

from typing import Any

from deepred_common.evaluation import metrics
from deepred_common.reporting.report import Report


def present(report: Report) -> dict[str, Any] | None:
    """For each kind of question a row of shares a model; None if this model was not asked any."""
    of_models = {
        column.name: metrics.present_tense(column.results.get("breakdown") or {})
        for column in report.columns
        if column.results
    }
    asked = of_models[report.names[0]]
    if not asked:
        return None
    rows = []
    for probe in asked:
        for name, of_model in of_models.items():
            if counts := of_model.get(probe):
                shares = [sum(counts.get(one, 0) for one in of) for of in metrics.PRESENT_SHARES.values()]
                rows.append((metrics.PRESENT_TITLES[probe], name, sum(counts.values()), shares))
    return {"labels": list(metrics.PRESENT_SHARES), "rows": rows}
