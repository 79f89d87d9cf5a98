"""training_curves.png: what a run has learned so far, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepred_common.examples import ALL_SIDES
from deepred_common.files import whole_file
from deepred_common.training import validation

TRAINING, LEARNING_RATE, AUROC = "training", "learning rate", "AUROC"
COLOURS = {TRAINING: "#8a8a8a", "retain": "#1b6ca8", "unlearn": "#c2571a", "chat": "#3b8a4b"}
# The trainer's name of a logged value -> the name of its series. Validation is kept apart by side: the mean
# of the two hides a model that refuses everything.
LOGGED = {"loss": TRAINING, "learning_rate": LEARNING_RATE, validation.AUROC: AUROC} | {
    f"eval_{side}_loss": side for side in ALL_SIDES
}
SIZE_INCHES, DOTS_PER_INCH = (8, 5.5), 110

Series = dict[str, list[tuple[int, float]]]


def series(history: Iterable[Mapping[str, Any]]) -> Series:
    """The (update, value) pairs of each series in a trainer's log history, by LOGGED's names."""
    by_name: Series = {name: [] for name in LOGGED.values()}
    for entry in history:
        for key, name in LOGGED.items():
            if key in entry:
                by_name[name].append((entry["step"], entry[key]))
    return by_name


def draw(history: Iterable[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draw a trainer's log history to the PNG file `path`, whole or not at all: losses above, AUROC of
    refusing (if there is one) and learning rate below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_name = series(history)
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    heights = (4, 1.5, 1) if by_name[AUROC] else (4, 1)
    losses, *others, rate = panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for name in (TRAINING, *ALL_SIDES):
        if not by_name[name]:
            continue
        updates, values = zip(*by_name[name], strict=True)
        if name == TRAINING:
            losses.plot(updates, values, color=COLOURS[name], label=name, linewidth=1)
        else:  # few points, which a line alone would hide
            label = f"{name}, validation"
            losses.plot(
                updates, values, color=COLOURS[name], label=label, linewidth=2, marker="o", markersize=4
            )
    losses.set_title(title, loc="left", fontsize=10)
    losses.set_ylabel("loss (nats)")
    if all(value >= 0 for name in (TRAINING, *ALL_SIDES) for _, value in by_name[name]):
        losses.set_ylim(bottom=0)
    losses.grid(alpha=0.25)
    losses.legend(frameon=False)
    for aurocs in others:
        aurocs.plot(
            *zip(*by_name[AUROC], strict=True), color="#333333", linewidth=2, marker="o", markersize=4
        )
        aurocs.set_ylabel("AUROC of refusing")
        aurocs.grid(alpha=0.25)
    if by_name[LEARNING_RATE]:
        rate.plot(*zip(*by_name[LEARNING_RATE], strict=True), color="#555555", linewidth=1)
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate.set_xlabel("weight updates")
    rate.grid(alpha=0.25)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")
