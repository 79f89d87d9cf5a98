"""Before training: how much memory and time will it take? From the model's shape alone; its weights are not read.

Rules of thumb, meant to tell "fits" from "does not"; bench/train.py prints them beside what it measures.
"""

import time
from dataclasses import dataclass

from deepred_common import devices
from deepred_common.training import token_rows

SHARE_REACHED = 0.6  # of the matrix-product peak that training reaches (bench/train.py measures it)
# Of activations and logits, on a CPU: its allocator keeps what batches of other sizes left behind. bench/train.py: 1.6.
CPU_SLACK = 1.6
MEMORY_SHARE = 0.8  # of what is free that may be filled before activations are recomputed to save memory


@dataclass(frozen=True)
class Shape:
    """What of a model decides memory and time. parameters and lora are counts, hidden, layers, inner, vocabulary sizes."""

    parameters: int
    linear: int  # parameters in the linear layers, the output one aside: what quantisation makes smaller
    lora: int
    hidden: int
    inner: int
    heads: int
    layers: int
    vocabulary: int


def shape_of(config, lora_r, trust_remote_code=False):
    """The Shape of a transformers config with LoRA of rank `lora_r` on every linear layer but the output one."""
    import torch
    from transformers import AutoModelForCausalLM

    # On the meta device a model has shapes but no memory.
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    output = model.get_output_embeddings()
    layers = [
        module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not output
    ]
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        linear=sum(module.weight.numel() for module in layers),
        lora=sum(lora_r * (module.in_features + module.out_features) for module in layers),
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.num_attention_heads,
        layers=config.num_hidden_layers,
        vocabulary=config.vocab_size,
    )


def memory(shape, rows, length, replies, bytes_each, linear_bits, checkpointing, eager, slack=1.0):
    """Bytes that training takes at its peak, for a batch of `rows` x `length` tokens of which `replies` places have logits.

    bytes_each: of a weight and an activation (4, or 2 in 16 bits). linear_bits: of a quantised linear layer's weights,
    None if they are not. Weights; the adapter in fp32 with its gradient and Adam's two moments (16 bytes each); what a
    layer keeps for its backward pass, counted off the layer (Korthikanti et al., arXiv 2205.05198, section 4, do the same
    for a GPT layer): 8 hidden vectors, 4 of the inner size, and with eager attention 2 scores a head and place;
    recomputing keeps one hidden vector a layer and all of one layer; logits as they are, in fp32, and their gradient.
    slack: by how much activations and logits take more than that.
    """
    weights = shape.parameters * bytes_each
    if linear_bits is not None:
        weights -= shape.linear * (bytes_each - linear_bits / 8)
    adapter = 16 * shape.lora
    tokens = rows * length
    layer = (
        tokens
        * bytes_each
        * (8 * shape.hidden + 4 * shape.inner + (2 * shape.heads * length if eager else 0))
    )
    activations = (
        tokens * bytes_each * shape.hidden * shape.layers + layer if checkpointing else layer * shape.layers
    )
    logits = rows * replies * shape.vocabulary * (bytes_each + 3 * 4)
    return int(weights + adapter + slack * (activations + logits))


def available(device):
    """Bytes free on a torch device: the GPU's, or the machine's memory."""
    import psutil
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def held_by_process(device):
    """Bytes that the libraries hold by now where training will run: this process's memory on a CPU, 0 on a GPU."""
    import psutil

    return 0 if device.type == "cuda" else psutil.Process().memory_info().rss


def matmul_peak(device, dtype, seconds=0.5):
    """Floating-point operations a second of this machine's matrix product: 2048 x 2048, the best of repeats within `seconds`."""
    import torch

    size = 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def training_seconds(shape, tokens, retain_tokens, peak):
    """Seconds for `tokens` in all epochs, `retain_tokens` of them on the retain side, at SHARE_REACHED of the peak.

    With LoRA a token costs 2 operations a parameter forward and 2 backward, since frozen weights need no gradient of
    their own; on the retain side 2 more, for the base's own prediction.
    """
    return (4 * tokens + 2 * retain_tokens) * shape.parameters / (SHARE_REACHED * peak)


def shown_time(seconds):
    """Seconds as people say them: "40 s", "12 min", "3.5 h"."""
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


@dataclass(frozen=True)
class Forecast:
    """What a training will take: peak in bytes (on a CPU with what the process holds already), seconds, and both as a text."""

    checkpointing: bool
    peak: int
    fits: bool
    seconds: float
    text: str


def foresee(args, config, training, device, dtype):
    """The Forecast of a training. args: its settings; config: the base's; training: rows of token_rows.py; device, dtype: torch's."""
    shape = shape_of(config, args.lora_r, args.trust_remote_code)
    lengths, starts, retain = (
        token_rows.column(training, name) for name in ("length", "reply_start", "retain")
    )
    longest = int(lengths.max())
    replies = min(int((lengths - starts).max()) + int(starts.max() - starts.min()), longest)
    bits = 4 if args.use_4bit else 8 if args.use_8bit else None

    def needed(checkpointing):
        return memory(
            shape,
            args.batch_size,
            longest,
            replies,
            dtype.itemsize,
            bits,
            checkpointing,
            devices.on_rocm(),
            CPU_SLACK if device.type == "cpu" else 1.0,
        )

    free, held = available(device), held_by_process(device)
    # Recomputing activations saves memory at a third more time: only where they would not fit.
    checkpointing = needed(False) > MEMORY_SHARE * free
    tokens = args.epochs * int(lengths.sum()), args.epochs * int(lengths[retain].sum())
    seconds = training_seconds(shape, *tokens, matmul_peak(device, dtype))
    peak = needed(checkpointing) + held
    libraries = f", {held / 1e9:.1f} of them held already" if held else ""
    return Forecast(
        checkpointing,
        peak,
        peak <= free + held,
        seconds,
        (
            f"about {peak / 1e9:.1f} GB at the longest batch ({(free + held) / 1e9:.1f} GB are there{libraries}), "
            f"gradient checkpointing {'on' if checkpointing else 'off'}, about {shown_time(seconds)} of training"
        ),
    )
