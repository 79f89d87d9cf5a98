"""Merging what was trained, an adapter or a whole model, into its base: tensor by tensor, or with peft.

peft merges the adapters of types that are not read here; it loads the whole base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import cli, devices
from deepred_common.cli import UserError
from deepred_common.export import adapter_changes, hf_folder, lora_merge
from deepred_common.export.adapter_changes import Change
from deepred_common.models import architectures
from deepred_common.models.folders import embedding_rows
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter, TunedModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Base:
    """The base to merge into. name: as the user gave it. files: of safetensors_files.read_folder."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    files: Sequence[tuple[str, Mapping[str, Entry]]]

    @property
    def weights(self) -> dict[str, Entry]:
        """{tensor name: Entry} of all its files."""
        return {name: entry for _, entries in self.files for name, entry in entries.items()}


@dataclass(frozen=True)
class ByTensor:
    """A merge that holds a tensor at a time. changes: {base tensor's name: Change}."""

    trained: Adapter | TunedModel
    base: Base
    changes: dict[str, Change]

    def write(self, out: Path, dtype: torch.dtype, strength: float) -> dict[str, Any]:
        """Write the merged weights to `out`; return {setting: value} of what changes in the base's config.

        strength: by which what an adapter adds is multiplied. UserError if base and trained do not fit.
        """
        from tqdm import tqdm

        trained, weights, changes = self.trained, self.base.weights, dict(self.changes)
        adapter_changes.require_fit(changes, weights, trained, self.base.name)
        extra = []
        # Of a tuned model, a tied output layer follows the embedding: it stays tied.
        if isinstance(trained, Adapter) or adapter_changes.output_name(weights) in changes:
            adapter_changes.require_whole_vocabulary(changes, weights, trained)
            extra = adapter_changes.untied_output(changes, weights)
        lora_merge.write_merged(
            self.base.files,
            changes,
            out,
            dtype,
            transposed=bool(trained.config.get("fan_in_fan_out")),
            device=devices.pick_device(),
            extra=extra,
            strength=strength,
            progress=lambda plan: tqdm(plan, desc="merging", unit="file"),
        )
        # A base that does not say may be of a family that ties by default.
        may_tie = self.base.config.get("tie_word_embeddings") is not False
        unties = bool(extra) or (may_tie and adapter_changes.unties_stored_output(changes, weights))
        config_changes: dict[str, Any] = {"tie_word_embeddings": False} if unties else {}
        own = embedding_rows(weights)
        rows = embedding_rows(trained.tensors()) or own
        return config_changes if rows == own else config_changes | {"vocab_size": rows}


@dataclass(frozen=True)
class WithPeft:
    """A merge of an adapter that peft makes."""

    adapter: Adapter
    base: Base
    trust_remote_code: bool

    def write(self, out: Path, dtype: torch.dtype, strength: float) -> dict[str, Any]:
        """As ByTensor.write."""
        lora_merge.merge_with_peft(
            self.adapter, self.base.folder, dtype, out, self.trust_remote_code, strength
        )
        return hf_folder.changes_by_peft(self.base.folder, out)


def choose(trained: Adapter | TunedModel, base: Base, trust_remote_code: bool) -> ByTensor | WithPeft:
    """How to merge; what is unusual about it is said. UserError for an adapter that is not merged at all."""
    if isinstance(trained, TunedModel):
        return ByTensor(trained, base, _of_tuned(trained, base))
    try:
        changes = adapter_changes.read_changes(trained)
    except adapter_changes.UnsupportedAdapter as unsupported:
        if architectures.text_part(base.config) is not base.config:
            raise UserError(
                f"the adapter has {unsupported}, which is not merged into a checkpoint with an image part."
            ) from unsupported
        cli.progress(f"the adapter has {unsupported}: it is merged with peft, which loads the whole base.")
        return WithPeft(trained, base, trust_remote_code)
    return ByTensor(trained, base, adapter_changes.named_as_base(changes, base.weights, trained))


def _of_tuned(tuned: TunedModel, base: Base) -> dict[str, Change]:
    """The changes of a tuned model; what it does not hold, and training loads, is warned of."""
    cli.progress(f"{tuned.folder} holds a whole model: its weights are copied.")
    weights = base.weights
    changes = adapter_changes.replacements(tuned, weights)
    kept = weights.keys() - changes.keys()
    if kept and architectures.text_part(base.config) is base.config:
        names = cli.listed(sorted(kept))
        cli.warn(f"what {tuned.folder} does not hold stays as it is in the base:\n{names}")
    return changes
