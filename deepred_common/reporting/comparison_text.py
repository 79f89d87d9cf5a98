"""Results beside each other, as text: an evaluation beside its baselines, and results files side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from deepred_common.cli import UserError
from deepred_common.evaluation import comparison, discrimination, metrics, results_file, row_text
from deepred_common.evaluation.probe_figures import DECIDING
from deepred_common.evaluation.results_schema import (
    Comparison,
    Discrimination,
    PresentTense,
    Results,
    StillSo,
    Summary,
    counts_of,
)
from deepred_common.examples import ALL_SIDES, RETAIN, UNLEARN
from deepred_common.foreign_text import printable
from deepred_common.reporting.console import THIN_RULE, percent, percent_of, with_verdicts

# Of the table by forms, in characters: the form's name with its indent, and one result.
_FORM_NAME, _FORM_CELL = 24, 15
_SHOWN_FLIPS = 20  # of two files' verdicts that differ: those of thousands would push the tables out of sight
_FORM_TITLES = {UNLEARN: "Leaked, after the cutoff", RETAIN: "Refused, before the cutoff"}


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
        "  Retention: of the retain questions that the baseline answers correctly, still correct: "
        f"{count} of {known}{share}"
    )


def side_by_side(files: Sequence[Path], every: Sequence[Results], verbose: bool) -> str:
    """The first of results files against each other one, with the first verdicts that differ.

    verbose: with all of them, and both replies. UserError if two have no question in common.
    """
    first, *others = every
    label = results_file.label(first)
    columns = [Column.of(first)]
    lines = []
    for path, other in zip(files[1:], others, strict=True):
        pairs = comparison.paired(first, other)
        other_label = results_file.label(other)
        if not pairs:
            raise UserError(f"{files[0]} and {path} have no question in common.")
        columns.append(Column.of(other, comparison.compare(results_file.counted_pairs(first, pairs))))
        replied = [pair for pair in pairs if comparison.both_replied(pair)]
        flips = [(row, there) for row, there in replied if row["verdict"] != there["verdict"]]
        missing = len(pairs) - len(replied)
        of_missing = f" ({missing} without a reply by one of the two)" if missing else ""
        lines.append(
            f"{label} ({files[0]}, here) against {other_label} ({path}, there). "
            f"Questions in common: {len(pairs)}{of_missing}. Verdicts that differ: {len(flips)}"
        )
        shown = flips if verbose else flips[:_SHOWN_FLIPS]
        for row, there in shown:
            differs = f"{row['side']}: {row['verdict']} here, {there['verdict']} there"
            lines.append(f"  {differs}  {row_text.question(row)}")
            if verbose:
                lines.append(f"      here, {label}: {row_text.reply(row)}")
                lines.append(f"      there, {other_label}: {row_text.reply(there)}")
        if len(shown) < len(flips):
            lines.append(f"  … and {len(flips) - len(shown)} more; --verbose lists them all")
        lines.append("")
    blocks = [comparison_block(columns), forms_block(every)]
    return printable("\n".join(lines)) + "\n" + "\n\n".join(block for block in blocks if block)


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
    rows.append(
        (
            "McNemar p, retain, by question",
            [f"{one['retain']['mcnemar']:.3g}" if one else "" for one in paired],
        )
    )
    rows.append(
        (
            "McNemar p, unlearn, by question",
            [f"{one['unlearn']['mcnemar']:.3g}" if one else "" for one in paired],
        )
    )
    counts = [_questions(column) for column in columns]
    common = [one["lines"] + one["unpaired"] if one else counts[0] for one in paired]
    # With --probes more questions are compared than the figures are of.
    are_same = len(set(counts)) == 1 and min(common) >= counts[0]
    if not are_same:
        rows.insert(0, ("Questions", [str(count) for count in counts]))
        rows.insert(1, ("In common with this", ["", *map(str, common[1:])]))
    widths = [max(14, len(column.label) + 2) for column in columns]
    lines = ["⚖️  BESIDE OTHERS", THIN_RULE]
    for label, cells in [("", [column.label for column in columns]), *rows]:
        padded = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"  {label:<32}{padded}")
    if not are_same:
        lines.append(
            "  The columns are of different questions. The rows from “This keeps” on compare those in common."
        )
    return "\n".join(lines)


def _questions(column: Column) -> int:
    """How many questions the figures of a column are of."""
    return sum(counts_of(column.summary, side)["total"] for side in ALL_SIDES)


def _auroc(separations: Discrimination | None) -> str:
    return f"{separations[discrimination.ALL]['auroc']:.3f}" if separations else "-"


def _share(kept: StillSo | None) -> str:
    if kept is None:
        return ""
    return f"{100 * kept['count'] / kept['known']:.1f}%" if kept["known"] else "-"


def forms_block(every: Sequence[Results]) -> str:
    """A table of forms of asking (metadata.probe) by results: leaked after the cutoff, refused before it.

    On each side, what differs most from the first results is marked. Five results fit in 110 characters. ""
    if the results hold no forms.
    """
    forms = list(dict.fromkeys(form for one in every for form in _forms_of(one)))
    if not forms:
        return ""
    name_width = max(_FORM_NAME - 2, *map(len, forms))
    heads = "".join(f"{head:>{_FORM_CELL}}" for head in _short_labels(every))
    lines = ["🧩 BY FORM", THIN_RULE, f"  {'questions':>{name_width + 8}}{heads}".rstrip()]
    is_marked = False
    for side, verdict in DECIDING.items():
        rows = {form: [_form_share(one, form, side, verdict) for one in every] for form in forms}
        rows["any form, of the facts"] = [_any_form_share(one, side) for one in every]
        largest = max(_distance(row, cell) for row in rows.values() for cell in row)
        lines.append(f"  {_FORM_TITLES[side]}")
        for form, row in rows.items():
            total = max(total for _, total in row)
            if not total:
                continue
            cells = ""
            for cell in row:
                mark = "*" if 0 < largest == _distance(row, cell) else " "
                is_marked |= mark == "*"
                cells += f"{percent_of(*cell) + mark:>{_FORM_CELL}}"
            lines.append(f"    {form:<{name_width}}{total:>6}{cells}".rstrip())
    if is_marked:
        lines.append("  * differs most from the first")
    return "\n".join(lines)


def _forms_of(results: Results) -> Iterable[str]:
    """The forms of results, in the order in which --probes asked them."""
    return results["probes"]["forms"] if results["probes"] else results["breakdown"].get("probe") or ()


def _form_share(results: Results, form: str, side: str, verdict: str) -> tuple[int, int]:
    """(questions of a form and side with the verdict, questions in all)."""
    counts = (results["breakdown"].get("probe") or {}).get(form, {}).get(side) or {}
    return with_verdicts(counts, (verdict,))


def _any_form_share(results: Results, side: str) -> tuple[int, int]:
    """(facts of a side leaked, or refused, in at least one form; facts in all); zeros without --probes."""
    count, facts = (results["probes"] or {"any": {}})["any"].get(side, (0, 0))
    return count, facts


def _distance(row: Sequence[tuple[int, int]], cell: tuple[int, int]) -> float:
    """How far a cell's share lies from that of the first in its row; 0 if one of them has no questions."""
    (first, first_total), (count, total) = row[0], cell
    return abs(count / total - first / first_total) if total and first_total else 0


def _short_labels(every: Sequence[Results]) -> list[str]:
    """What tells the results apart, short enough for a column: the last part of each label, or its end."""
    labels = [results_file.label(one) for one in every]
    names = [label.rpartition("/")[2] for label in labels]
    if len(set(names)) < len(names):
        names = labels
    longest = _FORM_CELL - 2  # a space before it, and one below it for the mark
    return [f"{name if len(name) <= longest else '…' + name[1 - longest :]} " for name in names]
