"""Run folders: their names, run.json (what was run, on what, finished or not), and which checkpoint is complete."""

import datetime
import json
import re
import zipfile
from pathlib import Path

from deepred_common import devices, paths
from deepred_common.cli import UserError, warn
from deepred_common.files import write_text

MANIFEST = "run.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_CHECKPOINT_FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "optimizer.pt",
    "scheduler.pt",
    "trainer_state.json",
)


def run_prefix(model_name, dev):
    """`temporal-<model>-<dev|full>-`, with the last part of the model's name in lower case."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", Path(str(model_name).rstrip("/")).name.lower()).strip("-")
    return f"temporal-{stem}-{'dev' if dev else 'full'}-"


def new_run_folder(model_name, dev):
    """The path of a new run's folder below output/, named by model, mode and time; it is not made."""
    return paths.OUTPUT / (run_prefix(model_name, dev) + datetime.datetime.now().strftime("%Y%m%d_%H%M%S"))


def identity(manifest):
    """What made the run of a manifest that run and no other. Older manifests keep the precision elsewhere."""
    recorded = manifest.get("identity", {})
    if "precision" in manifest and "precision" not in recorded:
        return recorded | {"precision": devices.precision_name(manifest["precision"])}
    return recorded


def differences(before, now):
    """["name: before -> now"] of what makes two runs different ones: their manifests' "identity" objects, epochs left out."""
    return [
        f"{name}: {_short(before.get(name))} -> {_short(value)}"
        for name, value in now.items()
        if name != "epochs" and name in before and before[name] != value
    ]


def _short(value):
    if isinstance(value, dict):
        value = " ".join(f"{Path(key).name} {entry[:8]}" for key, entry in value.items())
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value) else value


def write_manifest(folder, manifest):
    """Write run.json into `folder`, whole or not at all."""
    write_text(Path(folder) / MANIFEST, json.dumps(manifest, indent=2, default=str) + "\n")


def read_manifest(folder):
    """The object in `folder`/run.json, or {} if there is none or it cannot be read."""
    try:
        return json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_finished(folder):
    """True if the run in `folder` ended by itself and left its adapter."""
    return (
        bool(read_manifest(folder).get("finished"))
        and (Path(folder) / "final" / "adapter_model.safetensors").exists()
    )


def checkpoint_path(folder, step):
    """Where a run keeps the checkpoint of an update."""
    return Path(folder) / f"checkpoint-{step}"


def checkpoint_fault(folder):
    """Why the checkpoint `folder` cannot be resumed from, or None if it is complete."""
    folder = Path(folder)
    for name in _CHECKPOINT_FILES:
        file = folder / name
        if not file.exists() or file.stat().st_size == 0:
            return f"{name} is missing"
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except ValueError:
        return "trainer_state.json is cut short"
    for file in [folder / "optimizer.pt", folder / "scheduler.pt", *folder.glob("rng_state*.pth")]:
        # torch saves zip archives, whose table of contents comes last: a file cut short, or of zeros after a power cut, has none.
        if not zipfile.is_zipfile(file):
            return f"{file.name} is damaged"
    weights = folder / "adapter_model.safetensors"
    with weights.open("rb") as file:
        # The format's first 8 bytes give the header's length; the header gives where the last tensor ends.
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, MemoryError):
            return "adapter_model.safetensors is damaged"
    if weights.stat().st_size != 8 + length + end:
        return "adapter_model.safetensors is cut short"
    return None


def latest_checkpoint(folder):
    """The complete checkpoint with the most steps in a run folder, or None; incomplete ones are named on stderr."""
    found = [
        (int(m[1]), p) for p in Path(folder).glob("checkpoint-*") if (m := _CHECKPOINT.fullmatch(p.name))
    ]
    for _, checkpoint in sorted(found, reverse=True):
        fault = checkpoint_fault(checkpoint)
        if fault is None:
            return checkpoint
        warn(f"{paths.shown(checkpoint)} is not complete ({fault}); it is passed over.")
    return None


def newest_unfinished(model_name, dev):
    """The newest run folder below output/ of this model and mode that is not finished, or None."""
    folders = [p for p in paths.OUTPUT.glob(run_prefix(model_name, dev) + "*") if (p / MANIFEST).exists()]
    unfinished = [p for p in folders if not is_finished(p)]
    return max(unfinished, key=lambda p: p.name, default=None)


def require_checkpoint(folder):
    """Check that a checkpoint given by hand is complete; return its path."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"the checkpoint {folder} does not exist or is not a folder.")
    if not _CHECKPOINT.fullmatch(folder.name):
        inside = latest_checkpoint(folder)
        hint = f" Did you mean {inside}?" if inside else ""
        raise UserError(f"{folder} is not a checkpoint-N folder.{hint}")
    fault = checkpoint_fault(folder)
    if fault:
        raise UserError(
            f"the checkpoint {folder} is not complete: {fault}. Use --resume_latest to take the newest complete one."
        )
    return folder
