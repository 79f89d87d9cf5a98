"""The trainer: trl's SFTTrainer with our objective and batch order, and checkpoints that survive a power cut.

trl and transformers are imported at the top, so import this module only where a model is trained.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import ProgressCallback
from trl import SFTTrainer

from deepred_common import devices, refusal_openers
from deepred_common.examples import ALL_SIDES
from deepred_common.files import sync_folder
from deepred_common.models.folders import is_whole_model
from deepred_common.training import (
    batch_order,
    batches,
    checkpoints,
    mixed_precision,
    packing,
    recovery,
    token_rows,
    validation,
    whole_model,
)
from deepred_common.training.objectives.protocol import EXAMPLES, LossInputs

if TYPE_CHECKING:
    import numpy as np

    from deepred_common.training.objectives.protocol import Objective


class TemporalTrainer(SFTTrainer):
    """trl's SFTTrainer, which minimises `objective`.

    recovery.Diverged at the first loss that is not a finite number, before the update that it would cause.
    """

    objective: Objective
    _last_batch: dict[str, torch.Tensor] | None = None

    def __init__(self, *args: Any, objective: Objective, reference: Any = None, **kwargs: Any) -> None:
        """reference: the base, if all weights are trained and the objective needs it; else None."""
        super().__init__(*args, **kwargs)
        # Over a quantised base trl makes the adapter bf16, which loses most updates: they are too small.
        for weight in self.model.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()
        self.objective = objective
        self._reference = reference
        # Without either there is no base to ask: its sides have no rows then.
        self._has_base = reference is not None or isinstance(self.model, PeftModel)
        if reference is not None:
            reference.to(self.args.device).eval().requires_grad_(False)
        self._refusal_openers = refusal_openers.token_ids(self.processing_class)
        self._losses = torch.zeros(2)  # of a validation: the sum so far, and what it is to be the mean of
        self._log_odds: dict[str, np.ndarray] = {}  # of the latest validation: {side: of each row}
        # Not on a GPU, where it was never measured.
        self._packs = self.args.use_cpu and packing.can_pack(self.model.config, self.args.max_length)
        if self._packs:
            packing.take_packed_rows(self.model)
            if reference is not None:
                packing.take_packed_rows(reference)
        # The loss is divided by the items of all accumulated batches; the trainer must not divide it again.
        self.model_accepts_loss_kwargs = True

    @functools.cached_property
    def order(self) -> batch_order.BalancedOrder:
        """In which order the training rows are shown."""
        return batch_order.BalancedOrder(
            token_rows.column(self.train_dataset, "length").tolist(),
            token_rows.column(self.train_dataset, "side").tolist(),
            self.get_total_train_batch_size(self.args),
            self.args.seed,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The objective's loss of one batch of batches.collate, for the trainer."""
        if not return_outputs:  # a validation wants the log-odds of all rows
            inputs = self._with_a_loss(inputs)
        logits = self._logits(model, inputs)
        loss = self.objective.loss(
            LossInputs(
                logits=logits,
                labels=inputs["labels"],
                decisions=inputs["decisions"],
                sides=inputs["sides"],
                learns_wording=inputs["learns_wording"],
                other_of=inputs["other_of"],
                base_logits=self._base_logits(model, inputs),
                num_items=num_items_in_batch,
            )
        )
        if num_items_in_batch is not None:
            # num_items counts the items of all processes, whose gradients are then averaged.
            loss = loss * self.accelerator.num_processes
        if not return_outputs:
            return loss
        log_odds = validation.refusal_log_odds(
            logits, inputs["labels"], inputs["decisions"], self._refusal_openers
        )
        if log_odds is not None:
            log_odds = log_odds[inputs["other_of"] < 0]  # an example with two replies is one question
        return loss, log_odds

    def _with_a_loss(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The rows of a batch that the objective has a loss of; one row, where it has none."""
        if set(self.objective.loss_sides) == set(ALL_SIDES):
            return inputs
        sides = torch.tensor([ALL_SIDES.index(side) for side in self.objective.loss_sides])
        chosen = torch.isin(inputs["sides"], sides.to(inputs["sides"].device))
        if not chosen.any():  # the trainer wants a gradient
            chosen[0] = True
        return batches.of_rows(inputs, chosen)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """What the objective's loss is the mean of, counted over an update's batches in all processes."""
        if self.objective.mean_over != EXAMPLES:
            return super()._get_num_items_in_batch(batch_samples, device)
        count = sum((batch["other_of"] < 0).sum() for batch in batch_samples).to(device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def _logits(self, model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(labels, vocabulary) of what a model predicts for each label, row after row, as computed."""
        mixed_precision.leave_outputs_uncast(self.accelerator.unwrap_model(model))
        return (packing.packed_logits if self._packs else packing.padded_logits)(model, inputs)

    def _base_logits(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The base's logits for the rows that the objective needs them of; None if there are no such rows."""
        if not (self.objective.base_sides and self._has_base):
            return None
        needed = self.objective.needs_base(inputs["sides"], inputs["learns_wording"])
        computed = needed.clone()
        # Processes that share a model must run it equally often, or they wait for each other for ever.
        computed[0] |= self.args.world_size > 1
        if not computed.any():
            return None
        rows = {name: values[computed] for name, values in inputs.items()}
        with torch.no_grad():
            if self._reference is not None:
                logits = self._logits(self._reference, rows)
            else:
                # The adapter switched off is the base itself: no second copy of it in memory.
                with self.accelerator.unwrap_model(model).disable_adapter():
                    logits = self._logits(model, rows)
        labels = batches.predicts_label(rows["labels"]).sum(1)
        return logits[needed[computed].repeat_interleave(labels)]

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._require_finite(loss, "training loss")
        self._last_batch = inputs
        return loss

    def prediction_step(
        self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """The loss of a validation batch, and each row's refusal_log_odds as what is predicted."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, log_odds = self.compute_loss(model, inputs, return_outputs=True)
        is_item = inputs["other_of"] < 0
        if self.objective.mean_over != EXAMPLES:
            is_item = batches.predicts_label(inputs["labels"])
        self._losses += torch.stack([loss.double() * is_item.sum(), is_item.sum()])
        return loss, log_odds, None

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The losses of each side, and validation.figures."""
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        if eval_dataset is not None:  # one side; the call without a dataset calls this for each
            return metrics
        figures = validation.figures(self._log_odds)
        self.log(figures)
        metrics |= figures
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._losses = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        output = super().evaluation_loop(*args, **kwargs)
        side = kwargs["metric_key_prefix"].removeprefix("eval_")
        # The trainer's own is the mean of the batches' means, which --batch_size changes. Rows that fill up
        # an uneven split over several processes count twice.
        total, items = self.accelerator.reduce(self._losses).tolist()
        output.metrics[f"eval_{side}_loss"] = total / items
        if output.predictions is not None:  # gathered from all processes
            self._log_odds[side] = output.predictions
        for name, value in output.metrics.items():
            if name.endswith("_loss") and not math.isfinite(value):  # the same in all processes
                raise recovery.Diverged("validation loss")
        if side not in self.objective.loss_sides:
            output.metrics.pop(f"eval_{side}_loss", None)  # 0, whatever the model
        return output

    def _require_finite(self, values: torch.Tensor, what: str) -> None:
        finite = torch.isfinite(values).all()
        if self.args.world_size > 1:
            # All processes stop at the same place, or those that go on wait for the others for ever.
            finite = self.accelerator.gather(finite.int().reshape(1)).min()
        if not finite:
            raise recovery.Diverged(what)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if not math.isfinite(logs.get("grad_norm", 0.0)):
            # In fp16 a gradient may overflow: that update is skipped, and its norm is no number for a file.
            del logs["grad_norm"]
        super().log(logs, start_time)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if is_whole_model(resume_from_checkpoint):
            whole_model.load_checkpoint(self.model, Path(resume_from_checkpoint), self.args.trust_remote_code)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        scheduler = getattr(self.lr_scheduler, "scheduler", self.lr_scheduler)  # accelerate may wrap it
        if checkpoint is None or not isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            return
        # The checkpoint's learning rate came with them; with --resume_anyway this run's may be another.
        scheduler.base_lrs = [self.args.learning_rate] * len(scheduler.lr_lambdas)
        for group, schedule in zip(self.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["initial_lr"] = self.args.learning_rate
            group["lr"] = self.args.learning_rate * schedule(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # the one that is logged

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self._last_batch is not None:
            # The last update may have spoilt the weights; a run must not be resumed from those.
            inputs = self._prepare_inputs(self._last_batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                logits = self._logits(model, inputs)
            self._require_finite(logits, "model's output")
        self._write_checkpoint(model, trial)
        # If this was asked for by a signal, the first process to end makes the launcher end the others.
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        # Otherwise a power cut minutes later could still destroy it: the system writes files when it likes.
        if self.is_world_process_zero():
            sync_folder(checkpoints.path_of(str(self.args.output_dir), self.state.global_step))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: trl's card, written with each checkpoint, knows neither base nor data. model_card does."""

    def close_bar(self) -> None:
        """End the line of the progress bar, which an error leaves open: its message belongs on the next."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ProgressCallback) and callback.training_bar is not None:
                callback.training_bar.close()

    def mean_loss(self) -> float | None:
        """The training loss of all updates of the run, also of those before a resume; None if not known."""
        total, last = 0.0, 0
        for entry in self.state.log_history:
            if "loss" in entry:  # the mean since the entry before
                total += entry["loss"] * (entry["step"] - last)
                last = entry["step"]
        return total / last if last else None

    def save_now(self) -> Path | None:
        """Save a checkpoint of the last whole update, if there is none. Its path; None before any update.

        Where this process cannot save alone, as a model that is split over several: the newest checkpoint.
        """
        if self.state.global_step == 0:
            return None
        if devices.splits_model():
            return checkpoints.latest(str(self.args.output_dir))
        folder = checkpoints.path_of(str(self.args.output_dir), self.state.global_step)
        if not folder.exists() or checkpoints.fault(folder):
            if self.optimizer is not None:
                self.optimizer.zero_grad()  # of the update that failed
            self._write_checkpoint(self.model, trial=None)
        return folder if checkpoints.fault(folder) is None else checkpoints.latest(str(self.args.output_dir))
