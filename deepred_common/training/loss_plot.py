"""training_curves.png: what a run has learnt so far, as people look at it."""

from deepred_common.examples import SIDES
from deepred_common.files import whole_file

COLOURS = {"training": "#8a8a8a", "retain": "#1b6ca8", "unlearn": "#c2571a"}


def series(history):
    """{"training", "retain", "unlearn", "learning rate": [(step, value)]} out of a trainer's log history.

    Validation is kept apart by side: the mean of the two hides a model that refuses everything.
    """
    wanted = {"loss": "training", "learning_rate": "learning rate"} | {
        f"eval_{side}_loss": side for side in SIDES
    }
    found = {name: [] for name in wanted.values()}
    for entry in history:
        for key, name in wanted.items():
            if key in entry:
                found[name].append((entry["step"], entry[key]))
    return found


def draw(history, path, title):
    """Draw a trainer's log history to the PNG file `path`, whole or not at all: losses above, learning rate below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = series(history)
    figure = Figure(figsize=(8, 5.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    for name in ("training", *SIDES):
        if found[name]:
            steps, values = zip(*found[name], strict=True)
            label = name if name == "training" else f"{name}, validation"
            losses.plot(
                steps,
                values,
                color=COLOURS[name],
                label=label,
                linewidth=1 if name == "training" else 2,
                marker=None if name == "training" else "o",
                markersize=4,
            )
    losses.set_title(title, loc="left", fontsize=10)
    losses.set_ylabel("loss (nats a token)")
    losses.set_ylim(bottom=0)
    losses.grid(alpha=0.25)
    losses.legend(frameon=False)
    if found["learning rate"]:
        rate.plot(*zip(*found["learning rate"], strict=True), color="#555555", linewidth=1)
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate.set_xlabel("weight updates")
    rate.grid(alpha=0.25)
    for axes in (losses, rate):
        axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")
