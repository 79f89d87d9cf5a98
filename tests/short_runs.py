"""A short training for tests, and how near two adapters are."""

import sys
from pathlib import Path

from conftest import ROOT

# By how much sums in another order (two processes, halves of a batch) may change losses and adapters, as
# shares. Measured: fp32 0.0002 and 0.0000, bf16 0.0001 and 0.003; another seed's adapter is 1.45 away.
ROUNDING = {"fp32": (0.001, 0.001), "bf16": (0.005, 0.05)}


def short_run(model, data_file, folder, epochs=2):
    """Arguments of finetune_temporal for twelve examples: 3 updates an epoch."""
    return [
        *("--model_name", str(model)),
        *("--dev", "--dev_path", str(data_file)),
        *("--output_dir", str(folder)),
        *("--gradient_accumulation_steps", "1"),
        *("--epochs", str(epochs)),
        *("--replay_share", "0"),
    ]


def whole_updates(data_file: Path, folder: Path) -> list[str]:
    """Flags for the twelve examples as files in `folder`, all of them to train on: whole updates only.

    Of a short update, each of several processes would get whole batches.
    """
    flags = []
    for side in ("retain", "unlearn"):
        examples = [text for text in data_file.read_text().splitlines() if f'"{side}"' in text]
        file = folder / f"{side}.jsonl"
        file.write_text("\n".join(examples))
        twice = folder / f"{side}-twice.jsonl"  # enough to measure an AUROC
        twice.write_text("\n".join(2 * examples))
        flags += [f"--{side}_train", str(file), f"--{side}_val", str(twice)]
    return flags


def launcher(config: str = "ddp") -> list[str]:
    """accelerate launch with a file of configs/accelerate; the script follows. Two processes."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(ROOT / f"configs/accelerate/{config}.yaml")),
        *("--num_cpu_threads_per_process", "1"),
    ]


def weights(run: Path):
    """{name: tensor} of a run's adapter."""
    from safetensors.torch import load_file

    return load_file(run / "final/adapter_model.safetensors")


def same(a, b) -> bool:
    """Whether two adapters are equal, bit for bit."""
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def distance(a, b) -> float:
    """How far apart two adapters' learned halves are, as a share of how far the first moved from zero."""
    assert a.keys() == b.keys()
    learned = [name for name in a if "lora_B" in name]  # they start at zero
    apart = sum((a[name] - b[name]).square().sum().item() for name in learned)
    return (apart / sum(a[name].square().sum().item() for name in learned)) ** 0.5
