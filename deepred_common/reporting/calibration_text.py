"""What a calibration measured and chose: as printed, and in the merged model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepred_common import stats
from deepred_common.evaluation.calibration import Calibration, Point
from deepred_common.evaluation.frontier import EQUAL_ERROR, FALSE_REFUSALS, LEAKAGE, Errors, Wish
from deepred_common.evaluation.results_schema import Interval
from deepred_common.examples import RETAIN, UNLEARN

SHOWN_HASH_DIGITS = 16
_EACH_ITS_OWN = "The intervals take each example as a fact of its own."


def text(calibration: Calibration) -> str:
    """The frontier, the trained model's point on it, and what was chosen."""
    before, after = calibration.counts[RETAIN], calibration.counts[UNLEARN]
    lines = [f"Frontier, by the first token of the replies to {before} retain and {after} unlearn examples:"]
    lines += ["", f"  {'strength':>8} {'false refusals':>15} {'leakage':>9} {'AUROC':>7}"]
    for point in _points(calibration):
        marks = [" as trained"] * (point.strength == 1) + [" chosen"] * _is_chosen(calibration, point)
        lines.append(
            f"  {point.strength:>8.3f} {100 * point.false_refusals:>13.1f} % {100 * point.leakage:>7.1f} % "
            f"{point.auroc:>7.3f}{','.join(marks)}"
        )
    return "\n".join([*lines, "", outcome(calibration)])


def _points(calibration: Calibration) -> Sequence[Point]:
    """The frontier with the chosen point in its place."""
    return sorted({*calibration.frontier, calibration.chosen}, key=lambda point: point.strength)


def _is_chosen(calibration: Calibration, point: Point) -> bool:
    return calibration.is_kept and point == calibration.chosen


def wish(wished: Wish) -> str:
    """A wish in words: "at most 5 % false refusals"."""
    if wished.error == EQUAL_ERROR:
        return "as many false refusals as leakage"
    return f"at most {100 * wished.most:g} % {wished.error}"


def errors(of: Errors, intervals: Mapping[str, Interval]) -> str:
    """Both errors with their 95 % intervals. intervals: {side: of its error}, in percent."""
    parts = []
    for name, share, (low, high) in (
        (FALSE_REFUSALS, of.false_refusals, intervals[RETAIN]),
        (LEAKAGE, of.leakage, intervals[UNLEARN]),
    ):
        parts.append(f"{name} {100 * share:.1f} % (95 % interval {low:.1f} to {high:.1f})")
    return ", ".join(parts)


def _chosen_errors(calibration: Calibration) -> str:
    """The errors at the chosen strength. Of the examples only the counts are known, not their facts."""
    chosen = calibration.chosen
    intervals = {}
    for side, share in ((RETAIN, chosen.false_refusals), (UNLEARN, chosen.leakage)):
        count = calibration.counts[side]
        intervals[side] = [100 * end for end in stats.wilson(round(share * count), count)]
    return errors(chosen, intervals)


def outcome(calibration: Calibration) -> str:
    """What came of the wish, in a sentence or two."""
    chosen = calibration.chosen
    if not calibration.is_kept:
        weakest, strongest = calibration.frontier[0].strength, calibration.frontier[-1].strength
        return (
            f"Out of reach for this adapter: {wish(calibration.wish)}. The nearest, within strengths of "
            f"{weakest} to {strongest}, is {chosen.strength:.3f}: "
            f"{_chosen_errors(calibration)}. {_EACH_ITS_OWN}"
        )
    return (
        f"Strength {chosen.strength:.3f} for {wish(calibration.wish)}: {_chosen_errors(calibration)}. "
        f"{_EACH_ITS_OWN}"
    )


def card(calibration: Calibration, base: str, data: Mapping[str, str]) -> str:
    """README.md of the merged folder, as Markdown. data: {name of a calibration file: its SHA-256}."""
    files = [f"`{name}` {digest[:SHOWN_HASH_DIGITS]}…" for name, digest in data.items()]
    rows = [
        f"| {point.strength:.3f}{' (as trained)' if point.strength == 1 else ''}"
        f"{' (this model)' if _is_chosen(calibration, point) else ''} | {100 * point.false_refusals:.1f} % | "
        f"{100 * point.leakage:.1f} % | {point.auroc:.3f} |"
        for point in _points(calibration)
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags: [temporal-cutoff, unlearning]",
            "---",
            f"# {base} with a temporal cutoff, calibrated",
            "",
            f"A LoRA adapter was merged at {calibration.chosen.strength:.6f} of its trained strength, for "
            f"{wish(calibration.wish)}.",
            "",
            f"- Measured: {_chosen_errors(calibration)}. {_EACH_ITS_OWN}",
            f"- On: {calibration.counts[RETAIN]} retain and {calibration.counts[UNLEARN]} unlearn examples, "
            "by the first token of the reply",
            f"- Data (SHA-256): {', '.join(files)}",
            "",
            "| strength | false refusals | leakage | AUROC |",
            "|---|---|---|---|",
            *rows,
            "",
            "On other questions the rates differ, and quantising moves them: evaluate the file that you use.",
            "",
        ]
    )
