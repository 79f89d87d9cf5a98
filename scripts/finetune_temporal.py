#!/usr/bin/env python3
"""Fine-tune a chat model with LoRA or QLoRA so that it answers about the world before a date and refuses after it.

Reads question-answer lines (JSON Lines, datasets/retain and datasets/unlearn, or datasets/dev with --dev) and a base
model (folder or hub name). Writes a run folder with checkpoint-N/, final/ (the adapter and its model card), run.json,
training_curves.png, train_results.json and eval_results.json.

    python scripts/finetune_temporal.py --dev --epochs 1
    python scripts/finetune_temporal.py --model_name Qwen/Qwen2.5-1.5B-Instruct --batch_size 2 --save_steps 100
    accelerate launch scripts/finetune_temporal.py …        on several GPUs or hosts (configs/accelerate/)
"""

import functools
import importlib.util
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cache, cli, devices, paths, provenance
from deepred_common import examples as common_examples
from deepred_common.cli import UserError
from deepred_common.data import checks
from deepred_common.examples import SIDES, balanced_sample, read_examples, require_file
from deepred_common.files import require_writable_parent
from deepred_common.judging import refusal
from deepred_common.models import folders, loading
from deepred_common.training import memory_estimate, recovery, run_folder, setup, token_rows
from deepred_common.training.trainer import build_trainer, make_stopper

SCRIPT = Path(__file__)
DEV_VALIDATION_SHARE = 0.1
TRAINING_FILES = ("retain_train", "unlearn_train")
VALIDATION_FILES = ("retain_val", "unlearn_val")


def build_parser():
    parser = cli.Parser(
        description="Fine-tune a model to a temporal knowledge cutoff (LoRA or QLoRA)."
    )
    add = parser.add_argument
    add(
        "--model_name",
        default=paths.DEFAULT_MODEL,
        help="hub name or folder of the base model (default: %(default)s)",
    )
    add("--output_dir", type=Path, help="run folder (default: output/temporal-<model>-<dev|full>-<time>)")
    add(
        "--dev",
        action="store_true",
        help="train on the small dev subset only; a tenth of it is held back to validate",
    )
    for name in paths.DATASET_FILES:
        add(
            f"--{name}", type=Path, default=paths.dataset_file(name), help="JSON Lines (default: %(default)s)"
        )
    add(
        "--epochs",
        type=cli.positive_int,
        default=3,
        help="passes over the training data (default: %(default)s)",
    )
    add(
        "--batch_size",
        type=cli.positive_int,
        default=4,
        help="examples a forward pass (default: %(default)s)",
    )
    add(
        "--learning_rate",
        type=cli.positive_float,
        default=2e-4,
        help="peak of the cosine schedule (default: %(default)s)",
    )
    add(
        "--max_seq_length",
        type=cli.positive_int,
        default=512,
        help="tokens; longer examples are left out (default: %(default)s)",
    )
    add(
        "--gradient_accumulation_steps",
        type=cli.positive_int,
        default=4,
        help="forward passes a weight update (default: %(default)s)",
    )
    add(
        "--save_steps",
        type=cli.positive_int,
        default=500,
        help="updates between checkpoints (default: %(default)s)",
    )
    add(
        "--eval_steps",
        type=cli.positive_int,
        default=100,
        help="updates between validations (default: %(default)s)",
    )
    add(
        "--mix",
        type=cli.ratio,
        metavar="R:U",
        help="train on so many retain lines for so many unlearn ones; the side with too many loses some (default: as the files are)",
    )
    add("--lora_r", type=cli.positive_int, default=16, help="LoRA rank (default: %(default)s)")
    add("--lora_alpha", type=cli.positive_int, default=32, help="LoRA alpha (default: %(default)s)")
    quantisation = parser.add_mutually_exclusive_group()
    quantisation.add_argument(
        "--use_4bit", action="store_true", help="load the base in 4-bit NF4 (QLoRA; needs bitsandbytes)"
    )
    quantisation.add_argument(
        "--use_8bit", action="store_true", help="load the base in 8-bit (needs bitsandbytes)"
    )
    add(
        "--precision",
        choices=(devices.AUTO, *devices.PRECISIONS),
        default=devices.AUTO,
        help="what to compute in; auto: bf16 where the hardware has it, else fp16 on a GPU, fp32 on a CPU",
    )
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        "--resume_from_checkpoint", type=Path, metavar="DIR", help="checkpoint-N folder to go on from"
    )
    resume.add_argument(
        "--resume_latest",
        action="store_true",
        help="go on from the newest complete checkpoint in --output_dir, or of the newest unfinished run",
    )
    add(
        "--resume_anyway",
        action="store_true",
        help="go on even if base, data or settings are not the run's own",
    )
    add(
        "--dry_run",
        action="store_true",
        help="check all data, show three rendered examples, steps, memory and time, and stop",
    )
    add("--wandb", action="store_true", help="log to Weights & Biases")
    add("--tensorboard", action="store_true", help="log to TensorBoard, in the run folder")
    add(
        "--seed",
        type=int,
        default=42,
        help="order of the data, adapter initialisation, dropout (default: %(default)s)",
    )
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


# ---- before torch: everything that can be checked without a model ---------------------------------------------------


def data_files(args):
    """{name: path} of the data files that this run reads."""
    return {
        name: getattr(args, name)
        for name in (("dev_path",) if args.dev else TRAINING_FILES + VALIDATION_FILES)
    }


def read_data(args):
    """(training examples, validation examples), read and checked. With --dev both come from the dev subset."""
    if args.dev:
        examples = read_examples(args.dev_path)
        if len(examples) < 4:
            raise UserError(
                f"{args.dev_path} has {len(examples)} examples; at least 4 are needed, since 2 are held back to validate."
            )
        held_back = balanced_sample(examples, max(2, round(len(examples) * DEV_VALIDATION_SHARE)), args.seed)
        chosen = {id(example) for example in held_back}
        return [example for example in examples if id(example) not in chosen], held_back
    read = {
        name: read_examples(getattr(args, name), name.split("_")[0])
        for name in TRAINING_FILES + VALIDATION_FILES
    }
    return [e for name in TRAINING_FILES for e in read[name]], [
        e for name in VALIDATION_FILES for e in read[name]
    ]


def check_data(args, files, hashes, examples):
    """What checks.summary finds, kept by the files' hashes: the same data are not checked twice. Says it aloud."""
    made_by = [Path(module.__file__) for module in (checks, common_examples, refusal)]
    key = [f"{name} {path} {hashes[name]}" for name, path in files.items()] + (
        [f"dev {args.seed}"] if args.dev else []
    )
    found = cache.json_value("survey", provenance.digest(*made_by, *key), lambda: checks.summary(*examples()))
    trained, held = found["training"], found["validation"]
    print(
        f"Data: {trained['retain']} retain + {trained['unlearn']} unlearn to train on, {held['retain']} + {held['unlearn']} to validate.",
        flush=True,
    )
    for warning in found["warnings"]:
        cli.warn(warning)


def choose_run(args):
    """(run folder, checkpoint to go on from or None). Says aloud what a resume found; (folder, "finished") if nothing is left."""
    if args.resume_from_checkpoint:
        checkpoint = run_folder.require_checkpoint(args.resume_from_checkpoint)
        return args.output_dir or checkpoint.resolve().parent, checkpoint
    folder = args.output_dir
    if args.resume_latest:
        if folder is None:
            folder = run_folder.newest_unfinished(args.model_name, args.dev)
            if folder is None:
                cli.progress(
                    "--resume_latest: no unfinished run of this model and mode in output/; a new one is started."
                )
                return run_folder.new_run_folder(args.model_name, args.dev), None
            cli.progress(f"--resume_latest: the newest unfinished run is {paths.shown(folder)}")
        before = run_folder.read_manifest(folder).get("identity", {}).get("epochs", args.epochs)
        if run_folder.is_finished(folder) and args.epochs <= before:
            return folder, "finished"
        checkpoint = run_folder.latest_checkpoint(folder)
        cli.progress(
            f"--resume_latest: going on from {paths.shown(checkpoint)}"
            if checkpoint
            else f"--resume_latest: no complete checkpoint in {paths.shown(folder)} yet; starting from the beginning."
        )
        return folder, checkpoint
    if folder is None:
        return run_folder.new_run_folder(args.model_name, args.dev), None
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder} is a file.")
    if (
        (folder / run_folder.MANIFEST).exists()
        or any(folder.glob("checkpoint-*"))
        or (folder / "final").exists()
    ):
        raise UserError(
            f"{paths.shown(folder)} already holds a run. Add --resume_latest to go on with it, or choose another --output_dir."
        )
    return folder, None


def check_wishes(args):
    """What the flags ask of the environment, checked without importing anything heavy."""
    folders.check_name(args.model_name, "base model")
    for package in ("wandb", "tensorboard"):
        if getattr(args, package) and importlib.util.find_spec(package) is None:
            raise UserError(f"--{package} needs the {package} package: pip install {package}")
    if (args.use_4bit or args.use_8bit) and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "--use_4bit and --use_8bit need the bitsandbytes package: pip install bitsandbytes\n"
            "Or leave the flag out, and use a smaller --batch_size or model."
        )


def rows_per_update(args):
    """Rows that a weight update learns from, over all processes. How they are cut into forward passes changes memory only."""
    return args.batch_size * args.gradient_accumulation_steps * devices.processes()


def asked_identity(args, hashes):
    """What of flags and data makes a run this run and no other: changed, it must not go on from a checkpoint of before."""
    return {
        "data": hashes,
        "lora_r": args.lora_r,
        "lora_alpha": args.lora_alpha,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "max_seq_length": args.max_seq_length,
        "mix": list(args.mix) if args.mix else None,
        "rows_per_update": rows_per_update(args),
        "epochs": args.epochs,
        "quantisation": "4bit" if args.use_4bit else "8bit" if args.use_8bit else None,
    } | ({} if args.precision == devices.AUTO else {"precision": args.precision})


def check_same_run(args, folder, checkpoint, identity):
    """Refuse to go on from a checkpoint of another run, with the list of what differs; --resume_anyway takes the risk."""
    if checkpoint is None:
        return
    before = run_folder.identity(run_folder.read_manifest(folder))
    if "epochs" in identity and before.get("epochs", args.epochs) != args.epochs:
        cli.progress(
            f"epochs: {before['epochs']} -> {args.epochs}; the learning rate follows the new length from here on."
        )
    changed = run_folder.differences(before, identity)
    if changed and not args.resume_anyway:
        raise UserError(
            "this is not the run that the checkpoint is from:\n  "
            + "\n  ".join(changed)
            + "\nUse the settings of before, start a new run, or add --resume_anyway if you know what you do."
        )
    for difference in changed:
        cli.warn(f"going on although it differs: {difference}")


# ---- with torch: the machine and the tokens, before any weight --------------------------------------------------------


def check_bitsandbytes():
    """UserError if bitsandbytes is there but does not load: peft would fall over it, wanted or not."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # it fails in many ways: a missing library, a wrong CUDA, an unknown GPU
        raise UserError(
            f"bitsandbytes is installed but does not load: {str(error).splitlines()[0]}\n"
            "Reinstall it (pip install --force-reinstall bitsandbytes), or remove it (pip uninstall bitsandbytes) and train "
            "without --use_4bit and --use_8bit."
        ) from error


def check_machine(args):
    """Warn of what is known to go wrong on this machine; (device, dtype) to train with."""
    import torch

    if torch.cuda.device_count() > 1 and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible. To use one: CUDA_VISIBLE_DEVICES=0 in front of the command.\n"
            "To use all: accelerate launch scripts/finetune_temporal.py … (configs/accelerate/)"
        )
    device, (dtype, why) = devices.pick_device(), devices.pick_dtype(args.precision)
    cli.progress(f"device {device}, {str(dtype).removeprefix('torch.')} ({why})")
    if (precision := devices.precision_name(dtype)) not in devices.native_precisions():
        cli.warn(
            f"this {'GPU' if device.type == 'cuda' else 'CPU'} has no {precision} instructions. It emulates them, "
            "which is many times slower.\nLeave --precision out to use the fastest."
        )
    if devices.on_rocm():
        for caution in devices.rocm_cautions(devices.gpu_name(), args.use_4bit or args.use_8bit):
            cli.warn(caution)
    if device.type != "cpu" and (url := devices.lm_studio_here()):
        cli.warn(
            f"an LM Studio server answers at {url} and may hold this GPU's memory; ROCm cannot share it at all.\n"
            "Stop it first: sudo systemctl stop lmstudio.service"
        )
    return device, dtype


def base_identity(args, tokenizer, config, dtype):
    """What of base and machine makes a run this run and no other (asked_identity: of flags and data)."""
    return {
        "precision": devices.precision_name(dtype),
        "base": loading.identity(args.model_name, config),
        "base_revision": loading.revision(args.model_name, config),
        "chat_template": provenance.digest(tokenizer.chat_template),
    }


# ---- training -----------------------------------------------------------------------------------------------------------


def train(args, folder, checkpoint, table, asked, examples):
    """The whole training, from tokenizer to final/. Returns the metrics; None after a dry run."""
    check_bitsandbytes()
    loading.quiet_libraries()
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list
    from transformers import AutoConfig, set_seed

    device, dtype = check_machine(args)
    processes = PartialState(cpu=not torch.cuda.is_available())
    tokenizer = setup.prepare_tokenizer(args)
    with processes.main_process_first():  # it fills the cache that the others read
        to_train, to_validate = setup.make_rows(args, tokenizer, asked["data"], examples)
    examples.cache_clear()  # the texts are tokens now
    with loading.hub_errors(args.model_name):
        config = AutoConfig.from_pretrained(args.model_name, trust_remote_code=args.trust_remote_code)
    of_base = base_identity(args, tokenizer, config, dtype)
    check_same_run(args, folder, checkpoint, of_base)
    forecast = memory_estimate.foresee(args, config, to_train, device, dtype)
    checkpointing = forecast.checkpointing
    # Each process made up its mind alone; the first one's counts.
    folder, checkpointing = (
        broadcast_object_list([folder, checkpointing])
        if processes.num_processes > 1
        else (folder, checkpointing)
    )
    updates = -(-len(to_train) // rows_per_update(args)) * args.epochs
    print(token_rows.lengths_line(to_train))
    print(f"Plan: {updates} weight updates of {rows_per_update(args)} rows; {forecast.text}", flush=True)
    if not forecast.fits:
        cli.warn(f"that does not fit. In this order: {', '.join(recovery.less_memory(args))}.")
    if args.dry_run:
        print(token_rows.examples_text(tokenizer, to_train))
        return None

    set_seed(args.seed)
    cli.progress(f"loading {args.model_name} …")
    model = setup.add_adapter(args, setup.load_base(args, dtype), checkpointing, of_base["base_revision"])

    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "started": provenance.now(),
        "finished": None,
        "model_name": str(args.model_name),
        "settings": table,
        "identity": asked | of_base,
        "precision": str(dtype),
        "device": str(device),
        "processes": processes.num_processes,
        "gradient_checkpointing": checkpointing,
        "resumed_from": str(checkpoint) if checkpoint else None,
        "data_files": data_files(args),
        "counts": {side: len(token_rows.of_side(to_train, side)) for side in SIDES},
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "hardware": provenance.hardware(),
    }
    if processes.is_main_process:
        run_folder.write_manifest(folder, manifest)
    # A GPU that hangs can take the process with it before it says a word: so the command stands in the log beforehand.
    cli.progress(f"If the run is cut off, go on with:\n  {recovery.resume_command(SCRIPT, folder)}")
    stopper = make_stopper()
    trainer = build_trainer(
        args, folder, model, tokenizer, to_train, to_validate, dtype, checkpointing, stopper
    )
    try:
        result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        explained = recovery.explain(SCRIPT, args, folder, trainer, error)
        if explained is None:
            raise
        raise explained from error
    if stopper.asked:
        raise cli.Interrupted(
            f"step {trainer.state.global_step} is saved. Go on with:\n  {recovery.resume_command(SCRIPT, folder)}"
        )
    evaluation = trainer.evaluate()
    metrics = result.metrics | evaluation
    setup.save(
        folder, trainer, tokenizer, manifest | {"finished": provenance.now()}, result.metrics, evaluation
    )
    return metrics


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    check_wishes(args)
    examples = functools.cache(lambda: read_data(args))
    files = data_files(args)
    folder, checkpoint = choose_run(args)
    hashes = {name: provenance.sha256(require_file(path)) for name, path in files.items()}
    asked = asked_identity(args, hashes)
    if checkpoint == "finished":
        before = run_folder.identity(run_folder.read_manifest(folder))
        if changed := run_folder.differences(before, asked):
            raise UserError(
                f"{paths.shown(folder)} is finished, but it is another run than this one:\n  "
                + "\n  ".join(changed)
                + "\nChoose another --output_dir, or remove that folder to train anew."
            )
        print(f"{paths.shown(folder)} is already finished; nothing to do.")
        print_next(run_folder.read_manifest(folder)["model_name"], folder)
        return cli.EXIT_OK
    if not args.dry_run:
        require_writable_parent(folder)
    check_same_run(args, folder, checkpoint, asked)
    check_data(args, files, hashes, examples)
    table = cli.print_settings(
        "Fine-tuning settings",
        args,
        given,
        dict.fromkeys(paths.DATASET_FILES, "WIKI_DATA"),
        {"output_dir": (str(folder), "flag" if args.output_dir else "made from model, mode and time")},
    )

    metrics = train(args, folder, checkpoint, table, asked, examples)
    if metrics is None:
        print("\nDry run: nothing was trained or written. Leave --dry_run out to train.")
        return cli.EXIT_OK
    print(
        f"\nTraining finished in {metrics['train_runtime'] / 60:.1f} min: training loss {metrics['train_loss']:.3f}, "
        + ", ".join(
            f"{side} validation loss {metrics[f'eval_{side}_loss']:.3f}"
            for side in SIDES
            if f"eval_{side}_loss" in metrics
        )
    )
    print_next(args.model_name, folder)
    return cli.EXIT_OK


def print_next(model_name, folder):
    print(
        f"Adapter: {paths.shown(folder / 'final')}\n\nNext:\n"
        f"  python scripts/merge_lora.py --base_model {model_name} \\\n"
        f"      --lora_path {paths.shown(folder / 'final')} --output_path output/merged --verify"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
