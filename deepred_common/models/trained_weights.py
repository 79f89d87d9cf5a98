"""What a training leaves, an adapter or a whole model whose weights were all trained: its files, checked.

Checkpoints, best-N/ and final/ all hold one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deepred_common.cli import UserError
from deepred_common.files import read_json
from deepred_common.models import safetensors_files
from deepred_common.models.folders import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Adapter,
    is_whole_model,
    require_adapter,
    require_model_folder,
)
from deepred_common.models.safetensors_files import Entry


def fault(folder: Path) -> str | None:
    """Why the weights in `folder` cannot be used ("model.safetensors is cut short"); None if they can."""
    names = [ADAPTER_WEIGHTS, ADAPTER_CONFIG]
    if is_whole_model(folder):
        try:
            names = safetensors_files.file_names(folder)
        except UserError:
            return f"{safetensors_files.INDEX} is damaged"
    elif not any((folder / name).exists() for name in names):
        return "its weights are missing"  # an adapter's or a model's: nothing says which
    for name in names:
        file = folder / name
        if not file.exists() or file.stat().st_size == 0:
            return f"{name} is missing"
        if file.suffix == ".safetensors" and (problem := safetensors_files.file_fault(file)):
            return f"{name} {problem}"
    return None


def non_finite(folder: Path) -> str | None:
    """The name of a tensor in `folder` that holds NaN or infinity, or None. Reads all weights."""
    names = safetensors_files.file_names(folder) if is_whole_model(folder) else [ADAPTER_WEIGHTS]
    return next(filter(None, (safetensors_files.non_finite(folder / name) for name in names)), None)


@dataclass(frozen=True)
class TunedModel:
    """A folder with a whole model whose weights were all trained; to merging what an Adapter is.

    base: the name or path of the base it was trained from; "" if that is not known. config: {"revision": the
    hub's commit of the base}, or {}.
    """

    kind: ClassVar[str] = "model"

    folder: Path
    base: str
    config: Mapping[str, Any]

    @property
    def ties_embeddings(self) -> bool:
        """True if its output layer is its embedding."""
        return bool(read_json(self.folder / "config.json").get("tie_word_embeddings"))

    def tensors(self) -> dict[str, Entry]:
        """{tensor name: Entry} of all its weights."""
        return safetensors_files.read_weights(self.folder)


def require_trained(folder: Path, base: str, revision: str | None) -> Adapter | TunedModel:
    """Check that `folder` holds a complete adapter or tuned model; return it. require_finite comes after.

    base, revision: of a tuned model, whose files do not say where it came from; see TunedModel.
    """
    if not is_whole_model(folder):
        return require_adapter(folder)
    require_model_folder(folder)
    return TunedModel(folder, base, {"revision": revision} if revision else {})


def require_finite(trained: Adapter | TunedModel) -> None:
    """UserError if a weight is NaN or infinite. It reads all of a tuned model; an Adapter was read before."""
    if isinstance(trained, TunedModel) and (tensor := non_finite(trained.folder)):
        raise UserError(
            f"the model {trained.folder} holds NaN or infinity (in {tensor}): its training had diverged.\n"
            "Train again with a lower --learning_rate."
        )
