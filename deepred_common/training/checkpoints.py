"""The checkpoint-N folders of a run: where they are, which of them can be resumed from, which are removed."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deepred_common import cli, devices, paths
from deepred_common.cli import UserError
from deepred_common.models import trained_weights

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_FSDP_WEIGHTS = "pytorch_model_fsdp"  # accelerate's name
# Beside the weights; of each line one name is enough.
_CHECKPOINT_FILES = (
    # As transformers writes it; FSDP, whole or in shards; DeepSpeed.
    ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*"),
    ("scheduler.pt",),
    ("trainer_state.json",),
)


def path_of(folder: str | Path, step: int) -> Path:
    """Where a run keeps the checkpoint of an update."""
    return Path(folder) / f"checkpoint-{step}"


def fault(folder: str | Path) -> str | None:
    """Why the checkpoint `folder` cannot be resumed from, or None if it is complete."""
    folder = Path(folder)
    if not _is_sharded(folder) and (damage := trained_weights.fault(folder)):
        return damage
    for names in _CHECKPOINT_FILES:
        files = [file for name in names for file in folder.glob(name)]
        if not any(_has_content(file) for file in files):
            return f"{names[0]} is missing"
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except ValueError:
        return "trainer_state.json is cut short"
    saved_by_torch = ("optimizer.*", "scheduler.pt", f"{_FSDP_WEIGHTS}.bin", "rng_state*.pth")
    for file in [file for name in saved_by_torch for file in folder.glob(name)]:
        # torch saves zip archives, whose table of contents comes last: a file that was cut short, or that a
        # power cut left full of zeros, has none.
        if not zipfile.is_zipfile(file):
            return f"{file.name} is damaged"
    return None


def _is_sharded(folder: Path) -> bool:
    """True if each process saved its part of the weights (FSDP's SHARDED_STATE_DICT): no adapter is there."""
    return any(folder.glob(f"{_FSDP_WEIGHTS}_*"))


def _split_by(folder: Path) -> str | None:
    """What split the model of a complete checkpoint over the processes, as devices.splits_model says it."""
    if (folder / "optimizer.pt").exists():
        return None
    return "DeepSpeed" if any(folder.glob("global_step*")) else "FSDP"


def _has_content(path: Path) -> bool:
    """True if a file is not empty, or a folder holds files."""
    return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0


def unusable(folder: Path) -> str | None:
    """Why a checkpoint must not be resumed from, to follow its name; None if it may."""
    if damage := fault(folder):
        return f"is not complete ({damage})"
    before, now = _split_by(folder), devices.splits_model()
    if before != now:  # transformers would go on without the optimizer's state
        then = f"under {before}" if before else "by processes that each held the whole model"
        return f"was saved {then}, and this run is {f'under {now}' if now else 'not'}"
    if not _is_sharded(folder) and trained_weights.non_finite(folder):
        return "was saved after the training had diverged (its weights are NaN or infinite)"
    return None


def latest(folder: str | Path) -> Path | None:
    """A run's usable checkpoint with the most updates, or None; other ones are named on stderr.

    UserError if only a run that is launched otherwise could use one: this one would write over them.
    """
    for checkpoint in sorted(of_run(folder), key=step_of, reverse=True):
        why = unusable(checkpoint)
        if why is None:
            return checkpoint
        cli.warn(f"{paths.shown(checkpoint)} {why}; it is skipped.")
    whole = [checkpoint for checkpoint in of_run(folder) if fault(checkpoint) is None]
    if others := [checkpoint for checkpoint in whole if _split_by(checkpoint) != devices.splits_model()]:
        raise UserError(
            f"the checkpoint {paths.shown(others[-1])} {unusable(others[-1])}.\n"
            "Start this run as that one was started, or choose another --output_dir."
        )
    return None


def set_later_aside(folder: str | Path, checkpoint: Path) -> None:
    """Rename a run's usable checkpoints after `checkpoint`, which it resumes from, and say so.

    They are of a training that ends elsewhere: latest must not find them before the run's own.
    """
    for later in of_run(folder):
        if step_of(later) > step_of(checkpoint) and unusable(later) is None:
            aside = later.with_name(f"replaced-{later.name}")
            if aside.exists():
                shutil.rmtree(aside)
            later.rename(aside)
            cli.progress(f"{later.name} is from before this resume; it is kept as {paths.shown(aside)}")


def of_run(folder: str | Path) -> list[Path]:
    """The checkpoint folders of a run, whole or not, the oldest first."""
    folders = [path for path in Path(folder).glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    return sorted(folders, key=lambda path: (path.lstat().st_mtime, step_of(path)))


def remove_old(folder: str | Path, limit: int, kept: Sequence[Path | None]) -> None:
    """Remove the oldest checkpoints of a run until `limit` are left, but none of `kept`."""
    stay = {path.resolve() for path in kept if path}
    present = of_run(folder)
    newest = max((path.lstat().st_mtime for path in stay if path.exists()), default=0.0)
    # The clock may have been set back: what then lies in the future of the newest is older than all others.
    present.sort(key=lambda path: path.is_symlink() or path.lstat().st_mtime <= newest)
    removable = [path for path in present if path.resolve() not in stay]
    for path in removable[: max(0, len(present) - limit)]:
        # A checkpoint that cannot be removed is no reason to stop a training.
        shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The number of weight updates that a checkpoint-N folder was saved after."""
    return int(checkpoint.name.rpartition("-")[2])


def require(folder: str | Path) -> Path:
    """Check that a checkpoint given by hand is complete; return its path. UserError if it is not."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"the checkpoint {folder} does not exist or is not a folder.")
    if not _CHECKPOINT.fullmatch(folder.name):
        inside = latest(folder)
        hint = f" Did you mean {inside}?" if inside else ""
        raise UserError(f"{folder} is not a checkpoint-N folder.{hint}")
    if why := unusable(folder):
        raise UserError(
            f"the checkpoint {folder} {why}.\nUse --resume_latest for the newest one that can be used."
        )
    return folder
