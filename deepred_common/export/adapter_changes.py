"""What a LoRA adapter, or a tuned model, changes in its base's tensors: read from files, checked against it.

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
from deepred_common.models import adapter_names
from deepred_common.models.folders import embedding_rows
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter, TunedModel

# Settings of peft's LoraConfig (0.21) that are read here, or change nothing of what is merged. Any other one,
# of a later version too, is not supported, unless it is switched off.
SUPPORTED_SETTINGS = {
    *("base_model_name_or_path", "revision", "peft_type", "peft_version", "task_type", "auto_mapping"),
    *("inference_mode", "runtime_config", "megatron_core", "qalora_group_size"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_dropout"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("fan_in_fan_out", "init_lora_weights", "eva_config", "layer_replication", "ensure_weight_tying"),
}
# Other initialisations (pissa, olora …) change the base itself before training.
SUPPORTED_INITIALISATIONS = (True, False, None, "gaussian", "default", "orthogonal", "eva")
INPUT_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
OUTPUT_LAYER = "lm_head.weight"
# One of: a LoRA on a linear layer (group 2), on an embedding (group 3), DoRA's magnitude (neither).
LORA_TENSOR = re.compile(
    r"(.+?)\.(?:(lora_A|lora_B)\.weight"
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
    for name, value in config.items():
        if value and value != "none" and name not in SUPPORTED_SETTINGS:
            return f"{name}={value}"
    if config.get("init_lora_weights") not in SUPPORTED_INITIALISATIONS:
        return f"init_lora_weights={config['init_lora_weights']}"
    return None


def read_changes(adapter: Adapter) -> dict[str, Change]:
    """{base tensor's name: Change} of an adapter.

    UnsupportedAdapter where peft has to merge it; UserError for a tensor of no known kind.
    """
    if adapter.config.get("layer_replication"):
        raise UserError(
            f"the adapter {adapter.folder} repeats layers of its base (layer_replication); such adapters are "
            "not merged."
        )
    reason = unsupported(adapter.config)
    if reason:
        raise UnsupportedAdapter(reason)
    changes: dict[str, Change] = {}
    for name, entry in adapter.tensors().items():
        match = LORA_TENSOR.fullmatch(name)
        if match is None:
            if "lora_" in name:
                raise UserError(f"the adapter holds a tensor of an unknown kind: {name}")
            # A trained copy of a whole module; peft also saves an embedding that has a LoRA.
            base_name = name.replace(".base_layer.", ".")
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


def replacements(tuned: TunedModel, weights: Mapping[str, Entry]) -> dict[str, Change]:
    """{base tensor's name: Change} of a tuned model, which replaces what it was trained from.

    weights: the base's. Tensors that training does not load, such as an image part's, stay the base's.
    """
    changes = {name: Change(replacement=entry) for name, entry in tuned.tensors().items()}
    changes = named_as_base(changes, weights, tuned)
    output = output_name(weights)
    if output in weights and output not in changes:
        # Tied to the embedding, it is not saved in training, but this base's files hold it all the same.
        inputs = [name for name in changes if name.endswith(INPUT_EMBEDDINGS)]
        if not (inputs and tuned.ties_embeddings):
            raise UserError(f"the model {tuned.folder} has no {output}, which the base has.")
        changes[output] = changes[inputs[0]]
    rows, own = embedding_rows(tuned.tensors()), embedding_rows(weights)
    if rows != own:
        raise UserError(
            f"the model {tuned.folder} has {rows} tokens and the base {own}, so it is not a --full training "
            "of that base.\nA whole model needs no merging: give it to convert_to_gguf.py."
        )
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


def named_as_base(
    changes: Mapping[str, Change], weights: Mapping[str, Entry], adapter: Adapter | TunedModel
) -> dict[str, Change]:
    """`changes` by the names of the base's tensors; a name that the base does not have stays as it is.

    UserError if two changes are of one tensor.
    """
    own = adapter_names.by_core(weights)
    output = output_name(weights)
    own.setdefault(adapter_names.core(output), output)  # tied to the embedding, it is not in the base
    named: dict[str, Change] = {}
    for name, change in changes.items():
        base_name = name if name in weights else own.get(adapter_names.core(name), name)
        if base_name in named:
            raise UserError(f"the {adapter.kind} {adapter.folder} changes {base_name} twice.")
        named[base_name] = change
    return named


def output_name(weights: Mapping[str, Entry]) -> str:
    """The name of the base's output layer, or what it would have if it were not tied to the embedding."""
    in_text_part = any(name.startswith("language_model.") for name in weights)
    return f"language_model.{OUTPUT_LAYER}" if in_text_part else OUTPUT_LAYER


def require_whole_vocabulary(
    changes: Mapping[str, Change], weights: Mapping[str, Entry], adapter: Adapter | TunedModel
) -> None:
    """UserError if the adapter gives the embedding another number of rows than the output layer."""
    names = [name for name in weights if name.endswith(INPUT_EMBEDDINGS)]
    if len(names) != 1:
        return
    sizes = {}
    for name in (names[0], output_name(weights)):
        # An output layer that is not in the base is tied to the embedding.
        entry = weights.get(name) or weights[names[0]]
        replacement = changes[name].replacement if name in changes else None
        sizes[name] = (replacement or entry).shape[0]
    if len(set(sizes.values())) > 1:
        parts = " and ".join(f"{name} {rows} rows" for name, rows in sizes.items())
        raise UserError(
            f"the {adapter.kind} {adapter.folder} was trained with another vocabulary than the base's, and "
            f"holds a part of it: with it {parts}.\nSave both in training (peft: save_embedding_layers=True)."
        )


def untied_output(
    changes: dict[str, Change], weights: Mapping[str, Entry]
) -> list[tuple[str, Entry, Change | None]]:
    """[(name, Entry, Change or None)] of an output layer that can no longer share the embedding's weights.

    Tied embeddings are saved separately if the adapter changes one of them: in training the other stays as
    it was, so a merged model that ties them is another model than base + adapter (transformers #45127). The
    change of the output layer moves out of `changes`.
    """
    inputs = [name for name in weights if name.endswith(INPUT_EMBEDDINGS)]
    output = output_name(weights)
    if len(inputs) != 1 or output in weights:
        return []
    if output not in changes and inputs[0] not in changes:
        return []
    if _same_replacement(changes.get(output), changes.get(inputs[0])):
        del changes[output]  # peft writes both of a tied pair
        return []
    return [(output, weights[inputs[0]], changes.pop(output, None))]


def unties_stored_output(changes: Mapping[str, Change], weights: Mapping[str, Entry]) -> bool:
    """True if the base stores its output layer, and the changes leave it another matrix than the embedding.

    Bases that tie both can store both: a program that ties them would then read one and ignore the other.
    """
    inputs = [name for name in weights if name.endswith(INPUT_EMBEDDINGS)]
    output = output_name(weights)
    if len(inputs) != 1 or output not in weights:
        return False
    one, other = changes.get(output), changes.get(inputs[0])
    return not (one is None and other is None) and not _same_replacement(one, other)


def _same_replacement(one: Change | None, other: Change | None) -> bool:
    """True if both changes replace their tensor with the same numbers, and do nothing else."""
    if one is None or other is None or one.replacement is None or other.replacement is None:
        return False
    if one.a is not None or other.a is not None or one.replacement.shape != other.replacement.shape:
        return False
    return bool((one.replacement.read() == other.replacement.read()).all())


def require_fit(
    changes: Mapping[str, Change],
    weights: Mapping[str, Entry],
    adapter: Adapter | TunedModel,
    base: str | Path,
) -> None:
    """UserError naming the tensors of the adapter or tuned model that the base lacks or has in another shape.

    A whole embedding or output layer may have more rows or fewer: the vocabulary of the training.
    """
    faults = []
    output = output_name(weights)
    tied = [entry for name, entry in weights.items() if name.endswith(INPUT_EMBEDDINGS)]
    for name, change in changes.items():
        entry = weights.get(name) or (tied[0] if tied and name == output else None)
        if entry is None:
            faults.append(f"{name}: not in the base")
            continue
        shape = entry.shape
        if change.replacement is not None and name.endswith((*INPUT_EMBEDDINGS, OUTPUT_LAYER)):
            shape = (change.replacement.shape[0], *shape[1:])
        turned = change.embedding or bool(adapter.config.get("fan_in_fan_out"))
        for changed in _shapes(change, turned):
            if changed != shape:
                faults.append(f"{name}: {list(changed)} in the {adapter.kind}, {list(shape)} in the base")
    if faults:
        raise UserError(
            f"the {adapter.kind} {adapter.folder} does not fit the base {base}; "
            f"it was trained on {adapter.base or 'another one'}.\n" + cli.listed(faults)
        )


def _shapes(change: Change, turned: bool) -> Iterable[tuple[int, ...]]:
    """The shapes of what a change replaces or adds. turned: what is added is transposed."""
    if change.replacement is not None:
        yield change.replacement.shape
    if change.a is not None and change.b is not None:
        added = (change.b.shape[0], change.a.shape[1])
        yield added[::-1] if turned else added
