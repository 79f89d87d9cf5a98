"""What watches a training beside the trainer: the progress bar, the loss curves, and stopping on request.

transformers is imported at the top, so import this module only where a model is trained.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from deepred_common import cli
from deepred_common.training import loss_plot


class ProgressBar(ProgressCallback):
    """One bar on stderr with loss and learning rate, and one line for each validation."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self.training_bar is None or not logs:
            return
        if "loss" in logs:
            text = f"loss {logs['loss']:.3f}, learning rate {logs['learning_rate']:.1e}"
            self.training_bar.set_postfix_str(text)
        for name, value in logs.items():
            if name.startswith("eval_") and name.endswith("_loss"):
                side = name.removeprefix("eval_").removesuffix("_loss")
                self.training_bar.clear()
                cli.progress(f"step {state.global_step}: {side} validation loss {value:.3f}")


class LossCurves(TrainerCallback):
    """The curves in a PNG file, drawn anew after each validation and at the end."""

    def __init__(self, path: Path, title: str) -> None:
        self._path, self._title = path, title

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            loss_plot.draw(state.log_history, self._path, self._title)

    on_train_end = on_evaluate


class StopAndSave(TrainerCallback):
    """The first Ctrl-C or SIGTERM saves a checkpoint after the update and stops; a second stops at once.

    `requested` is True once that has happened.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._handlers = {
            number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.requested:
            control.should_save = control.should_training_stop = True

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        cli.progress("\nstopping after this update and its checkpoint (press Ctrl-C again to stop at once) …")
