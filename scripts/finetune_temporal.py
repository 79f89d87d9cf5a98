#!/usr/bin/env python3
"""Fine-tune a chat model with LoRA or QLoRA so that it answers about the world before a date and refuses after it.

Reads question-answer lines (JSON Lines, datasets/retain and datasets/unlearn, or datasets/dev with --dev) and a base
model (folder or hub name). Writes a run folder with checkpoint-N/, final/ (the adapter), run.json, train_results.json
and eval_results.json.

    python scripts/finetune_temporal.py --dev --epochs 1
    python scripts/finetune_temporal.py --model_name Qwen/Qwen2.5-1.5B-Instruct --batch_size 2 --save_steps 100
"""

import argparse
import functools
import importlib.util
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import callbacks, chat, cli, models, objectives, paths, records, runs
from deepred_common.cli import UserError

WARMUP_RATIO = 0.1
DEV_VALIDATION_SHARE = 0.1
TRAINING_FILES = ("retain_train", "unlearn_train")
VALIDATION_FILES = ("retain_val", "unlearn_val")


def build_parser():
    parser = argparse.ArgumentParser(description="Fine-tune a model to a temporal knowledge cutoff (LoRA or QLoRA).")
    add = parser.add_argument
    add("--model_name", default=paths.DEFAULT_MODEL, help="hub name or folder of the base model (default: %(default)s)")
    add("--output_dir", type=Path, help="run folder (default: output/temporal-<model>-<dev|full>-<time>)")
    add("--dev", action="store_true", help="train on the small dev subset only; a tenth of it is held back to validate")
    for name in paths.DATASET_FILES:
        add(f"--{name}", type=Path, default=paths.dataset_file(name), help="JSON Lines (default: %(default)s)")
    add("--epochs", type=cli.positive_int, default=3, help="passes over the training data (default: %(default)s)")
    add("--batch_size", type=cli.positive_int, default=4, help="examples a forward pass (default: %(default)s)")
    add("--learning_rate", type=cli.positive_float, default=2e-4, help="peak of the cosine schedule (default: %(default)s)")
    add("--max_seq_length", type=cli.positive_int, default=512, help="tokens; longer examples are left out (default: %(default)s)")
    add("--gradient_accumulation_steps", type=cli.positive_int, default=4,
        help="forward passes a weight update (default: %(default)s)")
    add("--save_steps", type=cli.positive_int, default=500, help="updates between checkpoints (default: %(default)s)")
    add("--eval_steps", type=cli.positive_int, default=100, help="updates between validations (default: %(default)s)")
    add("--lora_r", type=cli.positive_int, default=16, help="LoRA rank (default: %(default)s)")
    add("--lora_alpha", type=cli.positive_int, default=32, help="LoRA alpha (default: %(default)s)")
    quantisation = parser.add_mutually_exclusive_group()
    quantisation.add_argument("--use_4bit", action="store_true", help="load the base in 4-bit NF4 (QLoRA; needs bitsandbytes)")
    quantisation.add_argument("--use_8bit", action="store_true", help="load the base in 8-bit (needs bitsandbytes)")
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument("--resume_from_checkpoint", type=Path, metavar="DIR", help="checkpoint-N folder to go on from")
    resume.add_argument("--resume_latest", action="store_true",
                        help="go on from the newest complete checkpoint in --output_dir, or of the newest unfinished run")
    add("--wandb", action="store_true", help="log to Weights & Biases")
    add("--seed", type=int, default=42, help="order of the data, adapter initialisation, dropout (default: %(default)s)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


# ---- before torch: everything that can be checked without a model ---------------------------------------------------

def read_data(args):
    """(training examples, validation examples), read and checked. With --dev both come from the dev subset."""
    if args.dev:
        examples = records.read_examples(args.dev_path)
        if len(examples) < 4:
            raise UserError(f"{args.dev_path} has {len(examples)} examples; at least 4 are needed, since 2 are held back to validate.")
        held_back = records.balanced_sample(examples, max(2, round(len(examples) * DEV_VALIDATION_SHARE)), args.seed)
        chosen = {id(example) for example in held_back}
        return [example for example in examples if id(example) not in chosen], held_back
    read = {name: records.read_examples(getattr(args, name), name.split("_")[0]) for name in TRAINING_FILES + VALIDATION_FILES}
    return [e for name in TRAINING_FILES for e in read[name]], [e for name in VALIDATION_FILES for e in read[name]]


def choose_run(args):
    """(run folder, checkpoint to go on from or None). Says aloud what a resume found; (folder, "finished") if nothing is left."""
    if args.resume_from_checkpoint:
        checkpoint = runs.require_checkpoint(args.resume_from_checkpoint)
        return args.output_dir or checkpoint.resolve().parent, checkpoint
    folder = args.output_dir
    if args.resume_latest:
        if folder is None:
            folder = runs.newest_unfinished(args.model_name, args.dev)
            if folder is None:
                cli.progress("--resume_latest: no unfinished run of this model and mode in output/; a new one is started.")
                return runs.new_run_folder(args.model_name, args.dev), None
            cli.progress(f"--resume_latest: the newest unfinished run is {paths.shown(folder)}")
        if runs.is_finished(folder):
            return folder, "finished"
        checkpoint = runs.latest_checkpoint(folder)
        cli.progress(f"--resume_latest: going on from {paths.shown(checkpoint)}" if checkpoint else
                     f"--resume_latest: no complete checkpoint in {paths.shown(folder)} yet; starting from the beginning.")
        return folder, checkpoint
    if folder is None:
        return runs.new_run_folder(args.model_name, args.dev), None
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder} is a file.")
    if (folder / runs.MANIFEST).exists() or any(folder.glob("checkpoint-*")) or (folder / "final").exists():
        raise UserError(f"{paths.shown(folder)} already holds a run. Add --resume_latest to go on with it, or choose another --output_dir.")
    return folder, None


def check_wishes(args):
    """What the flags ask of the environment, checked without importing anything heavy."""
    models.check_name(args.model_name, "base model")
    if args.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError("--wandb needs the wandb package: pip install wandb")
    if (args.use_4bit or args.use_8bit) and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--use_4bit and --use_8bit need the bitsandbytes package: pip install bitsandbytes\n"
                        "Or leave the flag out, and use a smaller --batch_size or model.")


# ---- with torch ------------------------------------------------------------------------------------------------------

def load_base(args, dtype):
    """The base model, quantised if asked, ready to take an adapter."""
    import torch

    options = {}
    if models.on_rocm():
        # Scaled-dot-product attention is a known cause of GPU hangs on ROCm.
        options["attn_implementation"] = "eager"
        if args.use_4bit or args.use_8bit:
            cli.warn("4/8-bit on ROCm is experimental and can hang the GPU on long runs. If it does: leave the flag out, "
                     "lower --batch_size and --max_seq_length, and go on with --resume_latest.")
    if args.use_4bit or args.use_8bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=args.use_4bit, load_in_8bit=args.use_8bit, bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": models.pick_device()}
    try:
        return models.load_model(args.model_name, dtype, args.trust_remote_code, **options)
    except (ImportError, RuntimeError) as error:
        if "bitsandbytes" in str(error).lower() or isinstance(error, torch.cuda.OutOfMemoryError):
            raise UserError(f"the base could not be loaded: {str(error).splitlines()[0]}") from error
        raise


def add_adapter(args, model, checkpointing):
    """Put a fresh LoRA adapter on every linear layer but the output one (peft's all-linear: right for every family)."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if args.use_4bit or args.use_8bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    # No dropout: its random numbers, drawn one after the other, cost a tenth of a step on a CPU.
    config = LoraConfig(
        r=args.lora_r, lora_alpha=args.lora_alpha, bias="none", task_type="CAUSAL_LM",
        target_modules="all-linear", base_model_name_or_path=str(args.model_name),
    )
    return get_peft_model(model, config)


def build_trainer(args, folder, model, tokenizer, training, validation, dtype, checkpointing, stopper):
    """trl's SFTTrainer over rows that deepred_common.chat rendered; it is told to leave them as they are."""
    import torch
    from datasets import Dataset
    from transformers import ProgressCallback
    from trl import SFTConfig

    def as_dataset(rows_by_side):
        return Dataset.from_list([
            {"input_ids": row.input_ids, "labels": row.labels, "retain": side == records.RETAIN}
            for side, rows in rows_by_side.items() for row in rows
        ])

    on_cpu = models.pick_device().type == "cpu"
    config = SFTConfig(
        output_dir=str(folder), num_train_epochs=args.epochs, learning_rate=args.learning_rate,
        per_device_train_batch_size=args.batch_size, per_device_eval_batch_size=args.batch_size,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        lr_scheduler_type="cosine", warmup_steps=WARMUP_RATIO,  # below 1, a share of all steps
        eval_strategy="steps", eval_steps=args.eval_steps, save_strategy="steps", save_steps=args.save_steps,
        disable_tqdm=False, logging_steps=5, logging_first_step=True, report_to="wandb" if args.wandb else "none", run_name=folder.name,
        use_cpu=on_cpu, bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16,
        gradient_checkpointing=checkpointing, max_length=args.max_seq_length, seed=args.seed, data_seed=args.seed,
        prediction_loss_only=True, dataloader_pin_memory=not on_cpu,
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False,
    )
    trainer = objectives.make_trainer_class()(
        model=model, args=config, processing_class=tokenizer, train_dataset=as_dataset(training),
        eval_dataset={side: as_dataset({side: rows}) for side, rows in validation.items()},
        data_collator=functools.partial(objectives.collate, pad_id=tokenizer.pad_token_id), callbacks=[stopper],
    )
    trainer.remove_callback(ProgressCallback)  # it prints every log as a Python dict
    trainer.add_callback(callbacks.make_bar())
    return trainer


def resume_command(args, folder):
    """The exact command that goes on with this run."""
    words = ["python", paths.shown(__file__)]
    words += [w for i, w in enumerate(sys.argv[1:]) if not w.startswith(("--resume", "--output_dir"))
              and not (i and sys.argv[i] in ("--resume_from_checkpoint", "--output_dir"))]
    return " ".join([*words, "--output_dir", paths.shown(folder), "--resume_latest"])


def render(tokenizer, examples, max_length, what):
    """Rows of `examples`, with a bar; the number left out for length is said aloud."""
    from tqdm import tqdm

    rows, left_out = chat.training_rows(
        tokenizer, examples, max_length, lambda items: tqdm(items, desc=f"rendering {what}", delay=2, leave=False)
    )
    if left_out:
        cli.warn(f"{left_out} of {len(examples)} {what} examples are longer than --max_seq_length {max_length} and are left out.")
    if not rows:
        raise UserError(f"every {what} example is longer than --max_seq_length {max_length}; raise it.")
    return rows


def train(args, folder, checkpoint, table, training, validation):
    """The whole training, from tokenizer to final/. Returns the metrics."""
    models.quiet_libraries()
    from transformers import set_seed

    dtype, why = models.pick_dtype()
    device = models.pick_device()
    # Recomputing activations saves memory, which a GPU is short of, at a third more time, which a CPU is.
    checkpointing = device.type != "cpu"
    cli.progress(f"device {device}, {str(dtype).removeprefix('torch.')} ({why}), "
                 f"gradient checkpointing {'on' if checkpointing else 'off'}")
    if models.on_rocm() and "HSA_OVERRIDE_GFX_VERSION" not in os.environ:
        cli.warn("on gfx1151 (Strix Halo) set HSA_OVERRIDE_GFX_VERSION=11.0.0 before training.")

    tokenizer = models.load_tokenizer(args.model_name, args.trust_remote_code)
    if chat.ensure_template(tokenizer):
        cli.warn("the base has no chat template; a plain question-answer template is used and saved with the adapter.")
    if tokenizer.pad_token is None:
        # Harmless for the stop: labels are masked by position, not by token.
        tokenizer.pad_token = tokenizer.eos_token
    training_rows, validation_rows = (
        {side: render(tokenizer, chosen, args.max_seq_length, f"{side} {what}")
         for side in records.SIDES if (chosen := [example for example in examples if example.side == side])}
        for what, examples in (("training", training), ("validation", validation))
    )
    lengths = [len(row.input_ids) for rows in training_rows.values() for row in rows]
    cli.progress(f"{len(lengths)} training rows of {sum(lengths) / len(lengths):.0f} tokens on average")

    set_seed(args.seed)
    cli.progress(f"loading {args.model_name} …")
    model = add_adapter(args, load_base(args, dtype), checkpointing)

    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "started": runs.now(), "finished": None, "model_name": str(args.model_name), "settings": table,
        "precision": str(dtype), "device": str(device), "resumed_from": str(checkpoint) if checkpoint else None,
        "data": {str(p): runs.sha256(p) for p in data_files(args)}, "versions": runs.versions(),
    }
    runs.write_manifest(folder, manifest)
    stopper = callbacks.make_stopper()
    trainer = build_trainer(args, folder, model, tokenizer, training_rows, validation_rows, dtype, checkpointing, stopper)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if stopper.asked:
        raise cli.Interrupted(f"step {trainer.state.global_step} is saved. Go on with:\n  {resume_command(args, folder)}")
    evaluation = trainer.evaluate()

    with paths.whole_folder(folder / "final") as final:
        trainer.save_model(str(final))
        tokenizer.save_pretrained(str(final))
        (final / "training_args.bin").unlink(missing_ok=True)  # a pickle, and run.json says the same
    for name, metrics in (("train", result.metrics), ("eval", evaluation)):
        paths.write_text(folder / f"{name}_results.json", json.dumps(metrics, indent=2) + "\n")
    runs.write_manifest(folder, manifest | {"finished": runs.now()})
    return result.metrics | evaluation


def data_files(args):
    """The data files that this run reads."""
    return [args.dev_path] if args.dev else [getattr(args, name) for name in TRAINING_FILES + VALIDATION_FILES]


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    check_wishes(args)
    training, validation = read_data(args)
    folder, checkpoint = choose_run(args)
    if checkpoint == "finished":
        print(f"{paths.shown(folder)} is already finished; nothing to do.")
        print_next(runs.read_manifest(folder)["model_name"], folder)
        return cli.EXIT_OK
    paths.require_writable_parent(folder)

    table = cli.print_settings(
        "Fine-tuning settings", args, given, dict.fromkeys(paths.DATASET_FILES, "WIKI_DATA"),
        {"output_dir": (str(folder), "flag" if args.output_dir else "made from model, mode and time")},
    )
    counts, held = records.count_sides(training), records.count_sides(validation)
    print(f"Data: {counts['retain']} retain + {counts['unlearn']} unlearn to train on, "
          f"{held['retain']} + {held['unlearn']} to validate.")
    for side in records.SIDES:
        if not counts[side]:
            cli.warn(f"there is no {side} example to train on; the model will learn one side only.")

    metrics = train(args, folder, checkpoint, table, training, validation)
    print(f"\nTraining finished in {metrics['train_runtime'] / 60:.1f} min: training loss {metrics['train_loss']:.3f}, " +
          ", ".join(f"{side} validation loss {metrics[f'eval_{side}_loss']:.3f}" for side in records.SIDES
                    if f"eval_{side}_loss" in metrics))
    print_next(args.model_name, folder)
    return cli.EXIT_OK


def print_next(model_name, folder):
    print(f"Adapter: {paths.shown(folder / 'final')}\n\nNext:\n"
          f"  python scripts/merge_lora.py --base_model {model_name} \\\n"
          f"      --lora_path {paths.shown(folder / 'final')} --output_path output/merged --verify")


if __name__ == "__main__":
    sys.exit(cli.run(main))
