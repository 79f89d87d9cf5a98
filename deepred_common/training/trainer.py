"""The trainer: trl's SFTTrainer with our loss, its callbacks and its settings."""

import functools
import signal

from deepred_common import cli, devices
from deepred_common.examples import SIDES
from deepred_common.files import sync_folder
from deepred_common.training import batch_order, loss_plot, objective, run_folder, token_rows


def make_trainer_class():
    """trl's SFTTrainer with the loss above. (A function, since trl is heavy to import.)"""
    import torch
    from trl import SFTTrainer

    class TemporalTrainer(SFTTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            # The loss is divided by the labels of all the accumulated batches; the trainer must not divide it again.
            self.model_accepts_loss_kwargs = True

        def _get_train_sampler(self, train_dataset=None):
            lengths, retain = (token_rows.column(self.train_dataset, name) for name in ("length", "retain"))
            return batch_order.BalancedOrder(
                lengths.tolist(),
                retain.tolist(),
                self.get_total_train_batch_size(self.args),
                self.args.data_seed,
            )

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            retain, labels = inputs["retain"], inputs["labels"]
            ids, mask = inputs["input_ids"], inputs["attention_mask"]
            places = objective.places_to_predict(labels)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=places).logits
            base_logits = None
            asked = retain.clone()
            # Processes that share a model must run it equally often, or they wait for each other for ever.
            asked[0] |= self.args.world_size > 1
            if asked.any() and objective.RETAIN_LEARNING < 1:
                # The adapter switched off is the base itself: no second copy of it in memory.
                with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
                    base_logits = model(
                        input_ids=ids[asked],
                        attention_mask=mask[asked],
                        use_cache=False,
                        logits_to_keep=places,
                    ).logits
                base_logits = base_logits[retain[asked]]
            value = objective.loss(logits, labels, retain, base_logits, num_items_in_batch)
            if num_items_in_batch is not None:
                # num_items counts the labels of all processes, whose gradients are then averaged.
                value = value * self.accelerator.num_processes
            return (value, {}) if return_outputs else value

        def _save_checkpoint(self, *args, **kwargs):
            super()._save_checkpoint(*args, **kwargs)
            # Else a power cut minutes later could still take it: the system writes files when it likes.
            if self.is_world_process_zero():
                sync_folder(run_folder.checkpoint_path(self.args.output_dir, self.state.global_step))

        def save_now(self):
            """Save a checkpoint of the last whole update, if there is none yet; the folder's path, or None before the first."""
            if self.state.global_step == 0:
                return None
            folder = run_folder.checkpoint_path(self.args.output_dir, self.state.global_step)
            if not folder.exists() or run_folder.checkpoint_fault(folder):
                self.optimizer.zero_grad()
                self._save_checkpoint(self.model, trial=None)
            return folder

    return TemporalTrainer


WARMUP_RATIO = 0.1


def build_trainer(args, folder, model, tokenizer, training, validation, dtype, checkpointing, stopper):
    """trl's SFTTrainer over the rows of token_rows.py; it is told to leave them as they are."""
    import torch
    from transformers import ProgressCallback
    from trl import SFTConfig

    on_cpu = devices.pick_device().type == "cpu"
    reports = [name for name in ("wandb", "tensorboard") if getattr(args, name)]
    config = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=args.epochs,
        learning_rate=args.learning_rate,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP_RATIO,  # below 1, a share of all steps
        eval_strategy="steps",
        eval_steps=args.eval_steps,
        save_strategy="steps",
        save_steps=args.save_steps,
        disable_tqdm=False,
        logging_steps=5,
        logging_first_step=True,
        report_to=reports or "none",
        run_name=folder.name,
        use_cpu=on_cpu,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        gradient_checkpointing=checkpointing,
        max_length=args.max_seq_length,
        seed=args.seed,
        data_seed=args.seed,
        prediction_loss_only=True,
        dataloader_pin_memory=not on_cpu,
        # Processes whose batches differ in their sides run the base unequally often; buffers are constant anyway.
        ddp_broadcast_buffers=False,
        ddp_find_unused_parameters=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    # Sorted by length, since the padding of a validation batch is computed for nothing.
    by_side = {
        side: chosen.sort("length") for side in SIDES if len(chosen := token_rows.of_side(validation, side))
    }
    trainer = make_trainer_class()(
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=training,
        eval_dataset=by_side,
        data_collator=functools.partial(objective.collate, pad_id=tokenizer.pad_token_id),
        callbacks=[stopper, make_artist(folder / "training_curves.png", folder.name)],
    )
    trainer.remove_callback(ProgressCallback)  # it prints every log as a Python dict
    trainer.add_callback(make_bar())
    return trainer


def make_bar():
    """A trainer callback: one bar on stderr with loss and learning rate, and one line for each validation."""
    from transformers import ProgressCallback

    class Bar(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if self.training_bar is None or not logs:
                return
            if "loss" in logs:
                self.training_bar.set_postfix_str(
                    f"loss {logs['loss']:.3f}, learning rate {logs['learning_rate']:.1e}"
                )
            for name, value in logs.items():
                if name.startswith("eval_") and name.endswith("_loss"):
                    side = name.removeprefix("eval_").removesuffix("_loss")
                    self.training_bar.clear()
                    cli.progress(f"step {state.global_step}: {side} validation loss {value:.3f}")

    return Bar()


def make_artist(path, title):
    """A trainer callback: the curves in the PNG file `path`, drawn anew after each validation and at the end."""
    from transformers import TrainerCallback

    class Artist(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            if state.is_world_process_zero:
                loss_plot.draw(state.log_history, path, title)

        on_train_end = on_evaluate

    return Artist()


def make_stopper():
    """A trainer callback: the first Ctrl-C or SIGTERM saves a checkpoint at the end of the step and stops.

    Its `asked` tells whether that happened. A second Ctrl-C stops at once.
    """
    from transformers import TrainerCallback

    class StopAndSave(TrainerCallback):
        asked = False
        before = None

        def on_train_begin(self, args, state, control, **kwargs):
            def ask(signum, frame):
                if self.asked:
                    raise KeyboardInterrupt
                self.asked = True
                cli.progress(
                    "\nstopping: this step is finished and a checkpoint saved (once more to stop at once) …"
                )

            self.before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}

        def on_train_end(self, args, state, control, **kwargs):
            for number, handler in self.before.items():
                signal.signal(number, handler)

        def on_step_end(self, args, state, control, **kwargs):
            if self.asked:
                control.should_save = control.should_training_stop = True

    return StopAndSave()
