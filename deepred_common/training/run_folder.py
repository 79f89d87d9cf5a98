"""Run folders: their names, run.json (what was run, on what, finished or not), and what is resumed."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from deepred_common import cli, devices, paths, provenance
from deepred_common.cli import Setting, UserError
from deepred_common.examples import ALL_SIDES
from deepred_common.files import json_text, whole_folder, write_text
from deepred_common.models import trained_weights
from deepred_common.training import checkpoints, model_card, token_rows

if TYPE_CHECKING:
    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings
    from deepred_common.training.setup import Rows

MANIFEST = "run.json"
FINAL = "final"


# Writes a trained model's adapter, or the whole model, to a folder.
Saver = Callable[[Any, Path], None]


class Identity(TypedDict, total=False):
    """What makes a run this run and no other (run_identity.py). Some entries need the base's tokenizer."""

    data: dict[str, str]  # {flag: SHA-256 of its file}
    full: bool  # all weights are trained, without an adapter
    lora_r: int
    lora_alpha: int
    learning_rate: float
    seed: int
    max_seq_length: int
    replay_share: float
    replay_tokens: int | None
    mix: list[float] | None
    rows_per_update: int
    epochs: int
    quantisation: str | None  # "4bit" or "8bit"
    objective: dict[str, Any]  # Objective.identity()
    precision: str  # of devices.PRECISIONS
    base: str | None  # SHA-256 of the base's weights, or the hub's commit
    base_revision: str | None  # the hub's commit
    chat_template: str  # its hash


class Manifest(TypedDict, total=False):
    """run.json. Older ones lack entries."""

    started: str  # ISO 8601
    finished: str | None  # ISO 8601; None until the result is in final/
    updates: int  # that the run made
    kept_update: int  # the one whose weights are in final/
    model_name: str
    settings: dict[str, Setting]
    identity: Identity
    precision: str  # as torch names it: "torch.float32"
    device: str
    processes: int
    gradient_checkpointing: bool
    resumed_from: str | None
    data_files: dict[str, str]
    counts: dict[str, int]  # {side: training rows}
    versions: dict[str, str]
    git_commit: str | None
    hardware: provenance.Hardware


@dataclass(frozen=True)
class RunChoice:
    """Where a run goes and where it starts."""

    folder: Path
    checkpoint: Path | None = None  # to resume from; None starts at the beginning
    finished: bool = False  # nothing is left to train


def to_resume(settings: TrainSettings) -> Path | None:
    """The folder of the run that the settings resume, made or not yet; None if there is none to resume."""
    if settings.resume_from_checkpoint:
        return settings.resume_from_checkpoint.resolve().parent
    if settings.resume_latest:
        return settings.output_dir or newest_unfinished(settings)
    return None


def choose(settings: TrainSettings) -> RunChoice:
    """The RunChoice that the settings mean; what a resume finds is printed. UserError if they mean none."""
    if settings.resume_from_checkpoint:
        checkpoint = checkpoints.require(settings.resume_from_checkpoint)
        own = checkpoint.resolve().parent
        target = settings.output_dir or own
        if target.resolve() != own:
            require_no_run(target)
        return RunChoice(target, checkpoint)
    if settings.resume_latest:
        return _choose_latest(settings)
    folder = settings.output_dir
    if folder is None:
        return RunChoice(new_run_folder(settings.model_name, settings.dev))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder} is a file.")
    require_no_run(folder)
    return RunChoice(folder)


def require_no_run(folder: Path) -> None:
    """UserError if there is a run in `folder`."""
    if (folder / MANIFEST).exists() or any(folder.glob("checkpoint-*")) or (folder / FINAL).exists():
        raise UserError(
            f"{paths.shown(folder)} already holds a run. Add --resume_latest to resume it (in place of "
            "--resume_from_checkpoint, if you gave that), or choose another --output_dir."
        )


def _choose_latest(settings: TrainSettings) -> RunChoice:
    folder = to_resume(settings)
    if folder is None:
        cli.progress("--resume_latest: output/ has no unfinished run of this model and mode; starting one.")
        return RunChoice(new_run_folder(settings.model_name, settings.dev))
    if settings.output_dir is None:
        cli.progress(f"--resume_latest: the newest unfinished run is {paths.shown(folder)}")
    epochs_before = read_manifest(folder).get("identity", {}).get("epochs", settings.epochs)
    if is_finished(folder) and settings.epochs <= epochs_before:
        return RunChoice(folder, finished=True)
    checkpoint = checkpoints.latest(folder)
    if checkpoint is None and is_finished(folder):
        raise UserError(
            f"{paths.shown(folder)} is finished and has no checkpoint left to train more epochs from.\n"
            f"It was trained for --epochs {epochs_before}. For more, choose another --output_dir: "
            "that trains anew, and what is here stays."
        )
    checkpoint = checkpoint or _begun_at(folder)
    if checkpoint:
        cli.progress(f"--resume_latest: resuming from {paths.shown(checkpoint)}")
    else:
        has_none = "has no complete checkpoint yet; starting anew"
        found = has_none if folder.exists() else "does not exist; a new run starts there"
        cli.progress(f"--resume_latest: {paths.shown(folder)} {found}.")
    return RunChoice(folder, checkpoint)


# ---- names ---------------------------------------------------------------------------------------


def run_prefix(model_name: str | Path, dev: bool) -> str:
    """`temporal-<model>-<dev|full>-`, with the last part of the model's name in lower case."""
    name = os.path.basename(os.path.abspath(model_name))  # of "." and ".." as well
    stem = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-")
    return f"temporal-{stem}-{'dev' if dev else 'full'}-"


def new_run_folder(model_name: str | Path, dev: bool) -> Path:
    """The path of a new run's folder in output/, named by model, mode and time. It is not created."""
    return paths.OUTPUT / (run_prefix(model_name, dev) + datetime.datetime.now().strftime("%Y%m%d_%H%M%S"))


def newest_unfinished(settings: TrainSettings) -> Path | None:
    """The newest run folder in output/ of this model and mode that is not finished, or None."""
    prefix = run_prefix(settings.model_name, settings.dev)
    folders = [path for path in paths.OUTPUT.glob(f"{prefix}*") if (path / MANIFEST).exists()]
    unfinished = [
        path
        for path in folders
        if not is_finished(path)
        and read_manifest(path).get("identity", {}).get("full", False) == settings.full
    ]
    return max(unfinished, key=lambda p: p.name, default=None)


# ---- run.json ------------------------------------------------------------------------------------


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write run.json into `folder`, whole or not at all."""
    write_text(Path(folder) / MANIFEST, json_text(manifest, indent=2, ensure_ascii=True) + "\n")


def start_manifest(
    settings: TrainSettings,
    run: RunChoice,
    identity: Identity,
    table: dict[str, Setting],
    rows: Rows,
    machine: Machine,
    checkpointing: bool,
) -> Manifest:
    """run.json as it is until the run is finished. table: the settings as they were printed."""
    before = read_manifest(run.folder) if run.checkpoint else {}
    return {
        "started": before.get("started") or provenance.now(),
        "finished": None,
        "model_name": str(settings.model_name),
        "settings": table,
        "identity": identity,
        "precision": str(machine.dtype),
        "device": str(machine.device),
        "processes": machine.processes.num_processes,
        "gradient_checkpointing": checkpointing,
        "resumed_from": str(run.checkpoint.resolve()) if run.checkpoint else None,
        "data_files": {name: str(path) for name, path in settings.data_files.items()},
        "counts": {side: len(token_rows.of_side(rows.training, side)) for side in ALL_SIDES},
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "hardware": provenance.hardware(),
    }


def read_manifest(folder: str | Path) -> Manifest:
    """The object in `folder`/run.json, or {} if there is none or it cannot be read."""
    try:
        return cast(Manifest, json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _begun_at(folder: Path) -> Path | None:
    """The checkpoint of another run that the run in `folder` started from; None if there is none.

    UserError if it cannot be used any more: to start anew from the base would be another run.
    """
    name = read_manifest(folder).get("resumed_from")
    if not name or Path(name).resolve().parent == folder.resolve():
        return None
    if why := checkpoints.unusable(Path(name)):
        raise UserError(
            f"{paths.shown(folder)} began at {name}, which {why}.\n"
            "Choose another --output_dir, with or without --resume_from_checkpoint."
        )
    return Path(name)


def is_finished(folder: str | Path) -> bool:
    """True if the run in `folder` ended by itself and left its adapter or model."""
    if not read_manifest(folder).get("finished"):
        return False
    return trained_weights.fault(Path(folder) / FINAL) is None


def save_result(
    folder: Path,
    trainer: Any,
    manifest: Manifest,
    training_metrics: dict[str, Any],
    evaluation: dict[str, float],
    kept: Path | None,
    save: Saver,
) -> None:
    """Write final/, the two results files and `manifest`, in the process that saves. Call it in all.

    kept: the folder with the weights for final/; None lets `save` write the trainer's, as they are now.
    """
    # Of a model that is split over the processes each has a part, and all must give theirs.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if devices.splits_model() else None
    if not trainer.is_world_process_zero():
        return
    with whole_folder(folder / FINAL) as final:
        if kept:
            shutil.copytree(kept, final, dirs_exist_ok=True)
        elif weights is not None:  # an adapter's: --full does not run split
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(final), state_dict=weights)
        else:
            save(trainer.accelerator.unwrap_model(trainer.model), final)
        trainer.processing_class.save_pretrained(str(final))
        model_card.write(final, manifest, evaluation)
    for name, metrics in (("train", training_metrics), ("eval", evaluation)):
        write_text(folder / f"{name}_results.json", json_text(metrics, indent=2) + "\n")
    write_manifest(folder, manifest)
