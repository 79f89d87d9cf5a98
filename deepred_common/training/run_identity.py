"""What makes a run this run and no other: a checkpoint is resumed only if all of it is the same.

Not part of it: what changes the speed or the memory only, such as how an update is divided into batches. The
number of epochs is recorded, but may change.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deepred_common import cli, devices, paths, provenance
from deepred_common.cli import UserError
from deepred_common.models import loading
from deepred_common.models.folders import is_whole_model
from deepred_common.training.objectives.refusal import Refusal
from deepred_common.training.replay import REPLY_TOKENS
from deepred_common.training.run_folder import Identity, Manifest, RunChoice, read_manifest

if TYPE_CHECKING:
    import torch

    from deepred_common.training.settings import TrainSettings

# Runs from before the objective was recorded were trained with this one.
FIRST_OBJECTIVE = {
    "name": "refusal",
    "decision_weight": 10,
    "retain_learning": 0.05,
    "retain_weight": 3,
}
FIRST_NAME_OF_REFUSAL = "refuse_and_retain"  # the same objective under an earlier name
FIRST_REPLY_TOKENS = 32  # the same of the length of replies

# What messages call the entries of an Identity that are named after no flag.
SHOWN_NAMES = {
    "rows_per_update": "examples per update (--batch_size x --gradient_accumulation_steps x processes)",
    "quantisation": "quantisation (--use_4bit, --use_8bit)",
    "replay_tokens": "longest reply to a replay prompt, in tokens (no flag)",
}


def of_settings(settings: TrainSettings, data: dict[str, str]) -> Identity:
    """The part that flags and data decide. data: {flag: SHA-256 of its file}."""
    bits = settings.quantisation_bits
    identity = Identity(
        data=data,
        full=settings.full,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        max_seq_length=settings.max_seq_length,
        mix=list(settings.mix) if settings.mix else None,
        replay_share=settings.replay_share,
        replay_tokens=REPLY_TOKENS if settings.replay_share else None,
        rows_per_update=settings.rows_per_update,
        epochs=settings.epochs,
        quantisation=f"{bits}bit" if bits else None,
        objective=settings.objective.identity(),
    )
    if not settings.full:
        identity |= Identity(lora_r=settings.lora_r, lora_alpha=settings.lora_alpha)
    if settings.precision != devices.AUTO:
        identity["precision"] = settings.precision
    return identity


def of_base(settings: TrainSettings, tokenizer: Any, dtype: torch.dtype) -> Identity:
    """The part that the base (its weights and tokenizer) and the machine's torch type decide."""
    return Identity(
        precision=devices.precision_name(dtype),
        base=loading.identity(settings.model_name),
        base_revision=loading.revision(settings.model_name),
        chat_template=provenance.digest(tokenizer.chat_template),
    )


def recorded(manifest: Manifest) -> dict[str, Any]:
    """The identity in a run.json, completed with what older versions did not record there."""
    identity: dict[str, Any] = dict(manifest.get("identity", {}))
    if identity:
        identity.setdefault("objective", FIRST_OBJECTIVE)
        if identity["objective"].get("name") == FIRST_NAME_OF_REFUSAL:
            identity["objective"] = identity["objective"] | {"name": Refusal.name}
        if identity["objective"].get("name") == Refusal.name:
            # From before these were; they change nothing where there is no such row or base.
            later = {name: getattr(Refusal, name) for name in ("chat_weight", "fallback_learning")}
            identity["objective"] = later | identity["objective"]
        identity.setdefault("full", False)
        identity.setdefault("replay_share", 0)
        identity.setdefault("replay_tokens", FIRST_REPLY_TOKENS if identity["replay_share"] else None)
        if "precision" in manifest:
            identity.setdefault("precision", devices.precision_name(manifest["precision"]))
    return identity


def differences(before: dict[str, Any], now: Identity) -> list[str]:
    """["shown name: before -> now"] of what makes two runs different ones, epochs aside.

    What only one of the two knows is not compared.
    """
    lines = []
    for name, value in now.items():
        old = before.get(name)
        if name == "epochs" or name not in before or old == value:
            continue
        shown = SHOWN_NAMES.get(name, name)
        if isinstance(old, dict) and isinstance(value, dict):
            if old.get("name") != value.get("name"):  # two objectives, whose parameters are not comparable
                lines.append(f"{name}: {old.get('name')} -> {value.get('name')}")
                continue
            parts = [part for part in {**old, **value} if old.get(part) != value.get(part)]
            lines += [
                f"{name} {part}: {_short(old.get(part))} -> {_short(value.get(part))}" for part in parts
            ]
        else:
            lines.append(f"{shown}: {_short(old)} -> {_short(value)}")
    return lines


def require_same(settings: TrainSettings, run: RunChoice, now: Identity) -> None:
    """UserError that lists what differs, unless the run's checkpoint is from a run of this identity.

    With --resume_anyway the differences are warnings, but that of --full is not. Without a checkpoint nothing
    is compared.
    """
    if run.checkpoint is None:
        return
    if is_whole_model(run.checkpoint) != settings.full:  # neither could take the other's weights
        what, remedy = ("an adapter", "Omit") if settings.full else ("a whole model", "Add")
        raise UserError(f"the checkpoint {run.checkpoint} holds {what}. {remedy} --full to resume it.")
    before = recorded(read_manifest(run.checkpoint.resolve().parent))
    if "epochs" in now and before.get("epochs", now["epochs"]) != now["epochs"]:
        cli.progress(
            f"epochs: {before['epochs']} -> {now['epochs']}; the learning rate now follows the new length."
        )
    changed = differences(before, now)
    # Weights of another shape could not be loaded.
    other_shape = "lora_r" in now and before.get("lora_r", now["lora_r"]) != now["lora_r"]
    if changed and (other_shape or not settings.resume_anyway):
        raise UserError(
            "this is not the run that the checkpoint is from:\n  "
            + "\n  ".join(changed)
            + "\nUse the earlier settings, or start a new run."
            + ("" if other_shape else " Or add --resume_anyway to resume regardless.")
        )
    for difference in changed:
        cli.warn(f"resuming although it differs: {difference}")


def require_same_finished(settings: TrainSettings, run: RunChoice, now: Identity) -> None:
    """UserError that lists what differs, unless the finished run in the folder has this identity and base."""
    manifest = read_manifest(run.folder)
    if manifest.get("model_name") != settings.model_name:  # it may be the same one under another name
        now = now | Identity(base=loading.identity(settings.model_name))
    changed = differences(recorded(manifest), now)
    if changed:
        raise UserError(
            f"{paths.shown(run.folder)} is finished, but it is another run than this one:\n  "
            + "\n  ".join(changed)
            + "\nChoose another --output_dir, or remove that folder to train anew."
        )


def _short(value: Any) -> Any:
    """A hash by its first letters; "none" for None."""
    if value is None:
        return "none"
    return value[:12] if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{24,}", value) else value
