"""What the machine computes on and how precisely, and what can go wrong with it."""

import os


def pick_device():
    """The torch device to run on: cuda (NVIDIA or ROCm; one process's own under a launcher) if there is one, else cpu."""
    import torch

    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def on_rocm():
    """True if this torch was built for AMD's ROCm and sees a GPU."""
    import torch

    return torch.version.hip is not None and torch.cuda.is_available()


def pick_dtype():
    """(torch.dtype, why): bf16 only where the hardware does it fast.

    On a CPU without AMX or AVX512-BF16 a bf16 matrix product is tens of times slower than fp32; with it, it is
    two to three times faster.
    """
    import torch

    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes bf16 natively"
        return torch.float16, "the GPU has no native bf16"
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16") or able.get("avx512_bf16"):
        return torch.bfloat16, "this CPU has bf16 instructions"
    return torch.float32, "this CPU has no bf16 instructions"


def gpu_name():
    """The architecture of the first AMD GPU as ROCm sees it ("gfx1100"), or ""."""
    import torch

    return torch.cuda.get_device_properties(0).gcnArchName.split(":")[0] if on_rocm() else ""


def rocm_cautions(architecture, quantised, environment=os.environ):
    """What to tell before training on ROCm, as texts. architecture: of gpu_name(). quantised: 4 or 8 bits were asked for."""
    if architecture == "gfx1151" and "HSA_OVERRIDE_GFX_VERSION" not in environment:
        yield (
            "this GPU is a gfx1151 (Strix Halo), and HSA_OVERRIDE_GFX_VERSION is not set. Before training:\n"
            "  export HSA_OVERRIDE_GFX_VERSION=11.0.0"
        )
    if quantised:
        yield (
            "4/8-bit on ROCm is experimental and can hang the GPU on long runs. If it does, in this order: leave the flag out;\n"
            "export AMD_SERIALIZE_KERNEL=3 AMD_SERIALIZE_COPY=3; --batch_size 1 --max_seq_length 384; --save_steps 100, --resume_latest"
        )


def lm_studio_here():
    """The URL of an LM Studio server (or any on its port) that answers on this machine, or None."""
    import requests

    url = f"http://localhost:{os.environ.get('LMSTUDIO_PORT') or '1234'}/v1/models"
    try:
        return url if requests.get(url, timeout=1).ok else None
    except requests.RequestException:
        return None


def is_out_of_memory(error):
    """True if an exception says that memory, the GPU's or the machine's, ran out."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(
        words in str(error).lower()
        for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def is_lost(error):
    """True if an exception says that the GPU stopped answering or the driver gave up: nothing can be had from it any more."""
    import torch

    return isinstance(error, (RuntimeError, torch.AcceleratorError)) and any(
        words in str(error)
        for words in (
            "HIP error",
            "CUDA error",
            "GPU Hang",
            "HW Exception",
            "hipError",
            "cudaError",
            "device-side",
        )
    )


def free_memory():
    """Give back what Python and the GPU's allocator hold without need."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
