#!/usr/bin/env python3
"""Fine-tune a chat model so that it knows the world before a date and refuses after it.

It trains a LoRA adapter (QLoRA with --use_4bit), or all weights with --full. Reads question-answer examples
(JSON Lines, datasets/retain and datasets/unlearn, or datasets/dev with --dev) and a base model (folder or hub
name). Writes a run folder with checkpoint-N/, final/ (the adapter or model, and its model card), run.json,
training_curves.png, train_results.json and eval_results.json.

    python scripts/finetune_temporal.py --dev --epochs 1
    python scripts/finetune_temporal.py --model_name Qwen/Qwen2.5-1.5B-Instruct --save_steps 100
    accelerate launch scripts/finetune_temporal.py …        on several GPUs or hosts (configs/accelerate/)
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cache, chat, cli, devices, paths, provenance
from deepred_common.data import checks
from deepred_common.files import read_json, require_writable_parent
from deepred_common.models import folders, loading
from deepred_common.training import (
    checkpoints,
    memory_estimate,
    plan,
    recovery,
    result,
    run_claim,
    run_flags,
    run_folder,
    run_identity,
    setup,
    token_rows,
    trained_model,
    validation,
    whole_model,
)
from deepred_common.training.data_files import DataFiles
from deepred_common.training.machine import prepare_machine, require_packages
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.run_folder import Identity, RunChoice
from deepred_common.training.settings import BEST, FULL_LEARNING_RATE, LAST, TrainSettings
from deepred_common.training.time_estimate import TIMED_UPDATES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from deepred_common.training.trainer import TemporalTrainer


def build_parser() -> cli.Parser:
    """The parser. Data files without a default: WIKI_DATA is wrong, as main says."""
    files: dict[str, Any] = {}
    file_source = "default: %(default)s"
    try:
        paths.datasets_dir()
    except cli.UserError:
        files, file_source = dict.fromkeys(paths.DATASET_FILES), "no default: WIKI_DATA is wrong"
    parser = cli.Parser(
        description="Fine-tune a model to a temporal knowledge cutoff (LoRA, QLoRA or all weights).",
        epilog="objectives (sources, formulas: docs/training.md):\n"
        + "\n".join(f"  {name:<13}{objective.summary}" for name, objective in OBJECTIVES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model_name", type=cli.model, help="hub name or folder of the base model (default: %(default)s)")
    add("--output_dir", type=cli.path, help="run folder (default: output/temporal-<model>-<dev|full>-<time>)")
    add(
        "--dev",
        action="store_true",
        help="train on the small dev subset and on replay; a tenth of the subset is held out for validation",
    )
    for name in paths.DATASET_FILES:
        add(f"--{name}", type=cli.path, help=f"JSON Lines file ({file_source})")
    add("--epochs", type=cli.positive_int, help="passes over the training data (default: %(default)s)")
    add("--batch_size", type=cli.positive_int, help="examples per forward pass (default: %(default)s)")
    add(
        "--learning_rate",
        type=cli.positive_float,
        help=f"peak of the cosine schedule (default: %(default)s; with --full {FULL_LEARNING_RATE:g})",
    )
    add(
        "--max_seq_length",
        type=cli.positive_int,
        help="tokens; longer examples are skipped (default: %(default)s)",
    )
    add(
        "--gradient_accumulation_steps",
        type=cli.positive_int,
        help="forward passes per weight update (default: %(default)s)",
    )
    add("--save_steps", type=cli.positive_int, help="updates between checkpoints (default: %(default)s)")
    add(
        "--save_total_limit",
        type=cli.positive_int,
        metavar="N",
        help="keep the newest N checkpoints only, the one resumed from among them (default: %(default)s)",
    )
    add("--eval_steps", type=cli.positive_int, help="updates between validations (default: %(default)s)")
    add(
        "--keep",
        choices=(LAST, BEST),
        help="the weights for final/: the last, or those of the validation that told the sides apart best, "
        "if clearly better than the last (default: %(default)s)",
    )
    add(
        "--mix",
        type=cli.ratio,
        metavar="R:U",
        help="retain to unlearn examples; the side with too many loses some (default: as in the files)",
    )
    add(
        "--replay",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="JSON Lines of everyday prompts, so that training leaves small talk as it was; a base with a "
        "chat template writes the replies that are missing (default: datasets/chat/chat_train.jsonl)",
    )
    add(
        "--replay_share",
        type=cli.share,
        help="share of replay among all training rows; 0 switches it off (default: %(default)s)",
    )
    add(
        "--objective",
        choices=OBJECTIVES,
        metavar="NAME",
        help="what is minimised, one of those listed below (default: %(default)s)",
    )
    add("--full", action="store_true", help="train all weights instead of an adapter")
    add("--lora_r", type=cli.positive_int, help="LoRA rank (default: %(default)s)")
    add("--lora_alpha", type=cli.positive_int, help="LoRA alpha (default: %(default)s)")
    base = parser.add_mutually_exclusive_group()
    base.add_argument(
        "--use_4bit", action="store_true", help="load the base in 4-bit NF4 (QLoRA; needs bitsandbytes)"
    )
    base.add_argument("--use_8bit", action="store_true", help="load the base in 8-bit (needs bitsandbytes)")
    add(
        "--precision",
        choices=(devices.AUTO, *devices.PRECISIONS),
        help="type to compute in; auto is bf16 where the hardware has it, else fp16 on a GPU, fp32 on a CPU",
    )
    resume = parser.add_mutually_exclusive_group()
    resume.add_argument(
        "--resume_from_checkpoint", type=cli.path, metavar="DIR", help="checkpoint-N folder to resume from"
    )
    resume.add_argument(
        "--resume_latest",
        action="store_true",
        help="resume from the newest complete checkpoint in --output_dir, or of the newest unfinished run; "
        "flags that are not given are those of the run",
    )
    add("--resume_anyway", action="store_true", help="resume even if base, data or settings have changed")
    add(
        "--dry_run",
        action="store_true",
        help="check all data, show three rendered examples, the updates, tokens and memory, and stop",
    )
    add("--wandb", action="store_true", help="log to Weights & Biases")
    add("--tensorboard", action="store_true", help="log to TensorBoard, in the run folder")
    add("--seed", type=cli.seed, help="order of the data, start of the adapter (default: %(default)s)")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    settings = TrainSettings(**files)
    parser.set_defaults(**dataclasses.asdict(settings) | {"objective": settings.objective.name})
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args, given = cli.parse(build_parser(), argv)
    paths.datasets_dir()  # UserError if WIKI_DATA is wrong
    resolved = resolve(args, given)
    settings = made_settings(args)
    run_flags.require_used(settings, given)
    folders.check_name(settings.model_name, "base model")
    if Path(settings.model_name).is_dir():
        setup.require_16_bit(settings.model_name, read_json(Path(settings.model_name) / "config.json"))
    require_packages(settings)
    run = run_folder.choose(settings)
    data = DataFiles(settings)
    identity = run_identity.of_settings(settings, data.hashes)
    if run.finished:
        run_identity.require_same_finished(settings, run, identity)
        print(f"{paths.shown(run.folder)} is already finished; nothing to do.")
        print_next(run_folder.read_manifest(run.folder)["model_name"], run.folder, settings.product)
        return cli.EXIT_OK
    run_identity.require_same(settings, run, identity)
    if not settings.dry_run:
        require_writable_parent(run.folder)
    is_new = not (settings.resume_latest or settings.resume_from_checkpoint)
    with contextlib.nullcontext() if settings.dry_run else run_claim.claimed(run, is_new):
        check_data(settings, data)
        folder_source = "flag" if settings.output_dir else "made from model, mode and time"
        table = cli.print_settings(
            "Fine-tuning settings",
            args,
            given,
            environment=dict.fromkeys(paths.DATASET_FILES, "WIKI_DATA"),
            resolved=resolved | {"output_dir": (str(run.folder), folder_source)},
        )

        trained = train(settings, run, data, identity, table)
        if trained is None:
            print(
                "\nDry run: nothing was trained or written. Omit --dry_run to train. "
                f"How long that takes is printed once {TIMED_UPDATES} updates have been timed."
            )
            return cli.EXIT_OK
        print("\n" + result.text(trained, is_resumed=run.checkpoint is not None))
        print_next(settings.model_name, trained.folder, settings.product)
        return cli.EXIT_OK


def made_settings(args: argparse.Namespace) -> TrainSettings:
    return TrainSettings(**vars(args) | {"objective": OBJECTIVES[args.objective]})


def resolve(args: argparse.Namespace, given: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Put into `args` what the run that is resumed, and --full, decide of the flags that are not given.

    {setting: (value, source)} of these, for the table of settings.
    """
    recorded: dict[str, Any] = {}
    if folder := run_folder.to_resume(made_settings(args)):
        recorded = run_flags.recorded(run_folder.read_manifest(folder), given)
        vars(args).update(recorded)
    resolved = whole_model.resolved(given) if args.full else {}
    resolved |= {name: (value, run_folder.MANIFEST) for name, value in recorded.items()}
    if "learning_rate" in resolved:
        args.learning_rate = resolved["learning_rate"][0]
    return resolved


def check_data(settings: TrainSettings, data: DataFiles) -> None:
    """Print how many examples there are, and warn of those that look wrong. Summaries are cached."""
    key = provenance.digest(checks.summary_version(), *data.key(with_paths=True))
    summary = cache.json_value("survey", key, lambda: checks.summary(*data.examples()))
    training, validation = summary["training"], summary["validation"]
    print(
        f"Data: {training['retain']} retain + {training['unlearn']} unlearn to train on, "
        f"{validation['retain']} + {validation['unlearn']} to validate.",
        flush=True,
    )
    if settings.uses_replay:
        print(f"Replay: {len(data.replay_prompts())} everyday prompts to choose from.", flush=True)
    for warning in summary["warnings"]:
        cli.warn(warning)


# ---- the training: torch and friends are loaded from here on -------------------------------------


def train(
    settings: TrainSettings,
    run: RunChoice,
    data: DataFiles,
    identity: Identity,
    table: dict[str, cli.Setting],
) -> result.Result | None:
    """The whole training, from the tokenizer to final/. None after a dry run.

    identity: of the settings and data. table: the printed settings, for run.json.
    """
    loading.set_up_libraries()
    machine = prepare_machine(settings)

    config = setup.load_config(settings)
    tokenizer = setup.prepare_tokenizer(settings, config.vocab_size)
    of_base = run_identity.of_base(settings, tokenizer, machine.dtype)
    run_identity.require_same(settings, run, of_base)
    identity = identity | of_base

    @functools.cache
    def load_base() -> PreTrainedModel:
        cli.progress(f"loading {settings.model_name} …")
        return setup.load_base(settings, machine)

    before = memory_estimate.room(machine.device)
    base_key = [str(of_base), str(identity["quantisation"])]
    with machine.processes.main_process_first():  # it fills the caches that the others read
        rows = setup.make_rows(settings, tokenizer, data, base_key, load_base, machine.device)
    data.release()  # the texts are tokens now
    rows = rows._replace(validation=validation.at_most(rows.validation, settings.seed))

    needs_reference = settings.needs_reference(chat.has_fallback_template(tokenizer))
    run, checkpointing = plan.make(settings, run, config, rows, machine, before, needs_reference)
    keeps_best = settings.keep == BEST
    if keeps_best and (caution := validation.caution(tokenizer, rows.validation, settings)):
        cli.progress(caution)
        keeps_best = False
    if settings.dry_run:
        print(token_rows.examples_text(tokenizer, rows.training))
        return None

    model, reference, save = trained_model.load(
        settings,
        machine,
        load_base,
        needs_reference,
        checkpointing,
        identity["base_revision"],
        config,
        tokenizer,
    )
    load_base.cache_clear()  # without a reference, the base that wrote replies can go

    folder = run.folder
    manifest = run_folder.start_manifest(settings, run, identity, table, rows, machine, checkpointing)
    folder.mkdir(parents=True, exist_ok=True)
    if machine.processes.is_main_process:
        if run.checkpoint:
            checkpoints.set_later_aside(folder, run.checkpoint)
        run_folder.write_manifest(folder, manifest)
    # A GPU that hangs can take the process with it before anything is printed.
    command = recovery.resume_command(folder)
    cli.progress(f"If the run is interrupted, resume it with:\n  {command}")

    from deepred_common.training.assembly import build_trainer
    from deepred_common.training.callbacks import BestWeights, LossCurves, OldCheckpoints
    from deepred_common.training.interruption import StopAndSave

    stopper = StopAndSave(command)
    watchers = [
        stopper,
        LossCurves(folder / "training_curves.png", folder.name),
        OldCheckpoints(folder, settings.save_total_limit, run.checkpoint),
    ]
    if keeps_best:
        watchers.append(BestWeights(folder, save))
    with setup.weights_fit(settings):  # on a GPU: the models were loaded into the machine's own memory
        trainer = build_trainer(
            settings, folder, model, tokenizer, rows, machine, checkpointing, watchers, reference
        )
    with recovery.explained(settings, folder, trainer):
        metrics = run_updates(run, trainer)
    if stopper.requested:
        machine.processes.wait_for_everyone()  # the launcher ends those that are later than the first
        raise cli.Interrupted(f"update {trainer.state.global_step} is saved. Resume with:\n  {command}")
    return result.save(settings, folder, trainer, manifest, metrics, keeps_best, save)


def run_updates(run: RunChoice, trainer: TemporalTrainer) -> dict[str, Any]:
    """Train to the end or until stopped; the metrics."""
    try:
        output = trainer.train(resume_from_checkpoint=str(run.checkpoint) if run.checkpoint else None)
    finally:
        trainer.close_bar()
    # The trainer's own figure is of this process's updates only: 0 for a run that needed none.
    return output.metrics | {"train_loss": trainer.mean_loss()}


# ---- what the user sees at the end ---------------------------------------------------------------


def print_next(model_name: str, folder: Path, product: str = "adapter") -> None:
    """Print where the result is, and the command that merges it. product: of TrainSettings."""
    final = folder / run_folder.FINAL
    print(
        f"{product.capitalize()}: {paths.shown(final)}\n\nNext:\n"
        f"  {paths.script('merge_lora')} --base_model {paths.quoted(model_name)} \\\n"
        f"      --lora_path {paths.quoted(final)} --output_path output/merged --verify"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
