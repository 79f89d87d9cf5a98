"""The result of a finished run: which update is kept, what is saved of it, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common import provenance
from deepred_common.examples import ALL_SIDES
from deepred_common.training import recovery, run_folder, validation
from deepred_common.training.run_folder import Manifest, Saver

if TYPE_CHECKING:
    from deepred_common.training.settings import TrainSettings
    from deepred_common.training.trainer import TemporalTrainer


class Result(NamedTuple):
    """A finished training: its run folder, and the losses and times of training and validation.

    metrics: train_loss is of the whole run (None: not known), train_runtime since it was resumed; those of
    validation are of the update in final/. choice: what to say if that is not the last one.
    """

    folder: Path
    metrics: dict[str, Any]
    choice: str


def save(
    settings: TrainSettings,
    folder: Path,
    trainer: TemporalTrainer,
    manifest: Manifest,
    training_metrics: dict[str, Any],
    keeps_best: bool,
    saver: Saver,
) -> Result:
    """Choose the update whose weights are kept, and write final/, the results files and run.json.

    training_metrics: of the whole run. keeps_best: the weights of the best validations lie in the run folder.
    saver: writes the last ones.
    """
    history = trainer.state.log_history
    kept = last = trainer.state.global_step
    # Resumed with fewer epochs, from a checkpoint beyond their end, a run has no validation of its end yet.
    if not validation.metrics_at(history, last):
        with recovery.explained(settings, folder, trainer):
            trainer.evaluate()
    if keeps_best:
        kept = validation.chosen(history, validation.kept_updates(folder), last)
    evaluation = validation.metrics_at(history, kept)
    manifest |= {"finished": provenance.now(), "updates": last, "kept_update": kept}
    kept_folder = None if kept == last else validation.weights_path(folder, kept)
    with recovery.explained(settings, folder, trainer):
        run_folder.save_result(folder, trainer, manifest, training_metrics, evaluation, kept_folder, saver)
    choice = validation.choice_text(history, kept, last, settings.product)
    return Result(folder, training_metrics | evaluation, choice)


def text(result: Result, is_resumed: bool) -> str:
    """What is printed of it."""
    metrics = result.metrics
    losses = [] if metrics["train_loss"] is None else [f"training loss {metrics['train_loss']:.3f}"]
    losses += [
        f"{side} validation loss {metrics[f'eval_{side}_loss']:.3f}"
        for side in ALL_SIDES
        if f"eval_{side}_loss" in metrics
    ]
    minutes = metrics["train_runtime"] / 60
    since = " since it was resumed" if is_resumed else ""
    lines = [f"Training finished in {minutes:.1f} min{since}: {', '.join(losses)}"]
    return "\n".join([*lines, *filter(None, (validation.text(metrics), result.choice))])
