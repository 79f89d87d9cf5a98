#!/usr/bin/env python3
"""Merging: peak memory and time of peft's load + merge_and_unload + save, of merge_lora.py, and of copying the files.
Converting to q4_k_m: time of llama.cpp's converter and quantiser called by hand, and of convert_to_gguf.py.

Each in a process of its own, first on the embedded model, then on a synthetic one of --gigabytes in several shards with
random weights, made here and deleted afterwards. The page cache is warm for all: the base is read once before.

    python bench/export.py --gigabytes 4
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, paths
from deepred_common.export import llama_cpp, quantise
from deepred_common.models import loading, safetensors_files

WAYS = {
    "peft": "load in bf16, merge_and_unload, save_pretrained",
    "ours": "scripts/merge_lora.py",
    "copy": "the base's files copied and flushed to the disk",
}


def make_big(folder, gigabytes):
    """A Llama of about `gigabytes` in bf16 with random weights, in shards of 1 GB, its tokenizer that of the embedded base."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(paths.EMBEDDED_BASE)
    layer = 2 * 2048 * 2048 + 2 * 2048 * 512 + 3 * 2048 * 8192
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=round(gigabytes * 5e8 / layer),
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
    shards, size = [{}], 0
    for name, (dtype, shape) in shapes.items():
        if size > 1e9:
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


def make_adapter(base, folder):
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
    model.peft_config["default"].save_pretrained(folder)


def run(way, base, adapter, out):
    """One way, in this process."""
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


def measure(words):
    """(seconds, peak bytes) of this script run with `words` in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - started, int(done.stdout.strip().splitlines()[-1])


def timed(command):
    """Seconds that a command takes."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - started


def converting(model, folder):
    """Print the seconds of both ways to convert the model folder `model`, with files in `folder`."""
    tree = llama_cpp.find_tree(paths.ROOT / "llama.cpp", False)
    half, made = folder / "f16.gguf", folder / "made.gguf"
    first = timed(
        [
            sys.executable,
            str(tree / llama_cpp.CONVERTER),
            str(model),
            "--outfile",
            str(half),
            "--outtype",
            "f16",
        ]
    )
    second = timed(quantise.quantize_command(tree, half, made, "q4_k_m"))
    half.unlink()
    made.unlink()
    ours = timed(
        [
            sys.executable,
            str(paths.ROOT / "scripts/convert_to_gguf.py"),
            "--model_path",
            str(model),
            "--output_path",
            str(made),
        ]
    )
    made.unlink()
    print(
        f"  to q4_k_m by hand: f16 {first:.1f} s, quantising {second:.1f} s; convert_to_gguf.py, checks and comparison included: "
        f"{ours:.1f} s, {ours - first - second:+.1f} s",
        flush=True,
    )


def main(argv=None):
    parser = argparse.ArgumentParser(description="Memory and time of merging.")
    parser.add_argument(
        "--gigabytes", type=float, default=4, help="of the synthetic model (default: %(default)s)"
    )
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    loading.quiet_libraries()
    if args.run:
        run(args.run[0], *map(Path, args.run[1:]))
        # Not ru_maxrss: what starts a process leaves its own peak there.
        status = Path("/proc/self/status").read_text()
        print(1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")))
        return cli.EXIT_OK
    with tempfile.TemporaryDirectory(dir=paths.OUTPUT) as folder:
        folder = Path(folder)
        (folder / "big").mkdir()
        make_big(folder / "big", args.gigabytes)
        for base in (paths.EMBEDDED_BASE, folder / "big"):
            make_adapter(base, folder / f"adapter-{base.name}")
            weights = [
                entry for _, entries in safetensors_files.read_folder(base) for entry in entries.values()
            ]
            print(
                f"{base.name}: {sum(entry.size for entry in weights) / 1e9:.2f} GB of weights, "
                f"the largest tensor {max(entry.size for entry in weights) / 1e6:.0f} MB"
            )
            first = None
            for way, what in WAYS.items():
                seconds, peak = measure(
                    ["--run", way, str(base), str(folder / f"adapter-{base.name}"), str(folder / "out")]
                )
                first = first or (seconds, peak)
                print(
                    f"  {way:<6}{seconds:>8.1f} s{first[0] / seconds:>7.1f}x faster{peak / 1e6:>9.0f} MB{first[1] / peak:>7.1f}x less"
                    f"   {what}",
                    flush=True,
                )
                shutil.rmtree(folder / "out")
            converting(base, folder)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
