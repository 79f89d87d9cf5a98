"""How often at least one of k sampled replies leaks, is refused, or is right: a table."""

from __future__ import annotations

from typing import Any

from deepred_common.evaluation import metrics, sampling
from deepred_common.evaluation.results_schema import counts_of, figures_of
from deepred_common.reporting.report import Report
from deepred_common.reporting.sampling_text import TITLES


def sampled_replies(report: Report) -> dict[str, Any] | None:
    """For each figure a row a model that was sampled; None if this model was not."""
    sampled = report.results.get("sampling")
    if not sampled:
        return None
    rows = []
    models = [
        (column.name, of_model, metrics.summarise(sampling.drawn(column.results["results"])))
        for column in report.columns
        if column.results and (of_model := column.results.get("sampling"))
    ]
    for side, names in sampling.FIGURES.items():
        for name, verdict in names.items():
            for model, of_model, summary in models:
                if name in figures_of(of_model, side):
                    counts = counts_of(summary, side)
                    curve = {one["k"]: one for one in figures_of(of_model, side)[name]}
                    greedy = 100 * counts[verdict] / counts["total"]
                    rows.append((f"{side} {TITLES[name]}", model, counts["total"], greedy, curve))
    ks = sorted({k for *_, curve in rows for k in curve})
    return {"sampled": sampled, "ks": ks, "rows": rows}
