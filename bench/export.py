#!/usr/bin/env python3
"""Merging: peak memory and time of peft's load, merge and save, of merge_lora.py, and of a plain copy.
Converting to q4_k_m: time of llama.cpp's converter and quantiser called by hand, and of convert_to_gguf.py.

Each runs in a process of its own, first on the embedded model, then on a synthetic one of --gigabytes in
several shards with random weights, made here and deleted afterwards. The page cache is warm for all: the
base is read once before.

    python bench/export.py --gigabytes 4
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.export import llama_cpp, quantise
from deepred_common.models import loading, safetensors_files

WAYS = {
    "peft": "load in bf16, merge_and_unload, save_pretrained",
    "ours": "scripts/merge_lora.py",
    "copy": "the base's files copied and flushed to the disk",
}
SHARD_BYTES = 1e9
HIDDEN, INTERMEDIATE, KEY_VALUE = 2048, 8192, 512  # the synthetic model's sizes, Llama-3.2-1B's


def make_big(folder: Path, gigabytes: float) -> None:
    """A Llama of about `gigabytes`, bf16, random weights, in shards, with the embedded base's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(paths.EMBEDDED_BASE)
    layer = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEY_VALUE + 3 * HIDDEN * INTERMEDIATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=round(gigabytes * 1e9 / 2 / layer),
        num_attention_heads=32,
        num_key_value_heads=8,
        bos_token_id=1,
        eos_token_id=2,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    with torch.device("meta"):
        shapes = {
            name: (torch.bfloat16, tuple(value.shape))
            for name, value in LlamaForCausalLM(config).state_dict().items()
        }
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shards: list[dict] = [{}]
    size = 0.0
    for name, (dtype, shape) in shapes.items():
        if size > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = dtype, shape
        size += 2 * torch.Size(shape).numel()
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, chosen in zip(names, shards, strict=True):
        safetensors_files.write(
            folder / name,
            chosen,
            (torch.empty(shape, dtype=dtype).normal_(std=0.02) for dtype, shape in chosen.values()),
        )
    weight_map = {tensor: name for name, chosen in zip(names, shards, strict=True) for tensor in chosen}
    (folder / safetensors_files.INDEX).write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map})
    )


def make_adapter(base: Path, folder: Path) -> None:
    """A LoRA adapter of rank 16 with random weights on every linear layer of `base`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = get_peft_model(
            AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base)),
            LoraConfig(
                r=16,
                lora_alpha=32,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
                base_model_name_or_path=str(base),
            ),
        )
    folder.mkdir()
    shapes = {
        name.replace(".default", ""): (torch.float32, tuple(value.shape))
        for name, value in model.state_dict().items()
        if "lora_" in name
    }
    safetensors_files.write(
        folder / "adapter_model.safetensors",
        shapes,
        (torch.randn(shape) * 0.01 for _, shape in shapes.values()),
    )
    model.peft_config["default"].save_pretrained(str(folder))


def run(way: str, base: Path, adapter: Path, out: Path) -> None:
    """Merge in one of WAYS, in this process."""
    if way == "peft":
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter
        )
        model.merge_and_unload(safe_merge=True).save_pretrained(out)
        AutoTokenizer.from_pretrained(base).save_pretrained(out)
    elif way == "ours":
        sys.path.insert(0, str(paths.ROOT / "scripts"))
        import merge_lora

        merge_lora.main(["--base_model", str(base), "--lora_path", str(adapter), "--output_path", str(out)])
    else:
        shutil.copytree(base, out)
        subprocess.run(["sync", "-f", str(out)], check=True)


def measure(words: Sequence[str]) -> tuple[float, int]:
    """(seconds, peak bytes) of this script run with `words` in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - started, int(done.stdout.strip().splitlines()[-1])


def timed(command: Sequence[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - started


def time_converting(model: Path, folder: Path) -> None:
    """Print the seconds of both ways to convert the model folder `model`, with files in `folder`."""
    tree = llama_cpp.find_tree(paths.ROOT / "llama.cpp", False)
    if tree is None:
        raise UserError("no llama.cpp tree was found; set LLAMA_CPP_DIR.")
    half, output = folder / "f16.gguf", folder / "q4_k_m.gguf"
    converter = [sys.executable, str(tree / llama_cpp.CONVERTER)]
    first = timed([*converter, str(model), "--outfile", str(half), "--outtype", "f16"])
    quantize = quantise.quantize_command(tree, half, output, "q4_k_m")
    if quantize is None:
        raise UserError("no quantiser was found: pip install cyllama.")
    second = timed(quantize)
    half.unlink()
    output.unlink()
    script = [sys.executable, str(paths.ROOT / "scripts/convert_to_gguf.py")]
    ours = timed([*script, "--model_path", str(model), "--output_path", str(output)])
    output.unlink()
    print(
        f"  to q4_k_m by hand: f16 {first:.1f} s, quantising {second:.1f} s; convert_to_gguf.py, checks and "
        f"comparison included: {ours:.1f} s, {ours - first - second:+.1f} s",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(description="Memory and time of merging.")
    parser.add_argument(
        "--gigabytes", type=float, default=4, help="of the synthetic model (default: %(default)s)"
    )
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    loading.set_up_libraries()
    if args.run:
        run(args.run[0], *map(Path, args.run[1:]))
        # Not ru_maxrss: what starts a process leaves its own peak there.
        status = Path("/proc/self/status").read_text()
        print(1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")))
        return cli.EXIT_OK
    with tempfile.TemporaryDirectory(dir=paths.OUTPUT) as scratch:
        folder = Path(scratch)
        (folder / "big").mkdir()
        make_big(folder / "big", args.gigabytes)
        for base in (paths.EMBEDDED_BASE, folder / "big"):
            make_adapter(base, folder / f"adapter-{base.name}")
            sizes = [entry.size for entry in safetensors_files.read_weights(base).values()]
            print(
                f"{base.name}: {sum(sizes) / 1e9:.2f} GB of weights, the largest tensor "
                f"{max(sizes) / 1e6:.0f} MB"
            )
            first = None
            for way, what in WAYS.items():
                seconds, peak = measure(
                    ["--run", way, str(base), str(folder / f"adapter-{base.name}"), str(folder / "out")]
                )
                first = first or (seconds, peak)
                print(
                    f"  {way:<6}{seconds:>8.1f} s{first[0] / seconds:>7.1f}x faster"
                    f"{peak / 1e6:>9.0f} MB{first[1] / peak:>7.1f}x less   {what}",
                    flush=True,
                )
                shutil.rmtree(folder / "out")
            time_converting(base, folder)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
