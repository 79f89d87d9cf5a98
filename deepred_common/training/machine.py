"""The machine that a training runs on: checked before any weight is loaded; known trouble is warned of."""

from __future__ import annotations

import datetime
import importlib.util
import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepred_common import cli, devices, paths
from deepred_common.cli import UserError

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from deepred_common.training.settings import TrainSettings


# How long a process waits for the others before it gives up. torch's own 10 minutes (NCCL) or 30 (gloo) are
# too short: the first process renders the rows and lets the base write replies, which took 16 minutes of the
# smallest base on a CPU. If a process dies, the launcher ends the others at once; one that hangs is noticed
# only after this time.
LONGEST_WAIT = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class Machine:
    """What a training computes on, and in which torch type."""

    device: torch.device
    dtype: torch.dtype

    @property
    def processes(self) -> PartialState:
        """accelerate's handle on the processes of this run."""
        from accelerate import PartialState

        return PartialState(cpu=self.device.type == "cpu", timeout=LONGEST_WAIT)


def require_packages(settings: TrainSettings) -> None:
    """UserError unless the packages that the settings need are installed. Nothing is imported."""
    for package, needed in (("wandb", settings.wandb), ("tensorboard", settings.tensorboard)):
        if needed and importlib.util.find_spec(package) is None:
            raise UserError(f"--{package} needs the {package} package: pip install {package}")
    if settings.quantisation_bits and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "--use_4bit and --use_8bit need the bitsandbytes package: pip install bitsandbytes\n"
            "Or omit the flag, and use a smaller --batch_size or model."
        )


def prepare_machine(settings: TrainSettings) -> Machine:
    """The Machine to train on, printed, with warnings of what is known to go wrong on it.

    UserError if training cannot run here.
    """
    import torch

    _require_working_bitsandbytes()
    count = torch.cuda.device_count()
    if count > 1 and "WORLD_SIZE" not in os.environ:
        command = " ".join([paths.quoted(paths.TRAINING_SCRIPT), *map(shlex.quote, sys.argv[1:])])
        config = paths.quoted(paths.ROOT / "configs/accelerate/ddp.yaml")
        raise UserError(
            f"{count} GPUs are visible. To use one:\n  CUDA_VISIBLE_DEVICES=0 python {command}\n"
            f"To use all:\n  accelerate launch --config_file {config} --num_processes {count} {command}"
        )
    device, (dtype, reason) = devices.pick_device(), devices.pick_dtype(settings.precision)
    cli.progress(f"device {device}, {str(dtype).removeprefix('torch.')} ({reason})")
    if device.type == "cpu" and (maker := devices.unused_gpu()):
        is_for_cpus = torch.version.cuda is None and torch.version.hip is None
        why = "is a build for CPUs only" if is_for_cpus else "cannot use it; is its driver too old?"
        cli.warn(
            f"this machine has a GPU of {maker}, but PyTorch {torch.__version__} {why}\n"
            "Training on the CPU is many times slower. What to install: docs/hardware.md"
        )
    precision = devices.precision_name(dtype)
    if precision not in devices.native_precisions():
        chip = "CPU" if device.type == "cpu" else "GPU"
        cli.warn(
            f"this {chip} has no {precision} instructions. It emulates them, which is many times slower.\n"
            "Omit --precision to use what is fastest here."
        )
    if devices.on_rocm():
        for caution in devices.rocm_cautions(devices.gpu_name(), bool(settings.quantisation_bits)):
            cli.warn(caution)
    if device.type != "cpu" and (url := devices.lm_studio_here()):
        sharing = "; ROCm cannot share the GPU" if devices.on_rocm() else ""
        cli.warn(
            f"an LM Studio server answers at {url} and may hold this GPU's memory{sharing}.\n"
            "Stop it first: sudo systemctl stop lmstudio.service"
        )
    return Machine(device, dtype)


def _require_working_bitsandbytes() -> None:
    """UserError if bitsandbytes is installed but cannot be imported: peft imports it, used or not."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    try:
        import bitsandbytes  # noqa: F401
    except Exception as error:  # it fails in many ways: a missing library, a wrong CUDA, an unknown GPU
        raise UserError(
            f"bitsandbytes is installed but does not load: {str(error).splitlines()[0]}\n"
            "Reinstall it (pip install --force-reinstall bitsandbytes), or remove it "
            "(pip uninstall bitsandbytes) and train without --use_4bit and --use_8bit."
        ) from error
