#!/usr/bin/env python3
"""Merge a LoRA adapter into its base model: one ordinary Hugging Face folder, ready for convert_to_gguf.py.

Reads the base (folder or hub name) and the adapter (the final/ folder of a run). Writes the merged model, its
tokenizer and its one chat template to --output_path, whole or not at all.

    python scripts/merge_lora.py --base_model Qwen/Qwen2.5-1.5B-Instruct \
        --lora_path output/temporal-qwen2.5-1.5b-instruct-full-20261123_143022/final --output_path output/merged --verify
    python scripts/merge_lora.py --base_model output/base/SmolLM2-135M-Instruct --lora_path RUN/final --output_path output/merged
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, models, paths
from deepred_common.cli import UserError

VERIFY_PROMPT = "What is 2+2?"
VERIFY_TOKENS = 32
SHARD_SIZE = "4GB"


def build_parser():
    parser = argparse.ArgumentParser(description="Merge LoRA adapter weights into the base model.")
    add = parser.add_argument
    add("--base_model", required=True, help="hub name or folder of the base, the same as in training")
    add("--lora_path", required=True, type=Path, help="the trained adapter: the final/ folder of a run")
    add("--output_path", required=True, type=Path, help="folder to write the merged model to")
    add("--dtype", choices=("float16", "bfloat16", "float32"), default="bfloat16", help="of the merged weights (default: %(default)s)")
    add("--verify", action="store_true", help="load the merged model again and let it answer one question")
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


def check(args):
    """Everything that can be checked without a model; returns the adapter."""
    adapter = models.require_adapter(args.lora_path)
    models.check_name(args.base_model, "base model")
    if models.looks_like_path(args.base_model):
        folder = Path(args.base_model).expanduser()
        if models.read_json(folder / "config.json").get("quantization_config"):
            raise UserError(f"the base {folder} is itself quantised; merging into it would lose quality. Give the 16-bit base.")
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    else:
        size = 0
    paths.require_absent(args.output_path, args.overwrite)
    for source in (args.lora_path, args.base_model):
        if Path(source).exists() and Path(source).resolve() == args.output_path.resolve():
            raise UserError(f"--output_path must not be the folder of {source}.")
    paths.require_writable_parent(args.output_path)
    paths.require_space(args.output_path.resolve().parent, size * (2 if args.dtype == "float32" else 1), "the merged model")
    if adapter.base and str(adapter.base) != str(args.base_model) and Path(adapter.base).name != Path(args.base_model).name:
        cli.warn(f"the adapter was trained on {adapter.base}, not {args.base_model}.")
    return adapter


def merge(args, adapter):
    """Write base + adapter to --output_path."""
    import torch

    cli.progress(f"loading {args.base_model} and the adapter …")
    # The sum is made in fp32 and rounded once; adding in 16 bits would round the adapter's small changes away.
    model, tokenizer = models.load_with_adapter(
        adapter, torch.float32, args.base_model, trust_remote_code=args.trust_remote_code
    )
    cli.progress("merging …")
    try:
        model = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(f"the merge was refused: {error}. The adapter is damaged or training diverged.") from error
    model = model.to(getattr(torch, args.dtype))
    model.config.dtype = getattr(torch, args.dtype)
    if chat.ensure_template(tokenizer):
        cli.warn("neither base nor adapter has a chat template; a plain question-answer template is saved.")
    # Whoever generates from this folder must stop at the end of the turn, also where that is not the end-of-text token.
    model.generation_config.eos_token_id = chat.stop_ids(tokenizer, model.generation_config)
    if len(model.generation_config.eos_token_id) == 1:
        model.generation_config.eos_token_id = model.generation_config.eos_token_id[0]

    cli.progress(f"writing {paths.shown(args.output_path)} in {args.dtype} …")
    with paths.whole_folder(args.output_path) as folder:
        model.save_pretrained(str(folder), max_shard_size=SHARD_SIZE)
        save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer, folder):
    """Save the tokenizer with every file the spec lists, and the chat template once.

    transformers 5 no longer writes special_tokens_map.json, vocab.json and merges.txt; older readers look for them.
    """
    tokenizer.save_pretrained(str(folder))
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    backend = models.read_json(folder / "tokenizer.json")["model"] if (folder / "tokenizer.json").exists() else {}
    if backend.get("type") == "BPE" and not (folder / "vocab.json").exists():
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in backend["merges"]]
        (folder / "vocab.json").write_text(json.dumps(backend["vocab"], ensure_ascii=False), encoding="utf-8")
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def verify(args):
    """Load what was written and let it answer VERIFY_PROMPT; UserError if nothing comes."""
    from deepred_common import replies

    print("Verifying merged model...")
    dtype, _ = devices.pick_dtype()
    model = models.load_model(args.output_path, dtype, args.trust_remote_code).to(devices.pick_device())
    local = replies.LocalModel(model, models.load_tokenizer(args.output_path, args.trust_remote_code), VERIFY_TOKENS, batch_size=1)
    (_, answer), = local.ask([VERIFY_PROMPT])
    reply = answer.text
    if not reply:
        raise UserError(f"the merged model in {args.output_path} says nothing to {VERIFY_PROMPT!r}. Evaluate the adapter itself to see "
                        "whether training went wrong.")
    print(f"Test generation successful!\n  Prompt: {VERIFY_PROMPT}\n  Response: {reply}")


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    adapter = check(args)
    cli.print_settings("Merge settings", args, given)
    models.quiet_libraries()
    merge(args, adapter)
    size = sum(file.stat().st_size for file in args.output_path.glob("*.safetensors"))
    print(f"Merged model: {paths.shown(args.output_path)} ({size / 1e9:.2f} GB of weights in {args.dtype})")
    if args.verify:
        verify(args)
    print(f"\nNext:\n  python scripts/convert_to_gguf.py --model_path {paths.shown(args.output_path)} "
          f"--output_path {paths.shown(args.output_path).rstrip('/')}.gguf")
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
