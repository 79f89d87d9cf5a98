"""The trainer of a run, assembled from its settings: configuration, callbacks and objective.

trl and transformers are imported at the top, so import this module only where a model is trained.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import ProgressCallback
from trl import SFTConfig

from deepred_common import chat
from deepred_common.examples import ALL_SIDES
from deepred_common.training import batches, callbacks, fused_lora, time_estimate, token_rows
from deepred_common.training.trainer import TemporalTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback

    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings
    from deepred_common.training.setup import Rows

WARMUP_SHARE = 0.1  # of all updates; the spec's
LOGGING_STEPS = 5  # updates between two points of the loss curve


def build_trainer(
    settings: TrainSettings,
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Rows,
    machine: Machine,
    checkpointing: bool,
    watchers: Sequence[TrainerCallback] = (),
    reference: Any = None,
) -> TemporalTrainer:
    """The trainer of a run.

    folder: the run's. model: with its adapter, or one whose weights are all trained. checkpointing: whether
    activations are computed again in the backward pass to save memory. watchers: callbacks besides the
    progress bar. reference: the base, if settings.needs_reference().
    """
    on_cpu = machine.device.type == "cpu"
    config = SFTConfig(
        # Absolute: transformers would take a folder that is named ~ for the home folder.
        output_dir=str(folder.absolute()),
        run_name=folder.name,
        # What is learned.
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP_SHARE,  # below 1, it is a share of all updates
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        max_length=settings.max_seq_length,
        seed=settings.seed,
        data_seed=settings.seed,
        # What it is computed on.
        use_cpu=on_cpu,
        bf16=machine.dtype == torch.bfloat16,
        fp16=machine.dtype == torch.float16,
        gradient_checkpointing=checkpointing,
        dataloader_pin_memory=not on_cpu,
        # Processes whose batches differ in sides run the base unequally often; buffers are constant anyway.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
        # What is validated, saved and shown.
        eval_strategy="steps",
        eval_steps=settings.eval_steps,
        per_device_eval_batch_size=settings.batch_size,
        save_strategy="steps",
        save_steps=settings.save_steps,
        logging_steps=LOGGING_STEPS,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it would hide a loss that is not a number
        disable_tqdm=False,
        report_to=[name for name in ("wandb", "tensorboard") if getattr(settings, name)] or "none",
        trust_remote_code=settings.trust_remote_code,
        # Our rows are tokens already.
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    if on_cpu:
        fused_lora.fuse(model)
    by_side = _by_side(rows.validation)
    objective = settings.objective
    if chat.has_fallback_template(tokenizer):
        objective = objective.for_fallback_template()
    trainer = TemporalTrainer(
        objective=objective,
        reference=reference,
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=rows.training,
        eval_dataset=by_side,
        data_collator=functools.partial(batches.collate, pad_id=tokenizer.pad_token_id),
        callbacks=list(watchers),
    )
    warm_up = 0.0 if on_cpu else time_estimate.GPU_WARM_UP
    clock = callbacks.UpdateClock(time_estimate.of_training(settings, trainer.order, by_side), warm_up)
    trainer.add_callback(callbacks.Resumption(trainer.order))
    trainer.add_callback(callbacks.LogBeforeSaving())
    trainer.add_callback(clock)
    trainer.remove_callback(ProgressCallback)  # it prints every log as a Python dict
    trainer.add_callback(callbacks.ProgressBar(clock))
    return trainer


def _by_side(rows: Any) -> dict[str, Any]:
    """{side: its validation rows}, sorted by length, since the padding of a batch is computed for nothing."""
    by_side = {side: token_rows.of_side(rows, side) for side in ALL_SIDES}
    return {side: rows.sort("length") for side, rows in by_side.items() if len(rows)}
