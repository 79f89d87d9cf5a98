"""Base + LoRA adapter to merged weights, a tensor at a time: the base is never loaded as a model.

The sums are made in fp32 and rounded once, and are bit for bit what peft's merge_and_unload gives in fp32. What this
module does not know (why_not) is left to peft.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.models import safetensors_files

# Rows of a weight matrix summed at a time: fp32 copies of the largest matrix need not fit, and a block that stays in the
# processor's cache is summed two to three times as fast as one of 4096 rows.
ROWS_AT_ONCE = 1024
_PREFIX = "base_model.model."
# What may stand in an adapter's config that this module does not know, unless it is switched off.
_UNKNOWN = (
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


@dataclass
class Change:
    """What an adapter does to one tensor of the base: replace it, then add scale * B A (a, b), under DoRA with a magnitude."""

    scale: float = 1.0
    a: object = None
    b: object = None
    magnitude: object = None
    replacement: object = None
    embedding: bool = False


class Unknown(Exception):
    """Something of an adapter that this module does not know; peft does."""


def why_not(config):
    """What in an adapter's config this module does not know, as text; None if it knows all."""
    for name in _UNKNOWN:
        if config.get(name) not in (None, False, "none"):
            return f"{name}={config[name]}"
    if config.get("init_lora_weights") not in (True, False, None, "gaussian", "default", "orthogonal", "eva"):
        return (
            f"init_lora_weights={config['init_lora_weights']}"  # these change the base itself before training
        )
    return None


def untied(changes, weights):
    """[(name, Entry, Change or None)] of an output layer that must stop sharing the input embedding's weights.

    Where the base ties the two, an adapter on one of them leaves the other as it was: the merged model has to hold both,
    or it is another model than base + adapter (transformers #45127 is about that). The change moves out of `changes`.
    """
    inputs = [name for name in weights if name.endswith("embed_tokens.weight") or name.endswith("wte.weight")]
    if (
        len(inputs) != 1
        or "lm_head.weight" in weights
        or not ({"lm_head.weight", inputs[0]} & changes.keys())
    ):
        return []
    return [("lm_head.weight", weights[inputs[0]], changes.pop("lm_head.weight", None))]


def read_changes(adapter):
    """{base tensor's name: Change} of an adapter folder (models.Adapter). UserError for a tensor of no known kind."""
    changes = {}
    for name, entry in safetensors_files.read_header(adapter.folder / "adapter_model.safetensors").items():
        found = re.fullmatch(
            rf"{re.escape(_PREFIX)}(.+?)\.(?:(lora_A|lora_B)\.weight|(lora_embedding_A|lora_embedding_B)|"
            r"lora_magnitude_vector(?:\.weight)?)",
            name,
        )
        if found is None:
            if name.startswith(_PREFIX) and "lora_" not in name:
                # A trained copy of a whole module; beside a LoRA on an embedding peft saves the embedding itself as well.
                changes.setdefault(
                    name.removeprefix(_PREFIX).replace(".base_layer.", "."), Change()
                ).replacement = entry
                continue
            raise UserError(f"the adapter holds a tensor that is not known: {name}")
        change = changes.setdefault(f"{found[1]}.weight", Change())
        kind = found[2] or found[3]
        if kind is None:
            change.magnitude = entry
        elif kind.endswith("_A"):
            change.a = entry
        else:
            change.b = entry
        change.embedding |= found[3] is not None
    for name, change in changes.items():
        if change.embedding and change.magnitude is not None:
            raise Unknown("DoRA on an embedding")
        if change.a is not None:
            change.scale = _scale(adapter.config, name.removesuffix(".weight"))
    return changes


def _scale(config, module):
    """alpha / r of a module, or alpha / sqrt(r) for rsLoRA (Kalajdzievski, arXiv 2312.03732); patterns as peft reads them."""

    def pick(patterns, default):
        return next(
            (
                value
                for pattern, value in (patterns or {}).items()
                if re.match(rf"(.*\.)?({pattern})$", module)
            ),
            default,
        )

    rank, alpha = (
        pick(config.get("rank_pattern"), config["r"]),
        pick(config.get("alpha_pattern"), config["lora_alpha"]),
    )
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def check_fit(changes, weights, adapter, base):
    """UserError naming each tensor of the adapter that the base lacks or has in another shape. weights: {name: Entry}."""
    faults = []
    for name, change in changes.items():
        if name not in weights:
            faults.append(f"{name}: not in the base")
            continue
        shape, own = weights[name].shape, []
        if change.replacement is not None:
            own.append(change.replacement.shape)
        if change.a is not None:
            whole = (change.b.shape[0], change.a.shape[1])
            own.append(whole[::-1] if change.embedding or adapter.config.get("fan_in_fan_out") else whole)
        faults += [
            f"{name}: {list(size)} in the adapter, {list(shape)} in the base"
            for size in own
            if tuple(size) != tuple(shape)
        ]
    if faults:
        more = f"\n  … and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}; it was trained on {adapter.base}.\n  "
            + "\n  ".join(faults[:5])
            + more
        )


def merged(entry, change, dtype, transposed, device="cpu"):
    """The tensor of `entry` with `change` made, in the torch dtype `dtype`. transposed: fan_in_fan_out, as GPT-2 stores its weights.

    UserError if the sum is not finite.
    """
    import torch

    if change is None:
        return entry.read().to(dtype)
    if change.replacement is not None:
        entry = change.replacement
    if change.a is None:
        return entry.read().float().to(dtype)
    a, b = (half.read().float().to(device) for half in (change.a, change.b))
    magnitude = None if change.magnitude is None else change.magnitude.read().float().to(device)
    weight = entry.read()
    out = torch.empty(weight.shape, dtype=dtype)
    turned = transposed or change.embedding
    # Each row of the product (each column, where weights are stored turned) is worked out by itself, so blocks of rows
    # give the same bits as the whole.
    for start in range(0, b.shape[0], ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, b.shape[0]))
        block = weight[:, rows] if turned else weight[rows]
        block = block.to(device, torch.float32, copy=True)
        delta = b[rows] @ a
        block.add_((delta.T if turned else delta).mul_(change.scale))
        if magnitude is not None:
            # DoRA (Liu et al., arXiv 2402.09353): the sum's rows are brought to the learnt length.
            norm = torch.linalg.norm(block.T if turned else block, dim=1)
            factor = (magnitude[rows] / norm).view(-1, 1)
            block.mul_(factor.T if turned else factor)
        # The least and greatest are NaN where any value is, and cost one pass without a copy.
        if not all(torch.isfinite(bound) for bound in torch.aminmax(block)):
            raise UserError(
                f"the merged weights of {entry.file.name} are not finite (NaN or infinity): the adapter is damaged or "
                "training diverged."
            )
        if turned:
            out[:, rows] = block.to(dtype)
        else:
            out[rows] = block.to(dtype)
    return out


def write_merged(files, changes, out, dtype, transposed=False, device="cpu", extra=(), progress=iter):
    """Write merged weights to the folder `out`, in the same files as the base has (safetensors_files.read_folder).

    extra: [(name, Entry, Change)] of tensors that the base does not have (an output layer that was tied); they go into
    its last file. progress: wraps the list of (file, names), for instance tqdm.
    """
    import torch

    weight_map, total = {}, 0
    plan = [
        (name, [(tensor, entry, changes.get(tensor)) for tensor, entry in entries.items()])
        for name, entries in files
    ]
    plan[-1][1].extend(extra)
    for file, tensors in progress(plan):
        shapes = {}
        for tensor, entry, _ in tensors:
            kind = (
                dtype
                if entry.dtype in ("F32", "F16", "BF16", "F64")
                else getattr(torch, safetensors_files.torch_name(entry.dtype))
            )
            shapes[tensor] = kind, entry.shape
            weight_map[tensor] = file
            total += torch.Size(entry.shape).numel() * kind.itemsize
        safetensors_files.write(
            Path(out) / file,
            shapes,
            (
                merged(entry, change, shapes[tensor][0], transposed, device)
                for tensor, entry, change in tensors
            ),
        )
    if len(plan) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (Path(out) / safetensors_files.INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
