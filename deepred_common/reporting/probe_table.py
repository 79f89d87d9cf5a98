"""The printed table of --probes: what each form gets out after the cutoff, and what it costs before it."""

from __future__ import annotations

from collections.abc import Mapping

from deepred_common import stats
from deepred_common.evaluation.probe_figures import DECIDING, UNCOUNTED
from deepred_common.evaluation.results_schema import ProbeFigures, Results, VerdictCounts
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

_TITLES = {UNLEARN: "After the cutoff, by form:", RETAIN: "Before the cutoff, by form:"}
# {side: {verdict: its column}}; the first is the deciding one.
_COLUMNS = {
    UNLEARN: {LEAKED: "leaked", CONFABULATED: "confabulated", REFUSED: "refused", BROKEN: "broken"},
    RETAIN: {REFUSED: "refused", CORRECT: "right", WRONG: "wrong", BROKEN: "broken"},
}
ANY_FORM = {UNLEARN: "Any form leaks", RETAIN: "Any form refuses"}
_WHY_UNCOUNTED = {
    UNLEARN: "holds the answer among others, so a guess can be right: it does not count below",
    RETAIN: "has to be decoded, and who cannot read it may decline: it does not count below",
}
_NAMES, _COUNT = 27, 10  # characters of the first two columns
ByProbe = Mapping[str, Mapping[str, VerdictCounts]]


def text(results: Results) -> str:
    """The tables of both sides, and the worst form and "any form" of each; "" without probes.

    Beside the deciding column stands the same of each baseline that was asked in forms.
    """
    figures = results["probes"]
    if not figures:
        return ""
    bases = [(one["label"], one["by_probe"], one["probes"]) for one in results["baselines"] if one["probes"]]
    by_probe = results["breakdown"]["probe"]
    lines = []
    for side in _COLUMNS:
        lines += _table(side, figures, by_probe, {label: probes for label, probes, _ in bases})
    lines += _closing_lines(figures, "")
    for label, _, base_figures in bases:
        lines += _closing_lines(base_figures, f"{label}: ")
    for one in results["baselines"]:
        if still := one["still_leaked"]:
            lines.append(
                f"  Of the {still['known']} late facts that {one['label']} gives away in any form, "
                f"this model gives away {still['count']}"
            )
    return "\n".join(lines)


def _table(side: str, figures: ProbeFigures, by_probe: ByProbe, bases: Mapping[str, ByProbe]) -> list[str]:
    """The rows of one side, under a heading; [] if nothing of the side was asked."""
    deciding, *others = _COLUMNS[side]
    heads = f"{'questions':>{_COUNT}}{_COLUMNS[side][deciding]:>12}{'95 %':>14}"
    heads += "".join(f"{_COLUMNS[side][verdict]:>14}" for verdict in others)
    short = [label.split("/")[-1] for label in bases]
    widths = [max(14, len(label) + 2) for label in short]
    heads += "".join(f"{label:>{width}}" for label, width in zip(short, widths, strict=True))
    rows = []
    for form in figures["forms"]:
        counts = by_probe.get(form, {}).get(side) or {}
        total = sum(counts.values())
        if not total:
            continue
        low, high = stats.wilson(counts[deciding], total)
        name = f"{form} *" if form in UNCOUNTED[side] else form
        interval = f"{100 * low:.0f} - {100 * high:.0f}%"
        row = f"  {name:<{_NAMES}}{total:>{_COUNT}}{_cell(counts, deciding):>12}{interval:>14}"
        row += "".join(f"{_cell(counts, verdict):>14}" for verdict in others)
        for base, width in zip(bases.values(), widths, strict=True):
            row += f"{_cell(base.get(form, {}).get(side) or {}, deciding):>{width}}"
        if counts[FAILED]:
            row += f"   {counts[FAILED]} failed"
        rows.append(row)
    if not rows:
        return []
    above = []
    if bases:
        start = 2 + _NAMES + _COUNT + 12 + 14 + 14 * len(others)
        above = [" " * start + f"  {_COLUMNS[side][deciding]} by"]
    if any(form in UNCOUNTED[side] for form in figures["forms"]):
        rows.append(f"  * {_WHY_UNCOUNTED[side]}")
    return [*above, f"  {_TITLES[side]:<{_NAMES}}{heads}", *rows, ""]


def _cell(counts: VerdictCounts, verdict: str) -> str:
    """ "12 (34%)"; "-" without questions."""
    total = sum(counts.values())
    return f"{counts[verdict]} ({100 * counts[verdict] / total:.0f}%)" if total else "-"


def _closing_lines(figures: ProbeFigures | None, label: str) -> list[str]:
    """The worst form and "any form" of each side."""
    if not figures:
        return []
    lines = []
    for side, verdict in DECIDING.items():
        if side in figures["any"]:
            count, facts = figures["any"][side]
            if side in figures["worst"]:
                lines.append(f"  {label}Worst form: {figures['worst'][side]} (most {verdict})")
            lines.append(f"  {label}{ANY_FORM[side]}: {count} of {facts} facts ({100 * count / facts:.0f}%)")
    return lines
