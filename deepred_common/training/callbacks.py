"""What watches a training: the clock, the progress bar, the loss curves, and the weights that are kept.

transformers is imported at the top, so import this module only where a model is trained.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from deepred_common import cli
from deepred_common.examples import ALL_SIDES
from deepred_common.files import whole_folder
from deepred_common.training import checkpoints, loss_plot, run_folder, validation
from deepred_common.training.batch_order import BalancedOrder
from deepred_common.training.time_estimate import TIMED_UPDATES, TimeEstimate, shown_time


class UpdateClock(TrainerCallback):
    """Times updates, validations and checkpoints for a TimeEstimate, and prints the first estimate.

    `seconds_left` is the newest estimate, None before the first. Not timed are the first update, in which
    memory is allocated, and on a GPU all updates of the warm-up. Add the clock after callbacks that work
    after a validation: their time then counts as part of the validation.
    """

    def __init__(
        self, estimate: TimeEstimate, warm_up: float = 0.0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """warm_up: seconds from the start whose updates are not timed. now: a clock, in seconds."""
        self.seconds_left: float | None = None
        self._estimate, self._warm_up, self._now = estimate, warm_up, now
        self._start = self._lap_start = now()
        self._validation = 0.0  # seconds so far: each side is validated, and reported, by itself
        self._is_first = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._start = self._lap_start = self._now()

    def _lap(self) -> float:
        """Seconds since the last update, validation or checkpoint ended."""
        end = self._now()
        seconds, self._lap_start = end - self._lap_start, end
        return seconds

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._validation:
            self._estimate.add_validation(self._validation)
            self._validation = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        seconds = self._lap()
        if self._is_first or self._lap_start - self._start < self._warm_up:
            self._is_first = False
            return
        self._estimate.add_update(state.global_step, seconds)
        is_first_estimate = self.seconds_left is None
        self.seconds_left = self._estimate.seconds_left(state.global_step)
        if is_first_estimate and self.seconds_left and state.global_step < state.max_steps:
            with tqdm.external_write_mode(file=sys.stderr):
                cli.progress(
                    f"about {shown_time(self.seconds_left)} of training left, "
                    f"measured over {TIMED_UPDATES} updates"
                )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._validation += self._lap()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._estimate.add_checkpoint(self._lap())


class ProgressBar(ProgressCallback):
    """One bar on stderr with the time left, loss and learning rate, and one line for each validation."""

    def __init__(self, clock: UpdateClock) -> None:
        """clock: what knows the time left; add it to the trainer before the bar."""
        super().__init__()
        self._clock = clock

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.current_step = state.global_step  # of a resumed run, the checkpoint's
        if state.is_world_process_zero:
            self.training_bar = _UpdateBar(
                self._clock,
                total=state.max_steps,
                initial=state.global_step,
                unit="update",
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}, {rate_fmt}{postfix}]",
                dynamic_ncols=True,
            )

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
                with tqdm.external_write_mode(file=sys.stderr):
                    cli.progress(f"update {state.global_step}: {side} validation loss {value:.3f}")
        if text := validation.text(logs):
            with tqdm.external_write_mode(file=sys.stderr):
                cli.progress(f"update {state.global_step}: {text}")


class _UpdateBar(tqdm):
    """A bar whose time left is the clock's: tqdm's own takes all updates for equally long."""

    def __init__(self, clock: UpdateClock, **options: Any) -> None:
        self._clock = clock
        super().__init__(**options)

    @property
    def format_dict(self) -> dict[str, Any]:
        seconds = self._clock.seconds_left
        left = "?" if seconds is None else tqdm.format_interval(seconds)
        return {**super().format_dict, "left": left}


class LossCurves(TrainerCallback):
    """The curves in a PNG file, drawn anew after each validation and at the end."""

    def __init__(self, path: Path, title: str) -> None:
        self._path, self._title = path, title

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        # Each side is reported by itself, and then all together. In a run's first validation it is not known
        # yet which sides follow, so its first side is drawn too.
        logged = {name for entry in state.log_history for name in entry}
        losses = logged.intersection(f"eval_{side}_loss" for side in ALL_SIDES)
        if losses <= (metrics or {}).keys():
            self.on_train_end(args, state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            loss_plot.draw(state.log_history, self._path, self._title)


class Resumption(TrainerCallback):
    """What transformers' trainer leaves out when it resumes a run; of a new run it changes nothing."""

    def __init__(self, order: BalancedOrder) -> None:
        """order: in which the training rows are shown."""
        self._order = order

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The state is the checkpoint's, and with it how often that run was to save and validate.
        state.compute_steps(args, state.max_steps)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # With several processes, accelerate skips what is done in a way that the trainer's set_epoch misses.
        self._order.set_epoch(state.global_step * state.num_train_epochs // state.max_steps)


class LogBeforeSaving(TrainerCallback):
    """Logs the training loss with every checkpoint, so that a resumed run knows the loss of all its updates.

    Add it after callbacks that ask for a checkpoint.
    """

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_log = control.should_log or control.should_save


class OldCheckpoints(TrainerCallback):
    """Removes the oldest checkpoints of a run after each save, until `limit` are left.

    transformers' own save_total_limit removes them before the new one is on the disk for certain, and also
    the one that the run was resumed from.
    """

    def __init__(self, folder: Path, limit: int, resumed_from: Path | None) -> None:
        self._folder, self._limit, self._resumed_from = folder, limit, resumed_from

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            newest = checkpoints.path_of(self._folder, state.global_step)
            checkpoints.remove_old(self._folder, self._limit, (newest, self._resumed_from))


class BestWeights(TrainerCallback):
    """Keeps the weights of the best validation so far, in a folder of their own: checkpoints are rarer.

    The one before it stays until the next checkpoint: a run resumed from the last one may need it.
    """

    def __init__(self, folder: Path, save: run_folder.Saver) -> None:
        self._folder, self._save = folder, save
        self._saved = 0  # the update of the newest checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._saved = state.global_step
        # What is still to be trained may end elsewhere this time.
        self._remove(state, [u for u in validation.kept_updates(self._folder) if u > self._saved])

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or validation.AUROC not in (metrics or {}):
            return
        kept, update = validation.kept_updates(self._folder), state.global_step
        if validation.best(state.log_history, [*kept, update]) == update:
            with whole_folder(validation.weights_path(self._folder, update)) as folder:
                self._save(model, folder)
            self._remove(state, [u for u in kept if self._saved < u < update])

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._saved = state.global_step
        kept = validation.kept_updates(self._folder)
        best = validation.best(state.log_history, kept)
        self._remove(state, [u for u in kept if u != best])

    def _remove(self, state: TrainerState, updates: Sequence[int]) -> None:
        if state.is_world_process_zero:
            for update in updates:
                shutil.rmtree(validation.weights_path(self._folder, update), ignore_errors=True)
