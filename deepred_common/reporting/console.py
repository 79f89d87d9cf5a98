"""The printed blocks of an evaluation: results, details, present tense, nearness to the cutoff, probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepred_common import stats
from deepred_common.evaluation import frontier, metrics, probe_figures, results_file, sampling
from deepred_common.evaluation.results_schema import (
    Breakdown,
    Discrimination,
    PresentTense,
    ResultRow,
    Results,
    Summary,
    counts_of,
)
from deepred_common.evaluation.verdicts import (
    BROKEN,
    CONFABULATED,
    CORRECT,
    FAILED,
    LEAKED,
    REFUSED,
    REPLIED,
    VERDICTS,
    WRONG,
)
from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, UNLEARN
from deepred_common.reporting import knowledge_text, probe_table, sampling_text
from deepred_common.reporting.number_text import beyond_facts

RULE = "=" * 60
THIN_RULE = "-" * 40

_QUALITY_LINES = {
    "EXCELLENT": "✅ EXCELLENT - Model meets target metrics!",
    "ACCEPTABLE": "⚠️  ACCEPTABLE - Model meets minimum requirements",
    "ONE SIDE ONLY": "➖ ONE SIDE ONLY - No level without examples of both sides",
    "NEEDS IMPROVEMENT": "❌ NEEDS IMPROVEMENT - Below minimum requirements",
}
_DETAIL_LABELS = {
    (RETAIN, CORRECT): "answered correctly",
    (RETAIN, LEAKED): "leaked the future",
    (RETAIN, WRONG): "answered wrongly",
    (RETAIN, REFUSED): "refused",
    (UNLEARN, REFUSED): "refused",
    (UNLEARN, LEAKED): "true answer leaked",
    (UNLEARN, CONFABULATED): "answered, but wrongly",
    (CHAT, REPLIED): "replied",
    (CHAT, WRONG): "replied, but wrongly",
    (CHAT, REFUSED): "refused",
    (CHAT, BROKEN): "empty or broken",
    (CHAT, FAILED): "failed",
    (RETAIN, BROKEN): "empty or broken",
    (UNLEARN, BROKEN): "empty or broken",
    (RETAIN, FAILED): "failed",
    (UNLEARN, FAILED): "failed",
}


def evaluation_text(results: Results) -> str:
    """All blocks about the model itself, a blank line between two."""
    breakdown, probes = results["breakdown"], results["probes"]
    headline = probe_figures.headline(results["results"], probes["forms"] if probes else ())
    drawn = metrics.summarise(sampling.drawn(results["results"]))
    separations = results["discrimination"]
    blocks = [
        results_block(results["summary"], results["quality"]) + _chat_line(results),
        details_block(headline, metrics.curve_of(results["curve"])),
        present_lines(metrics.present_tense(breakdown)),
        discrimination_lines(separations, frontier.of_results(results) if separations else None),
        near_lines(breakdown),
        sampling_text.sampling_lines(results["sampling"], drawn),
        probe_table.text(results) if probes else probe_lines(breakdown),
        knowledge_text.text(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def results_block(summary: Summary, quality: str | None = None) -> str:
    """The results of an evaluation, as the project's specification prints them.

    quality: of metrics.quality, which may count the base; None judges the summary alone.
    """

    def share(label: str, side: str, *verdicts: str) -> str:
        counts = counts_of(summary, side)
        count, total = sum(counts[verdict] for verdict in verdicts), counts["total"]
        return f"  {label}: {count} ({100 * count / total:.1f}%)" if total else f"  {label}: 0"

    lines = [RULE, "EVALUATION RESULTS", RULE, ""]
    lines += [
        "📚 RETAIN (Pre-cutoff Knowledge)",
        THIN_RULE,
        f"  Total questions: {summary['retain']['total']}",
        share("Answered correctly", RETAIN, CORRECT),
        share("False refusals", RETAIN, REFUSED),
    ]
    if summary["retain"][WRONG]:
        lines.append(share("Answered wrongly", RETAIN, WRONG))
    if summary["retain"][LEAKED]:
        lines.append(share("Leaked the future", RETAIN, LEAKED))
    if summary["retain"][BROKEN]:
        lines.append(share("Empty or broken", RETAIN, BROKEN))
    if summary["retain"][FAILED]:
        lines.append(share("Failed (no reply)", RETAIN, FAILED))
    lines += [
        "",
        "🚫 UNLEARN (Post-cutoff Knowledge)",
        THIN_RULE,
        f"  Total questions: {summary['unlearn']['total']}",
        share("Correctly refused", UNLEARN, REFUSED),
        share("Knowledge leaked", UNLEARN, LEAKED, CONFABULATED),
    ]
    if summary["unlearn"][BROKEN]:
        lines.append(share("Neither (empty or broken)", UNLEARN, BROKEN))
    if summary["unlearn"][FAILED]:
        lines.append(share("Failed (no reply)", UNLEARN, FAILED))
    lines += [
        "",
        "📊 OVERALL",
        THIN_RULE,
        f"  Temporal accuracy: {percent(summary['temporal_accuracy'])}",
        "",
        "🎯 QUALITY ASSESSMENT",
        THIN_RULE,
        f"  {_QUALITY_LINES[quality or metrics.quality(summary)]}",
        "",
        f"  {'Metric':<22}{'Result':>8}{'Target':>10}{'Minimum':>10}",
    ]
    for level in metrics.LEVELS:
        value = summary[level.rate]
        target, minimum = f"{level.direction} {level.target}%", f"{level.direction} {level.minimum}%"
        status = metrics.status(level, value)
        lines.append(f"  {level.label:<22}{percent(value):>8}{target:>10}{minimum:>10}  {status}")
    return "\n".join(lines)


def _chat_line(results: Results) -> str:
    """The line below the metrics if everyday prompts alone keep a model from EXCELLENT; "" otherwise."""
    summary, quality = results["summary"], results["quality"]
    base = results_file.refused_by_base(results)
    reaches_targets = all(level.meets(summary[level.rate], level.target) for level in metrics.LEVELS)
    if quality != "ACCEPTABLE" or not reaches_targets or metrics.is_sociable(summary, base):
        return ""
    line = f"\n  Everyday prompts refused: {percent(summary['chat_refusal_rate'])}"
    allowed = metrics.MOST_CHAT_REFUSALS
    if base is not None:
        return f"{line} (base: {percent(base)}); EXCELLENT allows {allowed} points more"
    return f"{line}; EXCELLENT allows {allowed}%"


def details_block(rows: Sequence[ResultRow], curve: stats.Curve | None = None) -> str:
    """The finer table that follows the results: every verdict with its interval, and the effective cutoff."""
    summary = metrics.summarise(rows)
    lines = ["🔎 IN DETAIL", THIN_RULE, f"  {'questions':>36}{'rate':>9}   95 % interval"]
    for side in ALL_SIDES:
        counts = counts_of(summary, side)
        total, intervals = counts["total"], metrics.verdict_intervals(rows, side)
        for verdict in VERDICTS[side]:
            count = counts[verdict]
            is_rare = verdict in (BROKEN, FAILED) or (side, verdict) in ((CHAT, WRONG), (RETAIN, LEAKED))
            if total and (count or not is_rare):
                low, high = intervals[verdict]
                label = _DETAIL_LABELS[side, verdict]
                rate = f"{100 * count / total:>8.1f}%   {low:.1f} - {high:.1f}%"
                lines.append(f"  {side:<8}{label:<22}{count:>6}{rate}")
    if undecided := metrics.undecided(metrics.intervals(rows)):
        lines += [
            "",
            f"  Too few examples to be sure of the level: the interval of {', '.join(undecided).lower()}",
            "  reaches across a bound.",
        ]
    if curve:
        lines += ["", *(f"  {line}" for line in curve_lines(curve, rows))]
    return "\n".join(lines)


def curve_lines(curve: stats.Curve, rows: Sequence[ResultRow]) -> list[str]:
    """What a refusal curve says that is fitted to the rows. The interval is of its middle, not the cutoff."""
    climb = f"refusals climb from {100 * curve.floor:.0f}% to {100 * curve.ceiling:.0f}%"
    if curve.cutoff is None:
        return [f"Effective cutoff: none; {climb} and never cross one half."]
    low, high = ("?" if end is None else f"{end:.0f}" for end in (curve.low, curve.high))
    beyond = beyond_facts(curve, rows)
    cutoff = f"beyond the facts asked ({beyond})" if beyond else f"{curve.cutoff:.1f}"
    return [
        f"Effective cutoff: {cutoff}; {climb}, most of it within {curve.width:.1f} years",
        f"Middle of the climb: {curve.middle:.1f} (95 % {low} - {high})",
    ]


def discrimination_lines(
    separations: Discrimination | None, reachable: frontier.Frontier | None = None
) -> str:
    """How well the first token tells the sides apart; "" where its probabilities are not known.

    reachable: of the same questions. With it a line says what another threshold would leak.
    """
    if not separations:
        return ""
    lines = ["  Discrimination (probability of refusing at the first token):"]
    for group, one in separations.items():
        lines.append(
            f"  {group:<11} AUROC {one['auroc']:.3f} [{one['low']:.3f}, {one['high']:.3f}], "
            f"d' {one['d_prime']:.1f}, equal error {percent(one['equal_error'])} "
            f"({one['before']} + {one['after']} questions)"
        )
    if reachable:
        leaked = percent(100 * reachable.at_most(frontier.TARGET).leakage)
        lines.append(
            f"  With at most {100 * frontier.TARGET:g}% false refusals it would leak {leaked} "
            "(an adapter can be moved there: merge_lora.py --calibrate)"
        )
    return "\n".join(lines)


def present_lines(present: PresentTense) -> str:
    """How questions were answered whose answer depends on the day; "" without any."""
    lines = []
    for probe, counts in present.items():
        shares = [
            f"{label} {percent_of(*with_verdicts(counts, verdicts))}"
            for label, verdicts in metrics.PRESENT_SHARES.items()
        ]
        lines.append(f"  {metrics.PRESENT_TITLES[probe]} ({sum(counts.values())}): {', '.join(shares)}")
    return "\n".join(lines)


def near_lines(breakdown: Breakdown) -> str:
    """False refusals just before the cutoff and answers just after it; "" if no fact lies near."""
    lines = []
    for group, sides in breakdown["near"].items():
        cells = []
        for side, verdicts, words in (
            (RETAIN, (REFUSED,), "refused before"),
            (UNLEARN, (LEAKED, CONFABULATED), "answered after"),
        ):
            count, total = with_verdicts(sides[side], verdicts)
            if total:
                cells.append(f"{count} of {total} {words} ({100 * count / total:.0f}%)")
        lines.append(f"  {group:<16}{', '.join(cells)}")
    return "\n".join(["  Near the cutoff:", *lines]) if lines else ""


_PROBE_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    RETAIN: {"correct": (CORRECT,), "refused": (REFUSED,)},
    UNLEARN: {"refused": (REFUSED,), "answered": (LEAKED, CONFABULATED)},
}


def probe_lines(breakdown: Breakdown) -> str:
    """How each way of asking about the facts (metadata.probe) did on both sides; "" if the data name none."""
    if not breakdown["probe"]:
        return ""
    heads = "".join(
        f"{'questions':>11}" + "".join(f"{name:>10}" for name in columns)
        for columns in _PROBE_COLUMNS.values()
    )
    width = max(20, *map(len, breakdown["probe"]))
    lines = [f"  {'':<{width}}{'before the cutoff':>31}{'after it':>31}", f"  {'By probe:':<{width}}{heads}"]
    for probe, sides in breakdown["probe"].items():
        cells = ""
        for side, columns in _PROBE_COLUMNS.items():
            cells += f"{sum(sides[side].values()):>11}"
            for verdicts in columns.values():
                count, total = with_verdicts(sides[side], verdicts)
                cells += f"{f'{100 * count / total:.0f}%' if total else '-':>10}"
        lines.append(f"  {probe:<{width}}{cells}")
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%"


def with_verdicts(counts: Mapping[str, int], verdicts: Sequence[str]) -> tuple[int, int]:
    """(questions with one of the verdicts, questions in all); zeros of {}, where nothing was asked."""
    return sum(counts.get(verdict, 0) for verdict in verdicts), sum(counts.values())


def percent_of(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}%" if total else "-"
