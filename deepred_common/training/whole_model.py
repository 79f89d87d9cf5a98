"""Full fine-tuning (--full): what it rules out, the model whose weights are all trained, how it is saved."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import devices
from deepred_common.cli import UserError
from deepred_common.models import loading, terms
from deepred_common.training import setup
from deepred_common.training.settings import FULL_LEARNING_RATE, UNUSED

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings


def resolved(given: Collection[str]) -> dict[str, tuple[Any, str]]:
    """What --full decides of the other settings: {setting: (value, source)}, for the table.

    given: the flags that were given. UserError for one that --full rules out, and where it does not run.
    """
    for name in ("lora_r", "lora_alpha", "use_4bit", "use_8bit"):
        if name in given:
            why = "there is no adapter" if name.startswith("lora") else "quantised ones cannot be trained"
            raise UserError(f"--full trains all weights of the base: {why}. Omit --{name}, or --full.")
    if splitter := devices.splits_model():
        raise UserError(
            f"--full does not run under {splitter}, which splits the model. "
            "Use one GPU, or configs/accelerate/ddp.yaml if the model fits on each."
        )
    decided: dict[str, tuple[Any, str]] = {
        name: (UNUSED, "--full trains no adapter") for name in ("lora_r", "lora_alpha")
    }
    if "learning_rate" not in given:
        decided["learning_rate"] = (FULL_LEARNING_RATE, "default with --full")
    return decided


def load(settings: TrainSettings, machine: Machine) -> PreTrainedModel:
    """The base to train, in fp32: many updates are smaller than what bf16 can tell apart.

    It is computed in the machine's type all the same, under autocast.
    """
    import torch

    model = setup.load_base(settings, machine, torch.float32)
    # transformers saves tensors by the names of the file that they came from. Of a checkpoint's text part
    # these are not the names that a model of the text part is loaded by.
    model._weight_conversions = None
    return model


def load_checkpoint(model: PreTrainedModel, checkpoint: Path, trust_remote_code: bool) -> None:
    """Give a model of `load` the weights of a checkpoint, in place; UserError if some are missing.

    transformers' trainer would leave out, without a word, tensors that have other names in the file.
    """
    import torch

    saved = loading.load_model(checkpoint, torch.float32, trust_remote_code)
    model.load_state_dict(saved.state_dict())


def saved_type(config: PretrainedConfig) -> torch.dtype:
    """The type that the result is saved in: the base's own. config: the base's."""
    import torch

    return getattr(config, "dtype", None) or torch.float32


def terms_folder(base: str, revision: str | None) -> Path:
    """The folder with the base's licence or terms; of a hub name, where they are downloaded to now.

    revision: the hub's commit of the base.
    """
    return Path(base) if Path(base).is_dir() else loading.download(base, revision, terms.FILES)


def save(
    model: PreTrainedModel,
    folder: Path,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    base_terms: Path,
) -> None:
    """Write a trained model to `folder` in the base's own type, with its tokenizer: it can be used as it is.

    config: the base's, as it was loaded. base_terms: of terms_folder.
    """
    dtype = saved_type(config)
    rounded: dict[int, torch.Tensor] = {}  # {address: tensor}, so that tied weights stay one
    state = {}
    for name, tensor in model.state_dict().items():
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        state[name] = rounded.setdefault(tensor.data_ptr(), tensor.to("cpu", kind))
    model.save_pretrained(str(folder), state_dict=state)
    # Over the one that was just written: it names the type of the weights in training, and no cache.
    own: Any = copy.deepcopy(config)
    own.dtype, own.architectures = dtype, [type(model).__name__]
    own.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    terms.copy(base_terms, folder)
