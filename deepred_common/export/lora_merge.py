"""Base + LoRA adapter to merged weights, a tensor at a time: the base is never loaded as a model.

The sums are made in fp32 and rounded once; they are bit for bit what peft's merge_and_unload gives in fp32.
Unsupported adapter types are merged with peft instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common.cli import UserError
from deepred_common.export.adapter_changes import Change
from deepred_common.models import loading, safetensors_files
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter

if TYPE_CHECKING:
    import torch

# Rows of a weight matrix summed at a time: fp32 copies of the largest matrix need not fit, and a block that
# stays in the processor's cache is summed two to three times as fast as one of 4096 rows.
ROWS_AT_ONCE = 1024
FLOAT_TYPES = ("F32", "F16", "BF16", "F64")  # brought to the merged type; integers and bools stay as they are
PEFT_SHARD_SIZE = "4GB"
PlannedFile = tuple[str, list[tuple[str, Entry, Change | None]]]


def merged(
    entry: Entry,
    change: Change | None,
    dtype: torch.dtype,
    transposed: bool,
    device: torch.device | str = "cpu",
    strength: float = 1.0,
) -> torch.Tensor:
    """The tensor of `entry` with `change` made, in `dtype`, on the CPU.

    transposed: weights are stored (in, out), as GPT-2's are. device: where the sums are made. strength: by
    which what is added is multiplied. UserError if a sum is not finite.
    """
    import torch

    if change is None:
        return entry.read().to(dtype)
    if change.replacement is not None:
        entry = change.replacement
    if change.a is None or change.b is None:
        return entry.read().float().to(dtype)
    a, b = (half.read().float().to(device) for half in (change.a, change.b))
    magnitude = None if change.magnitude is None else change.magnitude.read().float().to(device)
    weight = entry.read()
    out = torch.empty(weight.shape, dtype=dtype)
    turned = transposed or change.embedding
    # Each row of the product (each column, where weights are stored turned) is computed by itself, so blocks
    # of rows give the same bits as the whole.
    for start in range(0, b.shape[0], ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, b.shape[0]))
        block = weight[:, rows] if turned else weight[rows]
        block = block.to(device, torch.float32, copy=True)
        delta = b[rows] @ a
        block.add_((delta.T if turned else delta).mul_(change.scale * strength))
        if magnitude is not None:
            # DoRA (Liu et al., arXiv 2402.09353): the sum's rows are brought to the learned length.
            norm = torch.linalg.norm(block.T if turned else block, dim=1)
            factor = (magnitude[rows] / norm).view(-1, 1)
            block.mul_(factor.T if turned else factor)
        # The least and greatest are NaN where any value is, and cost one pass without a copy.
        if not all(torch.isfinite(bound) for bound in torch.aminmax(block)):
            raise UserError(
                f"the merged weights of {entry.file.name} are not finite (NaN or infinity): the adapter is "
                "damaged or training diverged."
            )
        if turned:
            out[:, rows] = block.to(dtype)
        else:
            out[rows] = block.to(dtype)
    return out


def write_merged(
    files: Sequence[tuple[str, Mapping[str, Entry]]],
    changes: Mapping[str, Change],
    out: Path,
    dtype: torch.dtype,
    transposed: bool = False,
    device: torch.device | str = "cpu",
    extra: Sequence[tuple[str, Entry, Change | None]] = (),
    strength: float = 1.0,
    progress: Callable[[list[PlannedFile]], Iterable[PlannedFile]] = iter,
) -> None:
    """Write merged weights to the folder `out`, in the same files as the base has.

    files: of safetensors_files.read_folder. extra: tensors that the base does not have (an output layer that
    was tied), which go into its last file. strength: as in `merged`. progress: wraps the list of planned
    files, for instance tqdm.
    """
    plan: list[PlannedFile] = [
        (file, [(tensor, entry, changes.get(tensor)) for tensor, entry in entries.items()])
        for file, entries in files
    ]
    plan[-1][1].extend(extra)
    weight_map: dict[str, str] = {}
    total = 0  # bytes
    for file, tensors in progress(plan):
        shapes = {}
        for tensor, entry, change in tensors:
            kind = dtype if entry.dtype in FLOAT_TYPES else safetensors_files.torch_dtype(entry.dtype)
            # A replaced embedding has the rows of the adapter's vocabulary.
            replacement = change.replacement if change else None
            shape = (replacement or entry).shape
            shapes[tensor] = kind, shape
            weight_map[tensor] = file
            total += math.prod(shape) * kind.itemsize
        safetensors_files.write(
            out / file, shapes, _merge_each(tensors, shapes, transposed, device, strength)
        )
    if len(plan) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (out / safetensors_files.INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _merge_each(
    tensors: Sequence[tuple[str, Entry, Change | None]],
    shapes: Mapping[str, tuple[torch.dtype, Sequence[int]]],
    transposed: bool,
    device: torch.device | str,
    strength: float,
) -> Iterator[torch.Tensor]:
    """The merged tensors, made one by one as they are needed."""
    for tensor, entry, change in tensors:
        yield merged(entry, change, shapes[tensor][0], transposed, device, strength)


def merge_with_peft(
    adapter: Adapter,
    base: Path,
    dtype: torch.dtype,
    out: Path,
    trust_remote_code: bool = False,
    strength: float = 1.0,
) -> None:
    """Write peft's own merge to `out`, for unsupported adapters; it needs the whole model in fp32.

    strength: by which what the adapter adds is multiplied.
    Others misread the config.json that transformers writes there: hf_folder.write_config replaces it.
    """
    import torch
    from peft.helpers import rescale_adapter_scale

    model, _ = loading.load_with_adapter(adapter, torch.float32, base, trust_remote_code)
    with rescale_adapter_scale(model, strength):
        model = loading.merge_by_peft(model)
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(str(out), max_shard_size=PEFT_SHARD_SIZE)
