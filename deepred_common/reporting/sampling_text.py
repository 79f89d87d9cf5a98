"""The printed lines about sampled replies."""

from __future__ import annotations

from deepred_common.evaluation.results_schema import Sampled, Summary, counts_of, figures_of
from deepred_common.evaluation.sampling import FIGURES

TITLES = {"leak_at": "leaks", "refuse_at": "is refused", "right_at": "is right"}


def sampling_lines(sampled: Sampled | None, summary: Summary) -> str:
    """A line for each figure, from one reply to all of them; "" without samples.

    summary: of the greedy replies to the questions that were sampled; their share stands first.
    """
    if not sampled:
        return ""
    count = sampled["samples"]
    rows = [(side, name) for side, names in FIGURES.items() for name in names if figures_of(sampled, side)]
    ks = [one["k"] for one in figures_of(sampled, rows[0][0])[rows[0][1]]]
    heads = "".join(f"{f'k = {k}':>8}" for k in ks)
    lines = [
        f"  Sampled {count} times at temperature {sampled['temperature']:g}; "
        "questions of which at least one of k replies …",
        f"  {'questions':>26}{'greedy':>8}{heads}   95 % at {count}",
    ]
    for side, name in rows:
        counts = counts_of(summary, side)
        greedy = 100 * counts[FIGURES[side][name]] / counts["total"]
        curve = figures_of(sampled, side)[name]
        cells = "".join(f"{one['percent']:>7.1f}%" for one in curve)
        interval = f"{curve[-1]['low']:.1f} - {curve[-1]['high']:.1f}%"
        lines.append(f"  {side:<8}{TITLES[name]:<12}{counts['total']:>6}{greedy:>7.1f}%{cells}   {interval}")
    return "\n".join(lines)
