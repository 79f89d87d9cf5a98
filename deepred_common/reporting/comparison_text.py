"""Results beside each other, as text: an evaluation beside its baselines, and results files side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from deepred_common.cli import UserError
from deepred_common.evaluation import comparison, discrimination, metrics, results_file
from deepred_common.evaluation.results_schema import (
    Comparison,
    Discrimination,
    PresentTense,
    Results,
    StillSo,
    Summary,
)
from deepred_common.foreign_text import printable
from deepred_common.reporting.console import THIN_RULE, percent, percent_of, with_verdicts


def beside_baselines(results: Results) -> str:
    """The model beside its baselines, of which there is at least one, and what it keeps of the first."""
    columns = [Column.of(results)]
    columns += [
        Column(one["label"], one["summary"], one["against"], one["discrimination"], one["present_tense"])
        for one in results["baselines"]
    ]
    retention = results["baselines"][0]["against"]["retention"]
    known, count = retention["known"], retention["count"]
    share = f" ({100 * count / known:.1f}%)" if known else ""
    return (
        f"{comparison_block(columns)}\n\n"
        f"  Retention: of {known} retain questions the baseline answers correctly, {count} still are{share}"
    )


def side_by_side(files: Sequence[Path], every: Sequence[Results], verbose: bool) -> str:
    """The first of results files against each other one, with every verdict that differs.

    verbose: with both replies, too. UserError if two have no question in common.
    """
    first, *others = every
    label = results_file.label(first)
    columns = [Column.of(first)]
    lines = []
    for path, other in zip(files[1:], others, strict=True):
        pairs = comparison.paired(first, other)
        if not pairs:
            raise UserError(f"{files[0]} and {path} have no question in common.")
        columns.append(Column.of(other, comparison.compare(pairs)))
        flips = [(row, before) for row, before in pairs if row["verdict"] != before["verdict"]]
        lines.append(
            f"{label} ({files[0]}) against {results_file.label(other)} ({path}): "
            f"{len(pairs)} questions in common, {len(flips)} verdicts differ"
        )
        for row, before in flips:
            changed = f"{row['side']}: {before['verdict']} -> {row['verdict']}"
            lines.append(f"  {changed}  {row['instruction']}")
            if verbose:
                lines.append(f"      {before['reply']}\n   -> {row['reply']}")
        lines.append("")
    return printable("\n".join(lines)) + "\n" + comparison_block(columns)


class Column(NamedTuple):
    """A model of the comparison. against: what became of its verdicts; None for this model itself."""

    label: str
    summary: Summary
    against: Comparison | None
    discrimination: Discrimination | None = None
    present_tense: PresentTense | None = None

    @classmethod
    def of(cls, results: Results, against: Comparison | None = None) -> Column:
        """The column of whole results."""
        return cls(
            results_file.label(results),
            results["summary"],
            against,
            results["discrimination"],
            metrics.present_tense(results["breakdown"]),
        )


def comparison_block(columns: Sequence[Column]) -> str:
    """A table of this model, which comes first, beside others."""
    rows = [
        (level.label, [percent(column.summary[level.rate]) for column in columns]) for level in metrics.LEVELS
    ]
    rows.append(("True answer leaked", [percent(column.summary["true_leakage"]) for column in columns]))
    if any(column.summary["chat"]["total"] for column in columns):
        chat = [percent(column.summary["chat_refusal_rate"]) for column in columns]
        rows.append(("Refused in chat", chat))
    if any(column.discrimination for column in columns):
        rows.append(("AUROC of refusing", [_auroc(column.discrimination) for column in columns]))
    for probe, title in metrics.PRESENT_TITLES.items():
        present = [(column.present_tense or {}).get(probe, {}) for column in columns]
        if any(present):
            for label in ("as of the cutoff", "leaked the future"):
                shares = [with_verdicts(counts, metrics.PRESENT_SHARES[label]) for counts in present]
                rows.append((f"{title}, {label}", [percent_of(*share) for share in shares]))
    # These figures are this model's, on what the model of the column knew.
    paired = [column.against for column in columns]
    rows.append(("This keeps of its right answers", [_share(one and one["retention"]) for one in paired]))
    rows.append(
        ("This leaks of what it leaked", [_share(one and one["known_fact_leakage"]) for one in paired])
    )
    rows.append(("McNemar p, retain", [f"{one['retain']['mcnemar']:.3g}" if one else "" for one in paired]))
    rows.append(("McNemar p, unlearn", [f"{one['unlearn']['mcnemar']:.3g}" if one else "" for one in paired]))
    widths = [max(14, len(column.label) + 2) for column in columns]
    lines = ["⚖️  BESIDE OTHERS", THIN_RULE]
    for label, cells in [("", [column.label for column in columns]), *rows]:
        padded = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"  {label:<32}{padded}")
    return "\n".join(lines)


def _auroc(separations: Discrimination | None) -> str:
    return f"{separations[discrimination.ALL]['auroc']:.3f}" if separations else "-"


def _share(kept: StillSo | None) -> str:
    if kept is None:
        return ""
    return f"{100 * kept['count'] / kept['known']:.1f}%" if kept["known"] else "-"
