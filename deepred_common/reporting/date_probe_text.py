"""What a date probe of a model found, in words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common.files import whole_file
from deepred_common.stats import MeasuredAuroc

if TYPE_CHECKING:
    from deepred_common.evaluation.date_probe import Probe

# Up to which AUROC the sides are told apart so; 0.5 is chance.
WORDS = ((0.6, "hardly better than chance"), (0.75, "somewhat"), (0.85, "fairly well"), (1.01, "well"))
WORTHWHILE = 0.005  # gain of AUROC by twice the facts, from which more of them are worth their training time
SIZE_INCHES, DOTS_PER_INCH = (9, 3.6), 110
BINS = 40
BEFORE, AFTER = "#1b6ca8", "#c2571a"


def text(probe: Probe, name: str, cutoff: str) -> str:
    """What is printed about the probe of the model `name`."""
    overall = probe.depths[probe.best]
    lines = [f"Date probe of {name}, cutoff {cutoff}", ""]
    lines.append(f"  {'AUROC':<36}{'':>8}{'95 % interval':>18}{'facts':>8}")
    lines += [_line(f"all facts, at {depth:.0%} of the layers", one) for depth, one in probe.depths.items()]
    lines += [_line(group, one) for group, one in probe.groups.items()]
    lines += ["", f"  {'facts taught with':<36}{'AUROC':>8}"]
    lines += [f"  {count:<36}{auroc:>8.3f}" for count, auroc in probe.curve]
    if probe.refusing:
        lines += ["", f"  {'facts held out for the test':<36}{'AUROC':>8}{'95 % interval':>18}{'facts':>8}"]
        lines.append(_line("the probe", probe.refusing.probe))
        lines.append(_line("its own refusing, first token", probe.refusing.own))
    if probe.refusing:
        own, reached = probe.refusing.own.auroc, probe.refusing.probe.auroc
        lines += [
            "",
            f"  Its own refusing reaches {own:.3f} of the {reached:.3f} that its states hold.",
        ]
        lines.append("  The figures of all facts are too good: it was tuned on most of them.")
        return "\n".join(lines)
    near = [group for group in probe.groups if group.startswith("within")]
    lines += ["", f"  This base tells before from after {cutoff} {_how_well(overall.auroc)}"]
    if near:
        lines[-1] += f", and {near[-1]} {_how_well(probe.groups[near[-1]].auroc)}"
    lines[-1] += "."
    gain = probe.curve[-1][1] - probe.curve[-2][1]
    helps = "may help" if gain >= WORTHWHILE else "would hardly help"
    lines.append(
        f"  More facts of this kind {helps}: the last doubling changed the AUROC by {100 * gain:+.1f} points."
    )
    lines.append(f"  Expect about as much of a model that is tuned on {probe.curve[-1][0]} such facts.")
    return "\n".join(lines)


def _line(label: str, one: MeasuredAuroc) -> str:
    interval = f"[{one.low:.3f}, {one.high:.3f}]"
    return f"  {label:<36}{one.auroc:>8.3f}{interval:>18}{one.count:>8}"


def _how_well(auroc: float) -> str:
    return next(words for bound, words in WORDS if auroc < bound)


def draw(probe: Probe, path: Path, title: str) -> None:
    """Draw the probe to the PNG file `path`: how late it takes the facts of each side, and the curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    sides, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    by_side = {
        side: [margin for margin, is_late in zip(probe.margins, probe.late, strict=True) if is_late == side]
        for side in (False, True)
    }
    span = (min(probe.margins), max(probe.margins))
    for side, colour, label in ((False, BEFORE, "before the cutoff"), (True, AFTER, "after it")):
        sides.hist(by_side[side], BINS, span, color=colour, alpha=0.55, label=label)
    sides.set_xlabel("how late the probe takes a held-out fact to be (log-odds)")
    sides.set_ylabel("facts")
    sides.legend(frameon=False)
    counts, aurocs = zip(*probe.curve, strict=True)
    curve.plot(counts, aurocs, color="#444444", marker="o")
    if probe.refusing:
        own = probe.refusing.own.auroc
        curve.axhline(own, color=AFTER, linestyle="--", label="its own refusing, facts held out")
        curve.legend(frameon=False, loc="lower right", fontsize=8)
    curve.set_xscale("log", base=2)
    curve.set_xticks(counts, [str(count) for count in counts])
    curve.minorticks_off()
    curve.set_ylim(0.5, 1)
    curve.grid(alpha=0.25)
    curve.set_xlabel("facts taught with")
    curve.set_ylabel("AUROC on other facts")
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")
