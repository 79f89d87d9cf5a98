"""A LoRA adapter by itself as a GGUF file, made by llama.cpp's own converter; its base is another GGUF file.

What such a file cannot hold is refused: llama.cpp's converter would leave some of it out without a word.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.export import adapter_changes, tool_runner
from deepred_common.export.adapter_changes import Change
from deepred_common.export.gguf_file import GgufFile
from deepred_common.models import architectures, folders
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter

CONVERTER = "convert_lora_to_gguf.py"
ALPHA = "adapter.lora.alpha"  # one for the whole file; llama.cpp divides it by each matrix's rank


def read_changes(
    adapter: Adapter, base: Path, config: Mapping[str, Any], weights: Mapping[str, Entry]
) -> dict[str, Change]:
    """{base tensor's name: Change} of an adapter for `base`, all of which a GGUF adapter can hold.

    config, weights: the base's config.json and {tensor name: Entry} of its text part. UserError if the
    adapter does not fit the base, or holds more than pairs of LoRA matrices under one alpha.
    """
    try:
        changes = adapter_changes.read_changes(adapter)
    except adapter_changes.UnsupportedAdapter as unsupported:
        raise _merge_instead(adapter, base, str(unsupported)) from unsupported
    changes = adapter_changes.named_as_base(changes, weights, adapter)
    adapter_changes.require_fit(changes, weights, adapter, base)
    alpha = adapter.config["lora_alpha"]
    for name, change in changes.items():
        if reason := _not_expressible(change, alpha, adapter.config, name in weights):
            raise _merge_instead(adapter, base, f"{reason} ({name})")
    return changes


def _not_expressible(change: Change, alpha: float, config: Mapping[str, Any], is_in_base: bool) -> str | None:
    """What of a change a GGUF adapter cannot hold; None if it can hold all of it."""
    if change.embedding or not is_in_base:  # not in the base: an output layer that is tied to the embedding
        return "a LoRA on the embedding, or on an output layer that is tied to it"
    if change.replacement is not None or change.a is None:
        return "whole weights"
    if change.magnitude is not None:
        return "DoRA"
    if config.get("fan_in_fan_out"):
        return "weights stored transposed"
    if abs(change.scale * change.a.shape[0] - alpha) > 1e-6 * abs(alpha):
        return "rsLoRA, or several alphas"
    return None


def _merge_instead(adapter: Adapter, base: Path, reason: str) -> UserError:
    return UserError(
        f"the adapter {adapter.folder} has {reason}, which an adapter's GGUF file cannot hold. Merge it:\n"
        f"  {paths.script('merge_lora')} --base_model {paths.quoted(base)} "
        f"--lora_path {paths.quoted(adapter.folder)} --output_path MERGED"
    )


def warn_of_other_base(adapter: Adapter, base: Path) -> None:
    """Warn if the adapter was trained on another base, or with another chat template than that will have."""
    if adapter.base and Path(adapter.base).name != base.resolve().name:
        cli.warn(f"the adapter was trained on {adapter.base}, not {base}.")
    template = folders.read_chat_template(adapter.folder)
    if template is not None and template != folders.read_chat_template(base):
        cli.warn(
            f"{adapter.folder} was trained with another chat template than {base} has, and an adapter's file "
            "holds none.\nReplies will be worse, unless the base's folder has the adapter's "
            f"{folders.CHAT_TEMPLATE} when it is converted."
        )


def require_converter(tree: Path) -> None:
    """UserError if this llama.cpp does not come with the converter of adapters."""
    if not (tree / CONVERTER).is_file():
        raise UserError(f"llama.cpp in {paths.shown(tree)} has no {CONVERTER}.\n{tool_runner.GET_NEWER}")


def convert(tree: Path, adapter: Path, base: Path, output: Path, outtype: str, log: Path) -> None:
    """Run the converter: the folder `adapter` to the GGUF file `output`, of a type in quantise.DIRECT_TYPES.

    base: the folder of its base, of which the config is read.
    """
    command = [
        sys.executable,
        str(tree / CONVERTER),
        str(adapter.resolve()),
        "--base",
        str(base.resolve()),
    ]
    tool_runner.run_logged(
        [*command, "--outfile", str(output), "--outtype", outtype],
        log,
        f"converting the adapter to {outtype}",
        environment={"PYTHONPATH": ""},
    )


def require_same(
    file: GgufFile, adapter: Adapter, changes: Mapping[str, Change], config: Mapping[str, Any]
) -> str:
    """What is printed of a file that was compared with its source: its size, and what is the same.

    changes: of read_changes. config: the base's. UserError with what differs.
    """
    if found := faults(file, adapter, changes, config):
        raise UserError(
            f"the GGUF file differs from the adapter {adapter.folder}, and is not kept. "
            f"Is llama.cpp too old for it?\n{cli.listed(found)}"
        )
    return (
        f"({file.size / 1e6:.0f} MB)\n"
        f"Same as in {paths.shown(adapter.folder)}: {len(file.tensors)} matrices, alpha {file.value(ALPHA):g}"
    )


def faults(
    file: GgufFile, adapter: Adapter, changes: Mapping[str, Change], config: Mapping[str, Any]
) -> list[str]:
    """How a GGUF adapter differs from its source, as texts. changes: of read_changes. config: the base's."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    found = []
    alpha = file.value(ALPHA)
    if file.value("general.type") != "adapter" or alpha != adapter.config["lora_alpha"]:
        found.append(f"its alpha is {alpha}, in the source {adapter.config['lora_alpha']}")
    if len(file.tensors) != 2 * len(changes):
        found.append(f"it has {len(file.tensors)} matrices, the source {2 * len(changes)}")
    architecture = next((key for key, name in MODEL_ARCH_NAMES.items() if name == file.architecture), None)
    if architecture is None:
        return found  # the tree's converter is newer than the gguf package and knows more models
    names = get_tensor_name_map(architecture, architectures.text_part(config)["num_hidden_layers"])
    for source_name, change in changes.items():
        name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if name is None:
            continue  # the converter splits or joins it, or it would have failed
        for half, entry in (("lora_a", change.a), ("lora_b", change.b)):
            tensor = file.tensors.get(f"{name}.{half}")
            if tensor is None:
                found.append(f"the matrix {name}.{half} is missing")
            elif entry is not None and tensor.shape != entry.shape:
                found.append(f"{name}.{half} is {list(tensor.shape)}, in the source {list(entry.shape)}")
    return found
