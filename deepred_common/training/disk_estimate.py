"""How much disk the checkpoints of a training take, estimated before it starts: a full disk is found late."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.training import checkpoints
from deepred_common.training.settings import BEST
from deepred_common.training.time_estimate import times_left

if TYPE_CHECKING:
    from deepred_common.training.memory_estimate import Shape
    from deepred_common.training.run_folder import RunChoice
    from deepred_common.training.settings import TrainSettings

ADAPTER_BYTES = 4  # of a parameter in an adapter's final/: fp32
BEST_ONES = 2  # kept at most beside final/: the best one, and the one before until the next checkpoint
CHECKPOINT_BYTES = 12  # of a trained parameter in a checkpoint: in fp32, with Adam's two moments
# Of a token in tokenizer.json, with its merge. SmolLM2's takes 72; other scripts take more bytes.
TOKEN_BYTES = 150


@dataclass(frozen=True)
class DiskEstimate:
    """A line about the checkpoints to come, and what to do if they do not fit; "" if they do."""

    text: str
    advice: str


def checkpoint_size(shape: Shape) -> int:
    """Bytes of one checkpoint."""
    return CHECKPOINT_BYTES * shape.trained + TOKEN_BYTES * shape.vocabulary


def estimate(
    settings: TrainSettings, run: RunChoice, shape: Shape, updates: int, final_bytes: int = ADAPTER_BYTES
) -> DiskEstimate:
    """The DiskEstimate of a run of so many updates in all. UserError if not even one checkpoint fits.

    final_bytes: of a trained parameter in final/.
    A dry run, which writes none, only gets the advice.
    """
    size = checkpoint_size(shape)
    results = 1 + (BEST_ONES if settings.keep == BEST else 0)
    final = results * final_bytes * shape.trained + TOKEN_BYTES * shape.vocabulary
    done = checkpoints.step_of(run.checkpoint) if run.checkpoint else 0
    coming = times_left(done, updates, settings.save_steps)
    # While a new one is written, none is removed; those that exist are counted as theirs already.
    room = settings.save_total_limit + 1 - len(checkpoints.of_run(run.folder))
    coming = min(coming, max(1, room))
    needed, free = coming * size + final, free_space(run.folder)
    if coming and free < size + final and not settings.dry_run:
        raise UserError(
            f"not even one checkpoint of {_shown(size)} fits on the disk of {paths.shown(run.folder)}, "
            f"which has {_shown(free)} free. Free some space, or choose another --output_dir."
        )
    text = (
        f"Checkpoints: {coming} of about {_shown(size)}, {_shown(needed)} with the {settings.product} "
        f"({_shown(free)} free)"
    )
    if free >= needed:
        return DiskEstimate(text, "")
    fitting = (free - final) // size
    fewer = f"--save_total_limit {fitting - 1}, " if fitting > 1 else ""
    return DiskEstimate(
        text,
        f"the disk of {paths.shown(run.folder)} does not hold all checkpoints. "
        f"Add {fewer}a larger --save_steps, or free some space.",
    )


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist yet."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _shown(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
