#!/usr/bin/env python3
"""How fast does training go, and how well? trl's SFTTrainer beside ours, each in a process of its own.

The same base, training examples, updates, rows an update, learning rate, LoRA shape and seed. Prints for
each: real (not padding) training tokens a second; seconds from start to the first update; peak memory; and
plain cross-entropy on the shipped validation examples, measured by one function for all. Of ours, also what
finetune_temporal.py estimates: the memory beforehand, and after ten updates the time left, as a multiple of
the time that it then took.

    python bench/train.py --model output/base/SmolLM2-135M-Instruct --rows 320

Rows of the table:
  trl, defaults   the spec's settings and the library's defaults (weights as saved, recomputed activations)
  trl, fp32       the same in fp32 without recomputation, where the processor has no bf16
  ours, plain     our trainer with trl's objective (--objective sft): cross-entropy alone
  ours            as it ships: retain rows towards the base's own predictions, a second forward pass
  npo, dpo, …     with --only: our trainer with another of its objectives

"of peak" is 4 operations a token and weight of a linear layer (forward, and backward through frozen weights;
cross-entropy needs no more), over what large matrix products reach on this machine, measured beforehand.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths, training_rows
from deepred_common.examples import SIDES, Example, balanced_sample, read_examples
from deepred_common.files import json_text
from deepred_common.models import loading
from deepred_common.training import memory_estimate
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.objectives.protocol import Objective
from deepred_common.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LEARNING_RATE, LORA_R, LORA_ALPHA, MAX_LENGTH, SEED = 2e-4, 16, 32, 512, 42
ROWS_PER_UPDATE = 16
TRL_BATCH_SIZE = 4
NEVER = 100_000  # updates between validations, and between checkpoints: neither is timed
STARTED = time.perf_counter()


@dataclass
class Trained:
    """A trained model, and what was noted meanwhile. Times are of time.perf_counter, in seconds.

    estimated_bytes: peak memory as estimated beforehand. time_ratio: the time left as estimated after ten
    updates, over the time that it then took. None where there is no such estimate.
    """

    model: Any
    began: float
    ended: float
    estimated_bytes: int | None = None
    time_ratio: float | None = None


def training_examples(count: int) -> list[Example]:
    """`count` shipped training examples, even between the sides."""
    examples = [e for side in SIDES for e in read_examples(paths.dataset_file(f"{side}_train"), side)]
    return balanced_sample(examples, count)


def update_times() -> Any:
    """A trainer callback that notes when the first update began and the latest ended, and the first estimate.

    clock: the callbacks.UpdateClock to ask for it, None for trl's trainer. (A function, since transformers is
    heavy.)
    """
    from transformers import TrainerCallback

    class UpdateTimes(TrainerCallback):
        began: float | None = None
        ended = 0.0
        clock: Any = None
        estimate: tuple[float, float] | None = None  # when it was made, and the seconds left

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.began = self.began or time.perf_counter()
            if self.clock and self.clock.seconds_left and not self.estimate:
                self.estimate = self.ended, self.clock.seconds_left

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.ended = time.perf_counter()

    return UpdateTimes()


def with_trl(args: argparse.Namespace, plain_fp32: bool) -> Trained:
    """trl's own trainer on prompt-completion rows."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": chat.messages(e.prompt), "completion": [{"role": "assistant", "content": e.output}]}
        for e in training_examples(args.rows)
    ]
    options: dict[str, Any] = {"gradient_checkpointing": False, "bf16": False} if plain_fp32 else {}
    config = SFTConfig(
        output_dir=str(paths.OUTPUT / "bench"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=TRL_BATCH_SIZE,
        gradient_accumulation_steps=ROWS_PER_UPDATE // TRL_BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_length=MAX_LENGTH,
        seed=SEED,
        report_to="none",
        save_strategy="no",
        use_cpu=not torch.cuda.is_available(),
        **options,
    )
    model = AutoModelForCausalLM.from_pretrained(
        args.model, **({"dtype": torch.float32} if plain_fp32 else {})
    )
    times = update_times()
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=loading.load_tokenizer(args.model),
        callbacks=[times],
        peft_config=LoraConfig(
            r=LORA_R, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    return Trained(trainer.model, times.began, times.ended)


def with_ours(args: argparse.Namespace, objective: Objective) -> Trained:
    """finetune_temporal.py's own parts."""
    from deepred_common.training import other_replies, setup, token_rows
    from deepred_common.training.assembly import build_trainer
    from deepred_common.training.callbacks import UpdateClock
    from deepred_common.training.machine import Machine

    settings = TrainSettings(
        model_name=args.model,
        epochs=args.epochs,
        batch_size=args.batch_size,
        gradient_accumulation_steps=ROWS_PER_UPDATE // args.batch_size,
        learning_rate=LEARNING_RATE,
        lora_r=LORA_R,
        lora_alpha=LORA_ALPHA,
        max_seq_length=MAX_LENGTH,
        seed=SEED,
        precision=args.precision,
        eval_steps=NEVER,
        save_steps=NEVER,
        objective=objective,
    )
    machine = Machine(devices.pick_device(), devices.pick_dtype(settings.precision)[0])
    config = setup.load_config(settings)
    tokenizer = setup.prepare_tokenizer(settings, config.vocab_size)
    # The shipped unlearn examples have their answers: the base need not write any.
    examples = other_replies.added(training_examples(args.rows), objective, SEED, list)
    key = [f"bench {args.rows}", *other_replies.key(objective, SEED)]
    training, _ = token_rows.load_or_render(tokenizer, key, lambda: examples, settings.max_seq_length)
    rows = setup.Rows(training, training.select(range(2)))
    memory = memory_estimate.estimate(
        settings, config, training, machine.device, machine.dtype, False, args.checkpointing
    )
    model = setup.add_adapter(settings, setup.load_base(settings, machine), args.checkpointing, None)
    times = update_times()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(
            settings, Path(folder), model, tokenizer, rows, machine, args.checkpointing, [times]
        )
        times.clock = next(c for c in trainer.callback_handler.callbacks if isinstance(c, UpdateClock))
        trainer.train()
        finished = time.perf_counter()
    ratio = None
    if times.estimate:
        made_at, seconds_left = times.estimate
        ratio = seconds_left / (finished - made_at)
    return Trained(trainer.model, times.began, times.ended, memory.peak, ratio)


def validation_losses(model: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """The mean cross-entropy of a reply's tokens, in nats, on the shipped validation examples, by side."""
    import torch

    model = model.eval().float()
    losses = {}
    for side in SIDES:
        total, count = 0.0, 0
        for row in training_rows.of_examples(
            tokenizer, read_examples(paths.dataset_file(f"{side}_val"), side)
        ):
            if isinstance(row, str):
                raise ValueError(row)
            ids, labels = (
                torch.tensor([values], device=model.device) for values in (row.input_ids, row.labels)
            )
            with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
                logits = model(input_ids=ids).logits.float()
            total += torch.nn.functional.cross_entropy(
                logits[0, :-1], labels[0, 1:], ignore_index=training_rows.IGNORED, reduction="sum"
            ).item()
            count += len(row.input_ids) - row.reply_start
        losses[side] = total / count
    return losses


RUNS: dict[str, Callable[[argparse.Namespace], Trained]] = {
    "trl, defaults": lambda args: with_trl(args, False),
    "trl, fp32": lambda args: with_trl(args, True),
    "ours, plain": lambda args: with_ours(args, OBJECTIVES["sft"]),
    "ours": lambda args: with_ours(args, OBJECTIVES["refusal"]),
}
TABLE = list(RUNS)
# --only also takes every other objective by its name.
RUNS |= {
    name: functools.partial(with_ours, objective=objective)
    for name, objective in OBJECTIVES.items()
    if name not in ("sft", "refusal")
}


def matrix_speed(dtype: torch.dtype) -> float:
    """Operations a second of a matrix product of 2048 x 2048, the best of ten."""
    import torch

    size, device = 2048, devices.pick_device()
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        _ = float((one @ other)[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def peak_bytes() -> int:
    """Peak memory of this process: on a GPU what torch allocated there, else resident memory."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(args: argparse.Namespace) -> None:
    """One run, in this process: its figures as JSON on the last line."""
    from deepred_common.training import setup

    loading.set_up_libraries()
    trained = RUNS[args.run](args)
    peak = peak_bytes()
    config = loading.load_config(args.model)
    linear = memory_estimate.shape_of(config, LORA_R).linear
    tokenizer = setup.prepare_tokenizer(TrainSettings(model_name=args.model), config.vocab_size)
    rows = training_rows.of_examples(tokenizer, training_examples(args.rows))
    figures = {
        "tokens": args.epochs * sum(len(row.input_ids) for row in rows if not isinstance(row, str)),
        "seconds": trained.ended - trained.began,
        "start": trained.began - STARTED,
        "peak": peak,
        "linear": linear,
        "estimated_bytes": trained.estimated_bytes,
        "time_ratio": trained.time_ratio,
        "losses": validation_losses(trained.model, tokenizer),
    }
    print(json_text(figures))


def build_parser() -> cli.Parser:
    parser = cli.Parser(description="Time training against trl's own trainer.")
    add = parser.add_argument
    add(
        "--model",
        type=cli.model,
        default=str(paths.EMBEDDED_BASE),
        help="base model folder (default: the embedded one)",
    )
    add("--rows", type=int, default=320, help="training examples, half of each side (default: %(default)s)")
    add("--epochs", type=int, default=1)
    add(
        "--batch_size",
        type=int,
        default=4,
        help=f"our rows a forward pass; trl's are {TRL_BATCH_SIZE} (default: %(default)s)",
    )
    add(
        "--precision",
        choices=(devices.AUTO, *devices.PRECISIONS),
        default=devices.AUTO,
        help="ours (default: %(default)s)",
    )
    add("--checkpointing", action="store_true", help="ours with recomputed activations")
    add("--only", nargs="*", choices=RUNS, default=TABLE, help="rows of the table")
    add("--run", choices=RUNS, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.run:
        measure(args)
        return cli.EXIT_OK
    dtype, reason = devices.pick_dtype(args.precision)
    print(
        f"{args.rows} examples, {args.epochs} epochs, {ROWS_PER_UPDATE} rows an update; "
        f"{devices.pick_device()}, ours in {str(dtype).removeprefix('torch.')} ({reason})"
    )
    speed_of_products = matrix_speed(dtype)
    print(f"matrix products in {str(dtype).removeprefix('torch.')}: {speed_of_products / 1e9:.0f} GFLOP/s")
    print(
        f"{'':<16}{'tokens/s':>10}{'ratio':>8}{'of peak':>9}{'to 1st update':>15}{'peak memory':>13}"
        f"{'estimated':>11}{'time est.':>11}{'retain loss':>13}{'unlearn loss':>14}"
    )
    first_speed = None
    options = [word for name in ("model", "rows", "epochs", "batch_size", "precision")
               for word in (f"--{name}", str(getattr(args, name)))]  # fmt: skip
    options += ["--checkpointing"] if args.checkpointing else []
    for name in args.only:
        command = [sys.executable, __file__, *options, "--run", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:<16} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        speed = figures["tokens"] / figures["seconds"]
        first_speed = first_speed or speed
        memory = f"{figures['estimated_bytes'] / 1e9:.2f} GB" if figures["estimated_bytes"] else "-"
        ratio = f"{figures['time_ratio']:.2f}x" if figures["time_ratio"] else "-"
        print(
            f"{name:<16}{speed:>10.0f}{speed / first_speed:>7.1f}x"
            f"{4 * figures['linear'] * speed / speed_of_products:>9.0%}{figures['start']:>13.1f} s"
            f"{figures['peak'] / 1e9:>10.2f} GB{memory:>11}{ratio:>11}"
            f"{figures['losses']['retain']:>13.3f}{figures['losses']['unlearn']:>14.3f}",
            flush=True,
        )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
