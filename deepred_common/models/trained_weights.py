"""What a training leaves, an adapter or a whole model whose weights were all trained: its files, checked.

Checkpoints, best-N/ and final/ all hold one of the two.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.files import read_json
from deepred_common.models import adapter_names, safetensors_files, tokenizer_files
from deepred_common.models.folders import (
    ADAPTER_CONFIG,
    adapters_inside,
    is_adapter,
    is_whole_model,
    require_model_folder,
)
from deepred_common.models.safetensors_files import Entry

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_ADAPTER = "adapter_model.bin"  # what older versions of peft wrote


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
class Adapter:
    """A LoRA adapter folder and its adapter_config.json."""

    kind: ClassVar[str] = "adapter"
    title: ClassVar[str] = "base + adapter"
    cause: ClassVar[str] = "adapter"  # of what the base does otherwise now

    folder: Path
    config: dict[str, Any]

    @property
    def base(self) -> str:
        """The name or path of the base it was trained on; "" if the config does not say.

        A relative path is looked for in the working directory, then in the project's folder, where most
        trainings are started.
        """
        base = os.path.expanduser(self.config.get("base_model_name_or_path") or "")
        if base and not Path(base).exists() and (paths.ROOT / base).is_dir():
            return str(paths.ROOT / base)
        return base

    @property
    def weights(self) -> Path:
        return self.folder / ADAPTER_WEIGHTS

    def tensors(self) -> dict[str, Entry]:
        """{name as peft writes it, without its prefix: Entry} of the trained tensors."""
        named = {
            adapter_names.tidy(name): entry
            for name, entry in safetensors_files.read_header(self.weights).items()
        }
        return {name: entry for name, entry in named.items() if name is not None}


@dataclass(frozen=True)
class TunedModel:
    """A folder with a whole model whose weights were all trained; to merging what an Adapter is.

    base: the name or path of the base it was trained from; "" if that is not known. config: {"revision": the
    hub's commit of the base}, or {}.
    """

    kind: ClassVar[str] = "model"
    title: ClassVar[str] = "the tuned model"
    cause: ClassVar[str] = "training"

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


def require_adapter(folder: str | Path) -> Adapter:
    """Check that `folder` holds a complete LoRA adapter whose weights are finite; return it."""
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"the adapter {folder} does not exist. Give the final/ folder of a finished run.")
    if not folder.is_dir():
        raise UserError(f"the adapter {folder} is a file; the final/ folder of a run is needed.")
    if not is_adapter(folder):
        hint = adapters_inside(folder)
        raise UserError(f"{folder} is not a LoRA adapter: it has no {ADAPTER_CONFIG}.{hint}")
    if not (folder / ADAPTER_WEIGHTS).exists():
        if (folder / PICKLED_ADAPTER).exists():
            raise UserError(_convert_pickle(folder))
        raise UserError(
            f"{folder} has no {ADAPTER_WEIGHTS}; the save was cut short, or it is not a LoRA adapter."
        )
    config = read_json(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise UserError(f"{folder} is a {kind} adapter; only LoRA adapters are supported.")
    safetensors_files.read_header(folder / ADAPTER_WEIGHTS)
    tokenizer_files.require_whole(folder)
    if tensor := safetensors_files.non_finite(folder / ADAPTER_WEIGHTS):
        raise UserError(
            f"the adapter {folder} holds NaN or infinity (in {tensor}): its training had diverged.\n"
            "Train again with a lower --learning_rate."
        )
    return Adapter(folder, config)


def _convert_pickle(folder: Path) -> str:
    """What an adapter_model.bin is, and the command that makes a safetensors file of it, running no code."""
    pickled = folder / PICKLED_ADAPTER
    old, new = json.dumps(str(pickled)), json.dumps(str(folder / ADAPTER_WEIGHTS))
    code = (
        "import torch, safetensors.torch as s; "
        f'w = torch.load({old}, map_location="cpu", weights_only=True); '
        f"s.save_file({{n: t.clone().contiguous() for n, t in w.items()}}, {new})"
    )
    return (
        f"{pickled} is a pickle, which can run code when it is loaded; only {ADAPTER_WEIGHTS} is read. "
        f"Convert it:\n  python -c {shlex.quote(code)}"
    )


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
