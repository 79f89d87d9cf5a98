"""Flags of a training that a resumed run supplies, and those that would be given in vain."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from deepred_common import provenance
from deepred_common.cli import UserError
from deepred_common.training.objectives.catalogue import OBJECTIVES
from deepred_common.training.run_folder import Manifest
from deepred_common.training.settings import TRAINING_FILES, UNUSED, VALIDATION_FILES, TrainSettings

# They belong to one command, not to the run. A model's own code needs the user's consent each time, and logs
# may go elsewhere than before.
_OF_ONE_COMMAND = {
    *("output_dir", "resume_from_checkpoint", "resume_latest", "resume_anyway", "dry_run"),
    *("trust_remote_code", "wandb", "tensorboard"),
}
_QUANTISATION = {"use_4bit", "use_8bit"}  # one rules out the other


def recorded(manifest: Manifest, given: Collection[str]) -> dict[str, Any]:
    """{setting: value} that a run's run.json supplies for the flags that are not given when it is resumed.

    A data file that is gone is left out if the default, or WIKI_DATA, holds the same data now. UserError for
    --full with the run of an adapter.
    """
    table = manifest.get("settings", {})
    if "full" in given and table and not ("full" in table and table["full"]["value"]):
        raise UserError(
            "the run trains an adapter. Omit --full to resume it, or choose another --output_dir."
        )
    skipped = _OF_ONE_COMMAND | set(given)
    if skipped & _QUANTISATION:
        skipped |= _QUANTISATION
    values: dict[str, Any] = {}
    for name, default in vars(TrainSettings()).items():
        if name in skipped or name not in table or table[name]["value"] == UNUSED:
            continue
        value = table[name]["value"]
        if name == "objective" and value not in OBJECTIVES:
            continue  # of another version
        if name == "mix":
            value = value and tuple(value)
        elif name == "replay":
            value = tuple(Path(file) for file in value)
            if len(value) == 1 and _moved(value[0], default[0], manifest, name):
                continue
        elif isinstance(default, Path):
            value = Path(value)
            if _moved(value, default, manifest, name):
                continue
        values[name] = value
    return values


def _moved(recorded: Path, now: Path, manifest: Manifest, name: str) -> bool:
    """True if the recorded file of a setting is gone, and `now` holds the same data."""
    digest = manifest.get("identity", {}).get("data", {}).get(name)
    return not recorded.is_file() and now.is_file() and provenance.sha256(now) == digest


def require_used(settings: TrainSettings, given: Collection[str]) -> None:
    """UserError if a data file was given that these settings do not read: others would be trained on."""
    unread: tuple[str, ...]
    if settings.dev:
        unread, why = TRAINING_FILES + VALIDATION_FILES, "--dev reads --dev_path only. Omit one of the two"
        if "dev" not in given:
            why = "the run was started with --dev, which reads --dev_path only"
    else:
        unread, why = ("dev_path",), "only --dev reads it. Add --dev, or give the four other files"
    for name in unread:
        if name in given:
            raise UserError(f"--{name} would not be read: {why}.")
    if "replay" in given and settings.replay_share and not settings.uses_replay:
        raise UserError(
            f"--replay would not be read: --objective {settings.objective.name} has no loss of such rows."
        )
