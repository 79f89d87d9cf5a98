"""The settings of a training run: what scripts/finetune_temporal.py takes as flags, and their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deepred_common import devices, paths
from deepred_common.examples import CHAT
from deepred_common.training.objectives.protocol import Objective
from deepred_common.training.objectives.refusal import Refusal

TRAINING_FILES = ("retain_train", "unlearn_train")
VALIDATION_FILES = ("retain_val", "unlearn_val")
LAST, BEST = "last", "best"  # the values of --keep
LORA_LEARNING_RATE = 2e-4
UNUSED = "unused"  # shown for a setting that has no meaning beside another one
# What the SFT scripts of alignment-handbook and trl take for full fine-tuning.
FULL_LEARNING_RATE = 2e-5


@dataclass(frozen=True)
class TrainSettings:
    """Fields are named like the flags, whose help texts explain them."""

    model_name: str = paths.DEFAULT_MODEL
    output_dir: Path | None = None
    dev: bool = False
    dev_path: Path = field(default_factory=partial(paths.dataset_file, "dev_path"))
    retain_train: Path = field(default_factory=partial(paths.dataset_file, "retain_train"))
    retain_val: Path = field(default_factory=partial(paths.dataset_file, "retain_val"))
    unlearn_train: Path = field(default_factory=partial(paths.dataset_file, "unlearn_train"))
    unlearn_val: Path = field(default_factory=partial(paths.dataset_file, "unlearn_val"))
    epochs: int = 3
    batch_size: int = 4
    learning_rate: float = LORA_LEARNING_RATE
    max_seq_length: int = 512
    gradient_accumulation_steps: int = 4
    save_steps: int = 500
    save_total_limit: int = 3
    eval_steps: int = 100
    keep: str = BEST
    mix: tuple[float, float] | None = None
    replay: Sequence[Path] = (paths.ROOT / "datasets" / paths.CHAT_FILE,)
    replay_share: float = 0.25
    full: bool = False
    lora_r: int = 16
    lora_alpha: int = 32
    use_4bit: bool = False
    use_8bit: bool = False
    precision: str = devices.AUTO
    resume_from_checkpoint: Path | None = None
    resume_latest: bool = False
    resume_anyway: bool = False
    dry_run: bool = False
    wandb: bool = False
    tensorboard: bool = False
    seed: int = 42
    trust_remote_code: bool = False
    objective: Objective = field(default_factory=Refusal)

    @property
    def quantisation_bits(self) -> int | None:
        """Bits of a weight in the base's linear layers; None if they are not quantised."""
        return 4 if self.use_4bit else 8 if self.use_8bit else None

    @property
    def product(self) -> str:
        """What is trained and saved, in a word."""
        return "model" if self.full else "adapter"

    @property
    def default_learning_rate(self) -> float:
        return FULL_LEARNING_RATE if self.full else LORA_LEARNING_RATE

    @property
    def uses_replay(self) -> bool:
        """True if there are chat rows: the objective has a loss of them, and they have a share."""
        return bool(self.replay_share) and CHAT in self.objective.loss_sides

    def needs_reference(self, learns_replay: bool) -> bool:
        """True if the base is needed beside the trained model. Without its adapter, a model is its base.

        learns_replay: the wording of all chat rows is learned, as for a base without a chat template.
        """
        sides = set(self.objective.base_sides)
        if not self.uses_replay or (learns_replay and CHAT in self.objective.drift_only_sides):
            sides.discard(CHAT)
        return self.full and bool(sides)

    @property
    def rows_per_update(self) -> int:
        """Rows that a weight update learns from, over all processes.

        How they are divided into forward passes changes the memory needed and nothing else.
        """
        return self.batch_size * self.gradient_accumulation_steps * devices.processes()

    @property
    def dated_files(self) -> dict[str, Path]:
        """{flag: path} of the files with retain and unlearn examples."""
        names = ("dev_path",) if self.dev else TRAINING_FILES + VALIDATION_FILES
        return {name: getattr(self, name) for name in names}

    @property
    def data_files(self) -> dict[str, Path]:
        """{name: path} of all files that this run reads; replay files are numbered from the second on."""
        files = self.dated_files
        for number, path in enumerate(self.replay if self.uses_replay else (), 1):
            files["replay" if number == 1 else f"replay {number}"] = path
        return files
