#!/usr/bin/env python3
"""How fast does training go, and how well? trl's SFTTrainer against scripts/finetune_temporal.py, each in a process of its own.

Same base, training lines, updates, rows an update, learning rate, LoRA shape and seed. Prints for each: real (not
padding) training tokens a second, seconds from start to the first update, peak memory (and, of ours, the peak that
finetune_temporal.py foretells), and plain cross-entropy on the shipped validation lines, measured by one function for
all; then this machine's matrix-product peak and the share of it that 4 operations a parameter and token make up.

    python bench/train.py --model output/base/SmolLM2-135M-Instruct --rows 320

Rows of the table:
  trl, defaults       what the spec's settings and the library's defaults give (weights as saved, recomputed activations)
  trl, fp32           the same in fp32 without recomputation, where the processor has no bf16
  ours, plain         our trainer with trl's objective: cross-entropy alone
  ours                as it ships: retain lines towards the base's own predictions, which is a second forward pass
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths
from deepred_common.examples import SIDES, balanced_sample, read_examples
from deepred_common.models import loading
from deepred_common.training import memory_estimate
from deepred_common.training.objective import RefuseAndRetain
from deepred_common.training.settings import TrainSettings

LEARNING_RATE, LORA_R, LORA_ALPHA, MAX_LENGTH, SEED = 2e-4, 16, 32, 512, 42
STARTED = time.perf_counter()


def training_lines(count):
    """`count` shipped training lines, even between the sides, as Examples."""
    examples = [e for side in SIDES for e in read_examples(paths.dataset_file(f"{side}_train"), side)]
    return balanced_sample(examples, count)


def first_update_clock():
    """A trainer callback that notes when the first update began and was done, and the last one."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        begun = first = last = None

        def on_step_begin(self, args, state, control, **kwargs):
            self.begun = self.begun or time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.first = self.first or time.perf_counter()
            self.last = time.perf_counter()

    return Clock()


def with_trl(args, plain_fp32):
    """(model, clock): trl's own trainer on prompt-completion rows."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(
        [
            {
                "prompt": chat.messages(e.instruction),
                "completion": [{"role": "assistant", "content": e.output}],
            }
            for e in training_lines(args.rows)
        ]
    )
    options = {"gradient_checkpointing": False, "bf16": False} if plain_fp32 else {}
    config = SFTConfig(
        output_dir=str(paths.OUTPUT / "bench"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
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
    clock = first_update_clock()
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=data,
        processing_class=loading.load_tokenizer(args.model),
        callbacks=[clock],
        peft_config=LoraConfig(
            r=LORA_R, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    return trainer.model, clock


def with_ours(args, plain):
    """(model, clock): finetune_temporal.py's own parts."""
    import tempfile

    from deepred_common.training import setup, token_rows
    from deepred_common.training.machine import Machine
    from deepred_common.training.trainer import build_trainer

    # With these parameters it is plain cross-entropy, without a forward pass of the base.
    without_base = RefuseAndRetain(decision_weight=1, retain_learning=1, retain_weight=1)
    settings = TrainSettings(
        model_name=args.model,
        epochs=args.epochs,
        batch_size=args.batch_size,
        gradient_accumulation_steps=16 // args.batch_size,
        eval_steps=100_000,
        save_steps=100_000,
        objective=without_base if plain else RefuseAndRetain(),
    )
    machine = Machine(devices.pick_device(), devices.pick_dtype()[0])
    tokenizer = setup.prepare_tokenizer(settings)
    lines = training_lines(args.rows)
    training, _ = token_rows.load_or_render(
        tokenizer, [f"bench {args.rows}"], lambda: lines, settings.max_seq_length
    )
    rows = setup.Rows(training, training.select(range(2)))
    config = setup.load_config(settings)
    args.foretold = memory_estimate.foresee(settings, config, training, machine.device, machine.dtype).peak
    model = setup.add_adapter(settings, setup.load_base(settings, machine), False, None)
    clock = first_update_clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(settings, Path(folder), model, tokenizer, rows, machine, False, [clock])
        trainer.train()
    return trainer.model, clock


def validation_losses(model, tokenizer):
    """{side: mean cross-entropy of a reply's tokens, nats} on the shipped validation lines."""
    import torch

    model = model.eval().float()
    found = {}
    for side in SIDES:
        total = count = 0
        for row in chat.training_rows(tokenizer, read_examples(paths.dataset_file(f"{side}_val"), side)):
            ids, labels = (
                torch.tensor([values], device=model.device) for values in (row.input_ids, row.labels)
            )
            with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
                logits = model(input_ids=ids).logits.float()
            total += torch.nn.functional.cross_entropy(
                logits[0, :-1], labels[0, 1:], ignore_index=chat.IGNORED, reduction="sum"
            ).item()
            count += len(row.input_ids) - row.reply_start
        found[side] = total / count
    return found


RUNS = {
    "trl, defaults": lambda args: with_trl(args, False),
    "trl, fp32": lambda args: with_trl(args, True),
    "ours, plain": lambda args: with_ours(args, True),
    "ours": lambda args: with_ours(args, False),
}


def measure(args):
    """One run, in this process: its figures as JSON on the last line."""
    loading.quiet_libraries()
    args.foretold = None
    model, clock = RUNS[args.run](args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokenizer = loading.load_tokenizer(args.model)
    tokens = args.epochs * sum(
        len(row.input_ids) for row in chat.training_rows(tokenizer, training_lines(args.rows))
    )
    print(
        json.dumps(
            {
                "tokens": tokens,
                "seconds": clock.last - clock.begun,
                "start": clock.begun - STARTED,
                "peak": peak,
                "foretold": args.foretold,
                "parameters": sum(p.numel() for name, p in model.named_parameters() if "lora" not in name),
                "losses": validation_losses(model, tokenizer),
            }
        )
    )


def main(argv=None):
    parser = argparse.ArgumentParser(description="Time training against trl's own trainer.")
    parser.add_argument(
        "--model", default=str(paths.EMBEDDED_BASE), help="base model folder (default: the embedded one)"
    )
    parser.add_argument(
        "--rows", type=int, default=320, help="training lines, half of each side (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--batch_size",
        type=int,
        default=4,
        help="our rows a forward pass; trl's are 4 (default: %(default)s)",
    )
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), help="rows of the table")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.run:
        measure(args)
        return cli.EXIT_OK
    import torch

    device, (dtype, why) = devices.pick_device(), devices.pick_dtype()
    peak = memory_estimate.matmul_peak(device, torch.float32 if device.type == "cpu" else dtype, seconds=3)
    print(
        f"{args.rows} lines, {args.epochs} epochs, 16 rows an update; {device}, {dtype} ({why}); "
        f"matrix-product peak {peak / 1e9:.0f} GFLOP/s"
    )
    print(
        f"{'':<16}{'tokens/s':>10}{'ratio':>8}{'of the peak':>13}{'to 1st update':>15}{'peak memory':>13}{'foretold':>11}"
        f"{'retain loss':>13}{'unlearn loss':>14}"
    )
    first = None
    for name in args.only:
        words = [
            sys.executable,
            __file__,
            "--model",
            args.model,
            "--rows",
            str(args.rows),
            "--epochs",
            str(args.epochs),
            "--batch_size",
            str(args.batch_size),
            "--run",
            name,
        ]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:<16} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        speed = found["tokens"] / found["seconds"]
        first = first or speed
        print(
            f"{name:<16}{speed:>10.0f}{speed / first:>7.1f}x{400 * found['parameters'] * speed / peak:>12.0f}%{found['start']:>13.1f} s"
            f"{found['peak'] / 1e9:>10.2f} GB"
            f"{(found['foretold'] or 0) / 1e9:>8.2f} GB{found['losses']['retain']:>13.3f}{found['losses']['unlearn']:>14.3f}",
            flush=True,
        )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
