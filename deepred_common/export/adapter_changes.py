"""What a LoRA adapter changes in its base's tensors: read from its file, checked against the base.

Adapters of a type that is not supported here (see `unsupported`) are merged with peft instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepred_common import cli
from deepred_common.cli import UserError
from deepred_common.models import safetensors_files
from deepred_common.models.folders import Adapter
from deepred_common.models.safetensors_files import Entry

NAME_PREFIX = "base_model.model."  # peft's, before the base's own name
# Settings of peft's LoraConfig (0.20) that change what is merged: not supported here, unless switched off.
UNSUPPORTED_SETTINGS = (
    "bias",
    "lora_bias",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "alora_invocation_tokens",
    "corda_config",
    "lora_ga_config",
)
# Other initialisations (pissa, olora …) change the base itself before training.
SUPPORTED_INITIALISATIONS = (True, False, None, "gaussian", "default", "orthogonal", "eva")
INPUT_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
OUTPUT_LAYER = "lm_head.weight"
# One of: a LoRA on a linear layer (group 2), on an embedding (group 3), DoRA's magnitude (neither).
LORA_TENSOR = re.compile(
    re.escape(NAME_PREFIX)
    + r"(.+?)\.(?:(lora_A|lora_B)\.weight"
    + r"|(lora_embedding_A|lora_embedding_B)"
    + r"|lora_magnitude_vector(?:\.weight)?)"
)


@dataclass
class Change:
    """What an adapter does to a tensor: replace it, then add scale * B A; under DoRA, set its rows' lengths.

    a: (rank, in), b: (out, rank), magnitude: (out). embedding: the tensor is an input embedding, so that
    (B A) transposed is added.
    """

    scale: float = 1.0
    a: Entry | None = None
    b: Entry | None = None
    magnitude: Entry | None = None
    replacement: Entry | None = None
    embedding: bool = False


class UnsupportedAdapter(Exception):
    """An adapter that peft has to merge; the message names the setting that is unsupported here."""


def unsupported(config: Mapping[str, Any]) -> str | None:
    """The setting of an adapter_config.json that is not supported here, as "name=value"; None if all are."""
    for name in UNSUPPORTED_SETTINGS:
        if config.get(name) not in (None, False, "none"):
            return f"{name}={config[name]}"
    if config.get("init_lora_weights") not in SUPPORTED_INITIALISATIONS:
        return f"init_lora_weights={config['init_lora_weights']}"
    return None


def read_changes(adapter: Adapter) -> dict[str, Change]:
    """{base tensor's name: Change} of an adapter.

    UnsupportedAdapter where peft has to merge it; UserError for a tensor of no known kind.
    """
    reason = unsupported(adapter.config)
    if reason:
        raise UnsupportedAdapter(reason)
    changes: dict[str, Change] = {}
    for name, entry in safetensors_files.read_header(adapter.weights).items():
        match = LORA_TENSOR.fullmatch(name)
        if match is None:
            if not name.startswith(NAME_PREFIX) or "lora_" in name:
                raise UserError(f"the adapter holds a tensor of an unknown kind: {name}")
            # A trained copy of a whole module; peft also saves an embedding that has a LoRA.
            base_name = name.removeprefix(NAME_PREFIX).replace(".base_layer.", ".")
            changes.setdefault(base_name, Change()).replacement = entry
            continue
        module, linear, embedding = match.groups()
        change = changes.setdefault(f"{module}.weight", Change())
        kind = linear or embedding
        if kind is None:
            change.magnitude = entry
        elif kind.endswith("_A"):
            change.a = entry
        else:
            change.b = entry
        change.embedding |= embedding is not None
    for name, change in changes.items():
        if change.embedding and change.magnitude is not None:
            raise UnsupportedAdapter("DoRA on an embedding")
        if (change.a is None) != (change.b is None):
            raise UserError(
                f"the adapter {adapter.folder} is damaged: one of the two LoRA matrices of {name} is missing."
            )
        if change.a is not None:
            change.scale = _scale(adapter.config, name.removesuffix(".weight"))
    return changes


def _scale(config: Mapping[str, Any], module: str) -> float:
    """alpha / r of a module, or alpha / sqrt(r) for rsLoRA (Kalajdzievski, arXiv 2312.03732)."""
    rank = _pattern_value(config.get("rank_pattern"), module, config["r"])
    alpha = _pattern_value(config.get("alpha_pattern"), module, config["lora_alpha"])
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def _pattern_value(patterns: Mapping[str, float] | None, module: str, default: float) -> float:
    """The value of the first pattern that the end of a module's name matches, as peft reads them."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def untied_output(
    changes: dict[str, Change], weights: Mapping[str, Entry]
) -> list[tuple[str, Entry, Change | None]]:
    """[(name, Entry, Change or None)] of an output layer that can no longer share the embedding's weights.

    Tied embeddings are saved separately if the adapter changes one of them: in training the other stays as
    it was, so a merged model that ties them is another model than base + adapter (transformers #45127). The
    change of the output layer moves out of `changes`.
    """
    inputs = [name for name in weights if name.endswith(INPUT_EMBEDDINGS)]
    if len(inputs) != 1 or OUTPUT_LAYER in weights:
        return []
    if OUTPUT_LAYER not in changes and inputs[0] not in changes:
        return []
    return [(OUTPUT_LAYER, weights[inputs[0]], changes.pop(OUTPUT_LAYER, None))]


def require_fit(
    changes: Mapping[str, Change], weights: Mapping[str, Entry], adapter: Adapter, base: str | Path
) -> None:
    """UserError naming the tensors of the adapter that the base lacks or has in another shape."""
    faults = []
    for name, change in changes.items():
        if name not in weights:
            faults.append(f"{name}: not in the base")
            continue
        shape = weights[name].shape
        turned = change.embedding or bool(adapter.config.get("fan_in_fan_out"))
        for changed in _shapes(change, turned):
            if changed != shape:
                faults.append(f"{name}: {list(changed)} in the adapter, {list(shape)} in the base")
    if faults:
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}; it was trained on {adapter.base}.\n"
            + cli.listed(faults)
        )


def _shapes(change: Change, turned: bool) -> Iterable[tuple[int, ...]]:
    """The shapes of what a change replaces or adds. turned: what is added is transposed."""
    if change.replacement is not None:
        yield change.replacement.shape
    if change.a is not None and change.b is not None:
        added = (change.b.shape[0], change.a.shape[1])
        yield added[::-1] if turned else added
