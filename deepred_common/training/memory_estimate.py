"""How much memory a training takes, estimated before it starts from the model's shape alone.

A rule of thumb that tells "fits" from "does not fit"; bench/train.py prints it beside what it measures. No
weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepred_common import devices
from deepred_common.training import packing, token_rows

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PretrainedConfig

    from deepred_common.training.settings import TrainSettings

# Activations and logits take this much more on a CPU: its allocator keeps what batches of other sizes left
# behind. Measured with bench/train.py.
CPU_SLACK = 1.6
MEMORY_SHARE = 0.8  # of the free memory that may be filled before activations are recomputed to save memory
TRAINED_BYTES = 16  # of a trained parameter: itself in fp32, its gradient, and Adam's two moments
# Of what a layer keeps for its backward pass, counted off the layer. Korthikanti et al., arXiv 2205.05198,
# section 4, count a GPT layer in the same way.
HIDDEN_VECTORS = 8
INNER_VECTORS = 4
EAGER_SCORES = 2  # a head and place: eager attention keeps its scores before and after the softmax
FP32_BYTES = 4
FP32_LOGITS = 3  # copies of the logits in fp32: themselves, their softmax, and the gradient


@dataclass(frozen=True)
class Shape:
    """The figures of a model that decide its memory."""

    parameters: int  # count
    linear: int  # count of those in linear layers, without the output layer: what quantisation makes smaller
    trained: int  # count of the parameters that are trained: the adapter's, or all
    hidden: int  # size of a hidden vector
    inner: int  # size of the vector inside the feed-forward part
    heads: int
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Batch:
    """One forward pass: `rows` rows of `length` tokens, with logits at `replies` places of each row."""

    rows: int
    length: int
    replies: int


@dataclass(frozen=True)
class Precision:
    """bytes_each: of a weight and an activation. linear_bits: of a quantised linear layer's weight, None if
    not.

    copies: of all weights in this type, beside what is trained. With an adapter, the base; without one, the
    base as the reference, and what autocast makes of the trained weights, which are in fp32.
    """

    bytes_each: int
    linear_bits: int | None
    copies: int = 1


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

    # On the meta device a model has shapes but no memory.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    output = model.get_output_embeddings()
    layers = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not output
    ]
    parameters = sum(p.numel() for p in model.parameters())
    if lora_r is None:
        trained = parameters
    else:
        trained = sum(lora_r * (module.in_features + module.out_features) for module in layers)
    return Shape(
        parameters=parameters,
        linear=sum(module.weight.numel() for module in layers),
        trained=trained,
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
    )


def peak_memory(
    shape: Shape,
    batch: Batch,
    precision: Precision,
    checkpointing: bool,
    eager: bool,
    slack: float = 1.0,
) -> int:
    """Bytes that training takes at its peak.

    The sum of the weights; what is trained with gradient and optimizer; what the layers keep for the backward
    pass; and the logits, as they are and in fp32.
    eager: whether attention keeps its scores. slack: how many times their size activations and logits take.
    """
    weights: float = precision.copies * shape.parameters * precision.bytes_each
    if precision.linear_bits is not None:
        weights -= shape.linear * (precision.bytes_each - precision.linear_bits / 8)
    trained = TRAINED_BYTES * shape.trained
    token_bytes = batch.rows * batch.length * precision.bytes_each
    scores = EAGER_SCORES * shape.heads * batch.length if eager else 0
    layer = token_bytes * (HIDDEN_VECTORS * shape.hidden + INNER_VECTORS * shape.inner + scores)
    # With checkpointing, each layer keeps its input only, and one at a time is computed again and held whole.
    inputs = token_bytes * shape.hidden * shape.layers if checkpointing else 0
    activations = layer * (1 if checkpointing else shape.layers) + inputs
    logit_bytes = precision.bytes_each + FP32_LOGITS * FP32_BYTES
    logits = batch.rows * batch.replies * shape.vocabulary * logit_bytes
    return int(weights + trained + slack * (activations + logits))


def available(device: torch.device) -> int:
    """Free bytes on a torch device: the GPU's, or the machine's memory."""
    import psutil
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def used_by_process(device: torch.device) -> int:
    """Bytes that this process already uses where training will run: its memory on a CPU, 0 on a GPU."""
    import psutil

    return 0 if device.type == "cuda" else psutil.Process().memory_info().rss


def longest_batch(rows: Dataset, batch_size: int) -> Batch:
    """The largest forward pass that rows of token_rows.py can make, whatever their order."""
    lengths, starts = token_rows.column(rows, "longest"), token_rows.column(rows, "reply_start")
    has_pairs = (token_rows.column(rows, "length") > lengths).any()
    longest = int(lengths.max())
    # Of padded rows, logits are computed at every place where some row has a reply; packed ones have fewer.
    replies = int((lengths - starts).max()) + int(starts.max() - starts.min())
    return Batch(rows=batch_size * (2 if has_pairs else 1), length=longest, replies=min(replies, longest))


def estimate(
    settings: TrainSettings,
    config: PretrainedConfig,
    training: Dataset,
    device: torch.device,
    dtype: torch.dtype,
    checkpointing: bool | None = None,
) -> MemoryEstimate:
    """The MemoryEstimate of a training. config: the base's; training: rows of token_rows.py.

    checkpointing: whether activations are recomputed; None if that depends on the free memory.
    """
    shape = shape_of(config, None if settings.full else settings.lora_r, settings.trust_remote_code)
    batch = longest_batch(training, settings.batch_size)
    bits = 4 if settings.use_4bit else 8 if settings.use_8bit else None
    copies = 1
    if settings.full:
        copies = settings.needs_reference + (dtype.itemsize < FP32_BYTES)
    precision = Precision(dtype.itemsize, bits, copies)
    slack = CPU_SLACK if device.type == "cpu" else 1.0

    eager = devices.on_rocm() or (device.type == "cpu" and batch.length <= packing.PLAIN_KEYS)

    def needed(checkpointing: bool) -> int:
        return peak_memory(shape, batch, precision, checkpointing, eager, slack)

    free, used = available(device), used_by_process(device)
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
            f"about {peak / 1e9:.1f} GB of memory at the longest batch "
            f"({usable / 1e9:.1f} GB available{already}), "
            f"gradient checkpointing {'on' if checkpointing else 'off'}"
        ),
        shape=shape,
    )
