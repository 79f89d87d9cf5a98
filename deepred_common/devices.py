"""What the machine computes on and how precisely, and what can go wrong with it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common import server_session
from deepred_common.cli import UserError

if TYPE_CHECKING:
    import torch

# --precision's names of torch's types.
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
AUTO = "auto"
LM_STUDIO_PORT = 1234  # LM Studio's own default
# What the drivers of a GPU leave on Linux: any of the first (the second one in WSL), all of the others.
_NVIDIA_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/nvidia-smi"))
_AMD_DRIVER = (Path("/dev/kfd"), Path("/opt/rocm"))


def processes() -> int:
    """How many processes the launcher (accelerate, torchrun) started for this run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_processes() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def splits_model() -> str | None:
    """What splits a model over the processes of this run: "FSDP", "DeepSpeed", or None."""
    for name in ("FSDP", "DeepSpeed"):
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() == "true":  # set by accelerate launch
            return name
    return None


def usable_cpus() -> int:
    """CPUs that this process may run on; a container or taskset can leave fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pick_device() -> torch.device:
    """The torch device to run on: this process's GPU (NVIDIA or ROCm) if there is one, else the CPU.

    UserError if this torch was built without code for the GPU.
    """
    import torch

    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        _require_kernels(device)
        return device
    return torch.device("cpu")


@functools.cache
def _require_kernels(device: torch.device) -> None:
    """UserError if torch has no code for a GPU that it sees: one newer than this build, or too old for it."""
    import torch

    try:
        torch.zeros(1, device=device).add(1).item()
    except RuntimeError as error:
        if not any(words in str(error) for words in ("no kernel image", "invalid device function")):
            raise
        strix = " On gfx1151 (Strix Halo): export HSA_OVERRIDE_GFX_VERSION=11.0.0" if on_rocm() else ""
        raise UserError(
            f"PyTorch {torch.__version__} has no code for this GPU, "
            f"{torch.cuda.get_device_name(device)}.{strix}\n"
            "Install the build for it: docs/hardware.md. To use the CPU: export CUDA_VISIBLE_DEVICES=-1"
        ) from error


def unused_gpu() -> str | None:
    """Whose GPU ("NVIDIA", "AMD") this machine has, to ask where torch sees none; None if it is hidden."""
    if any(os.environ.get(f"{name}_VISIBLE_DEVICES") in ("", "-1") for name in ("CUDA", "HIP", "ROCR")):
        return None
    if any(path.exists() for path in _NVIDIA_DRIVER):
        return "NVIDIA"
    return "AMD" if all(path.exists() for path in _AMD_DRIVER) else None


def on_rocm() -> bool:
    """True if this torch was built for AMD's ROCm and sees a GPU."""
    import torch

    return torch.version.hip is not None and torch.cuda.is_available()


def native_precisions() -> tuple[str, ...]:
    """The names in PRECISIONS that this machine's GPU, or else its CPU, has instructions for.

    Any other is emulated. On a CPU without AMX or AVX512-BF16 a bf16 matrix product is tens of times slower
    than an fp32 one; with them it is two to three times faster.
    """
    import torch

    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("fp32", "bf16", "fp16") if has_bf16 else ("fp32", "fp16")
    able = torch.cpu.get_capabilities()
    return ("fp32", "bf16") if able.get("amx_bf16") or able.get("avx512_bf16") else ("fp32",)


def pick_dtype(precision: str = AUTO) -> tuple[torch.dtype, str]:
    """(torch type to compute in, why this one). precision: AUTO or a name in PRECISIONS.

    AUTO is bf16 where that is native; else fp16 on a GPU and fp32 on a CPU. UserError for fp16 on a CPU.
    """
    import torch

    on_gpu, native = torch.cuda.is_available(), native_precisions()
    if precision != AUTO:
        if precision == "fp16" and not on_gpu:
            raise UserError("--precision fp16 needs a GPU. Use --precision fp32 or bf16 on the CPU.")
        why = "set with --precision" if precision in native else "set with --precision; emulated, slow"
    elif "bf16" in native:
        precision, why = (
            "bf16",
            "the GPU computes bf16 natively" if on_gpu else "this CPU has bf16 instructions",
        )
    elif on_gpu:
        precision, why = "fp16", "the GPU has no native bf16"
    else:
        precision, why = "fp32", "this CPU has no bf16 instructions"
    return getattr(torch, PRECISIONS[precision]), why


def precision_name(dtype: torch.dtype | str) -> str:
    """The name in PRECISIONS of a torch type, or of its text ("torch.float32")."""
    name = str(dtype).removeprefix("torch.")
    return next((short for short, long in PRECISIONS.items() if long == name), name)


def gpu_name() -> str:
    """The architecture of the first AMD GPU as ROCm sees it ("gfx1100"), or ""."""
    import torch

    return torch.cuda.get_device_properties(0).gcnArchName.split(":")[0] if on_rocm() else ""


def rocm_cautions(
    architecture: str, quantised: bool, environment: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """Warnings before training on ROCm.

    architecture: of gpu_name(). quantised: the base is loaded in 4 or 8 bits.
    """
    if architecture == "gfx1151" and "HSA_OVERRIDE_GFX_VERSION" not in environment:
        yield (
            "this GPU is a gfx1151 (Strix Halo), and HSA_OVERRIDE_GFX_VERSION is not set. Before training:\n"
            "  export HSA_OVERRIDE_GFX_VERSION=11.0.0"
        )
    if quantised:
        yield (
            "4/8-bit on ROCm is experimental and can hang the GPU on long runs. If it does, resume with\n"
            "--resume_latest --save_steps 100, after export AMD_SERIALIZE_KERNEL=3 AMD_SERIALIZE_COPY=3.\n"
            "If it still does, start a new run without the flag, or with --batch_size 1 --max_seq_length 384."
        )


def lm_studio_here() -> str | None:
    """The URL of an LM Studio server (or any on its port) that answers on this machine, or None."""
    import requests

    url = f"http://localhost:{os.environ.get('LMSTUDIO_PORT') or LM_STUDIO_PORT}/v1/models"
    try:
        return url if server_session.new(url).get(url, timeout=1).ok else None
    except requests.RequestException:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """True if an exception says that memory, the GPU's or the machine's, ran out."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return any(words in message for words in ("out of memory", "not enough memory", "can't allocate memory"))


# How the drivers of NVIDIA and AMD say that the GPU is gone.
_LOST = (
    "HIP error",
    "CUDA error",
    "GPU Hang",
    "HW Exception",
    "hipError",
    "cudaError",
    "device-side",
)


def is_lost(error: BaseException) -> bool:
    """True if an exception says that the GPU stopped answering, or that its driver failed."""
    import torch

    if not isinstance(error, RuntimeError | torch.AcceleratorError):
        return False
    return any(words in str(error) for words in _LOST)


def free_memory() -> None:
    """Release what Python and the allocators of the C library and the GPU hold without need."""
    import ctypes
    import gc

    import torch

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
