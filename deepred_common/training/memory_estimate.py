"""How much memory a training takes, estimated before it starts from the model's shape alone.

A rule of thumb that tells "fits" from "does not fit"; bench/train.py prints it beside what it measures. No
weight is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deepred_common import devices
from deepred_common.training import container_memory, packing, token_rows
from deepred_common.training.batch_order import BalancedOrder

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PretrainedConfig

    from deepred_common.training.settings import TrainSettings

# On a CPU activations and logits take this much more, since its allocator keeps what batches of other sizes
# left behind, and the libraries so many bytes: in bf16 oneDNN keeps programs. Measured with bench/train.py.
CPU_SLACK = 1.15
CPU_LIBRARIES, CPU_PROGRAMS = int(0.5e9), int(0.2e9)
MEMORY_SHARE = 0.8  # of the free memory that may be filled before activations are recomputed to save memory
TRAINED_BYTES = 16  # of a trained parameter: itself in fp32, its gradient, and Adam's two moments
# Of what a layer keeps for its backward pass, counted off the layer. Korthikanti et al., arXiv 2205.05198,
# section 4, count a GPT layer in the same way.
HIDDEN_VECTORS = 2  # what attention and the feed-forward part are given
FP32_VECTORS = 3  # of the same size, in fp32: norms
# Of the size of all heads: queries, keys and values before and after what is done to them, and the result.
ATTENTION_VECTORS = 6
INNER_VECTORS = 4
USUAL_INNER = 4  # times a hidden vector, of a model whose config does not say: Falcon, GPT-2, Bloom, MPT, OPT
FP32_BYTES = 4
LOGITS = 3  # of a label: the model's, the base's and their gradient; objectives/label_scores.py has no others


@dataclass(frozen=True)
class Shape:
    """The figures of a model that decide its memory."""

    parameters: int  # count
    linear: int  # count of those in linear layers, without the output layer: what quantisation makes smaller
    trained: int  # count of the parameters that are trained: the adapter's, or all
    hidden: int  # size of a hidden vector
    inner: int  # size of the vector inside the feed-forward part
    heads: int
    attention: int  # size of all heads' queries together
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Batch:
    """What one forward pass computes.

    tokens: whose activations are kept. scores: of attention, of one head in one layer; 0 where the kernel
    keeps none. outputs: places that the output layer predicts a token at, to choose those with a label from;
    0 where it predicts these only. labels: places that a loss is computed of.
    """

    tokens: int
    scores: int
    outputs: int
    labels: int


@dataclass(frozen=True)
class Precision:
    """bytes_each: of a weight and an activation. linear_bits: of a quantised linear layer's weight, None if
    not; with these, all other weights are in fp32.

    copies: of all weights in this type, beside what is trained. With an adapter, the base; without one, the
    base as the reference, and what autocast makes of the trained weights, which are in fp32.
    """

    bytes_each: int
    linear_bits: int | None
    copies: int = 1


class Room(NamedTuple):
    """Bytes where training will run: free ones, and those that this process already uses."""

    free: int
    used: int


@dataclass(frozen=True)
class MemoryEstimate:
    """What a training takes at its peak, in bytes (on a CPU with what the process already uses), and the same
    as text.

    checkpointing: whether activations are to be recomputed to save memory. fits: whether the peak fits at
    all.
    """

    checkpointing: bool
    peak: int
    fits: bool
    text: str
    shape: Shape


def shape_of(config: PretrainedConfig, lora_r: int | None, trust_remote_code: bool = False) -> Shape:
    """The Shape of a transformers config with LoRA of rank `lora_r` on all linear layers but the output
    layer; None trains all weights instead."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers

    # On the meta device a model has shapes but no memory.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    output = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    weights = [
        module.weight for module in model.modules() if isinstance(module, kinds) and module is not output
    ]
    parameters = sum(p.numel() for p in model.parameters())
    trained = parameters if lora_r is None else sum(lora_r * sum(weight.shape) for weight in weights)
    heads = _size(config, "num_attention_heads") or 1  # Mamba has none
    head_size = _size(config, "head_dim") or config.hidden_size // heads
    return Shape(
        parameters=parameters,
        linear=sum(weight.numel() for weight in weights),
        trained=trained,
        hidden=config.hidden_size,
        inner=_size(config, "intermediate_size") or USUAL_INNER * config.hidden_size,
        heads=heads,
        attention=heads * head_size,
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
    )


def _size(config: PretrainedConfig, name: str) -> int:
    """A size in a config, the largest one where layers differ in it; 0 where the config has none."""
    try:
        size = getattr(config, name, None) or 0
    except RuntimeError:  # so transformers says that layers differ, as Gemma 4's heads do
        size = [getattr(layer, name) for layer in config.per_layer_config]
    return size if isinstance(size, int) else max(size)


def peak_memory(
    shape: Shape, batch: Batch, precision: Precision, checkpointing: bool, slack: float = 1.0
) -> int:
    """Bytes that training takes at its peak.

    The sum of the weights; what is trained with gradient and optimizer; what the layers keep for the backward
    pass; and the logits.
    slack: how many times their size activations and logits take.
    """
    weights: float = precision.copies * shape.parameters * precision.bytes_each
    if precision.linear_bits is not None:
        # peft's prepare_model_for_kbit_training casts all that is not quantised (embedding, norms) to fp32.
        weights = shape.linear * precision.linear_bits / 8 + (shape.parameters - shape.linear) * FP32_BYTES
    trained = TRAINED_BYTES * shape.trained
    inputs = batch.tokens * shape.hidden * precision.bytes_each
    # Attention computes its softmax in fp32, and keeps it in the other type as well.
    score_bytes = FP32_BYTES + (precision.bytes_each if precision.bytes_each < FP32_BYTES else 0)
    vectors = (
        HIDDEN_VECTORS * shape.hidden + ATTENTION_VECTORS * shape.attention + INNER_VECTORS * shape.inner
    )
    layer = (
        batch.tokens * (vectors * precision.bytes_each + FP32_VECTORS * shape.hidden * FP32_BYTES)
        + batch.scores * shape.heads * score_bytes
    )
    # With checkpointing, each layer keeps its input only, and one at a time is computed again and held whole.
    kept = layer + inputs * shape.layers if checkpointing else layer * shape.layers
    logits = (batch.outputs + LOGITS * batch.labels) * precision.bytes_each
    return int(weights + trained + slack * (kept + logits * shape.vocabulary))


def available(device: torch.device) -> int:
    """Free bytes on a torch device: the GPU's, or this process's share of the machine's memory.

    In a container, of the container's.
    """
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    left = container_memory.left()
    return (free if left is None else min(free, left)) // devices.local_processes()


def used_by_process(device: torch.device) -> int:
    """Bytes that this process already uses where training will run: its memory on a CPU, 0 on a GPU."""
    import psutil

    return 0 if device.type == "cuda" else psutil.Process().memory_info().rss


def room(device: torch.device) -> Room:
    """The Room on a torch device, now. What reading Gemma's tokenizer left behind, 0.3 GB, is freed first."""
    devices.free_memory()
    return Room(available(device), used_by_process(device))


def forward_passes(
    rows: Dataset, settings: TrainSettings, packs: bool, longest_with_scores: int
) -> Iterator[Batch]:
    """What each forward pass of a training's first epoch computes, on rows of token_rows.py. The others order
    the same rows in the same way, and ordering many takes seconds.

    packs: whether rows are packed, not padded. longest_with_scores: attention keeps its scores of rows of up
    to so many tokens.
    """
    names = ("length", "longest", "reply_start", "side")
    length, longest, start, side = (token_rows.column(rows, name).tolist() for name in names)
    begins_alike = _begins_alike(rows) if packs else []
    order = BalancedOrder(length, side, settings.rows_per_update, settings.seed)
    for update in order.updates(0):
        for first in range(0, len(update), settings.batch_size):
            chosen = update[first : first + settings.batch_size]
            replies = [2 if length[row] > longest[row] else 1 for row in chosen]
            count, width = sum(replies), max(longest[row] for row in chosen)
            labels = sum(length[row] - n * start[row] for row, n in zip(chosen, replies, strict=True))
            if packs:
                shared = min(begins_alike[row] for row in chosen)
                tokens = sum(length[row] for row in chosen) - (count - 1) * shared
                outputs = 0
            else:
                tokens = count * width
                # The output layer computes every place where some row has a reply.
                outputs = count * (width - min(start[row] for row in chosen))
            scores = sum(
                n * longest[row] ** 2
                for row, n in zip(chosen, replies, strict=True)
                if longest[row] <= longest_with_scores
            )
            yield Batch(tokens, scores, outputs, labels)


def _begins_alike(rows: Dataset) -> list[int]:
    """How many tokens of its prompt, less the last, each row begins with as the first row does.

    Packed rows share at least what the least of them says.
    """
    import numpy as np

    ids = rows.select_columns(["input_ids"]).with_format("arrow")[:]["input_ids"].combine_chunks()
    values, starts = ids.values.to_numpy(), ids.offsets.to_numpy()[:-1]
    prompts = token_rows.column(rows, "reply_start") - 1  # the last token predicts the reply's first one
    alike, number = np.zeros(len(starts), dtype=int), np.arange(len(starts))
    for place in range(int(prompts[0])):
        number = number[prompts[number] > place]
        number = number[values[starts[number] + place] == values[starts[0] + place]]
        alike[number] += 1
    return alike.tolist()


def estimate(
    settings: TrainSettings,
    config: PretrainedConfig,
    training: Dataset,
    device: torch.device,
    dtype: torch.dtype,
    needs_reference: bool,
    checkpointing: bool | None = None,
    before: Room | None = None,
) -> MemoryEstimate:
    """The MemoryEstimate of a training. config: the base's; training: rows of token_rows.py.

    needs_reference: of TrainSettings, whether the base is loaded beside the trained model.
    checkpointing: whether activations are recomputed; None if that depends on the free memory. before: the
    Room before the base was loaded, whose weights are counted here; None if it was not.
    """
    shape = shape_of(config, None if settings.full else settings.lora_r, settings.trust_remote_code)
    copies = 1
    if settings.full:
        copies = needs_reference + (dtype.itemsize < FP32_BYTES)
    precision = Precision(dtype.itemsize, settings.quantisation_bits, copies)
    on_cpu = device.type == "cpu"
    packs = on_cpu and packing.can_pack(config, settings.max_seq_length)
    # Attention with a soft cap (Gemma 2) has no other kernel.
    keeps_all = devices.on_rocm() or getattr(config, "attn_logit_softcapping", None)
    longest_with_scores = sys.maxsize if keeps_all else packing.PLAIN_KEYS if packs else 0
    batches = set(forward_passes(training, settings, packs, longest_with_scores))

    slack, libraries = (CPU_SLACK, CPU_LIBRARIES) if on_cpu else (1.0, 0)
    if on_cpu and dtype.itemsize < FP32_BYTES:
        libraries += CPU_PROGRAMS

    def needed(checkpointing: bool) -> int:
        passes = (peak_memory(shape, batch, precision, checkpointing, slack) for batch in batches)
        return max(passes) + libraries

    free, used = before or room(device)
    # Recomputing activations saves memory and takes a third more time, so only where they would not fit.
    if checkpointing is None:
        checkpointing = needed(False) > MEMORY_SHARE * free
    peak = needed(checkpointing) + used
    usable = free + used
    already = f", {used / 1e9:.1f} of them already used by this process" if used else ""
    return MemoryEstimate(
        checkpointing=checkpointing,
        peak=peak,
        fits=peak <= usable,
        text=(
            f"about {peak / 1e9:.1f} GB of memory at the largest batch "
            f"({usable / 1e9:.1f} GB available{already}), "
            f"gradient checkpointing {'on' if checkpointing else 'off'}"
        ),
        shape=shape,
    )
