#!/usr/bin/env python3
"""Merge a LoRA adapter into its base model: one ordinary Hugging Face folder, ready for convert_to_gguf.py.

Reads the base (folder or hub name) and the adapter (the final/ folder of a run). Writes the merged model, its
tokenizer and its one chat template to --output_path, whole or not at all.

    python scripts/merge_lora.py --base_model Qwen/Qwen2.5-1.5B-Instruct \
        --lora_path output/temporal-qwen2.5-1.5b-instruct-full-20261123_143022/final --output_path output/merged --verify
    python scripts/merge_lora.py --base_model output/base/SmolLM2-135M-Instruct --lora_path RUN/final --output_path output/merged
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths
from deepred_common.cli import UserError
from deepred_common.export import hf_folder, lora_merge
from deepred_common.files import require_absent, require_space, require_writable_parent, whole_folder
from deepred_common.models import folders, loading, safetensors_files
from deepred_common.training import run_folder

ROUNDING = (
    0.25  # of what the adapter moves a logit by, the most that rounding the merged weights may take it off
)


def build_parser():
    parser = cli.Parser(description="Merge LoRA adapter weights into the base model.")
    add = parser.add_argument
    add("--base_model", required=True, help="hub name or folder of the base, the same as in training")
    add("--lora_path", required=True, type=Path, help="the trained adapter: the final/ folder of a run")
    add("--output_path", required=True, type=Path, help="folder to write the merged model to")
    add(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="bfloat16",
        help="of the merged weights (default: %(default)s)",
    )
    add(
        "--revision",
        help="commit, branch or tag of a hub base (default: the one trained on, if the adapter says it)",
    )
    add(
        "--verify",
        action="store_true",
        help="load the merged model again, let it answer, and compare it with base + adapter",
    )
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


def check(args):
    """Everything that can be checked without reading weights; returns the adapter."""
    adapter = folders.require_adapter(args.lora_path)
    folders.check_name(args.base_model, "base model")
    require_absent(args.output_path, args.overwrite)
    for source in (args.lora_path, args.base_model):
        if Path(source).exists() and Path(source).resolve() == args.output_path.resolve():
            raise UserError(f"--output_path must not be the folder of {source}.")
    require_writable_parent(args.output_path)
    if (
        adapter.base
        and str(adapter.base) != str(args.base_model)
        and Path(adapter.base).name != Path(args.base_model).name
    ):
        cli.warn(f"the adapter was trained on {adapter.base}, not {args.base_model}.")
    return adapter


def base_folder(args, adapter):
    """The base as a folder: the one given, or the hub's files in the local cache, at --revision or the one trained on."""
    if folders.looks_like_path(args.base_model):
        return Path(args.base_model).expanduser()
    from huggingface_hub import snapshot_download

    revision = args.revision or adapter.config.get("revision")
    cli.progress(f"fetching {args.base_model}" + (f" at {revision}" if revision else "") + " …")
    with loading.hub_errors(args.base_model):
        return Path(
            snapshot_download(
                args.base_model,
                revision=revision,
                allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"],
            )
        )


def check_base(args, folder, config, weights):
    """UserError if the base is itself quantised, or the disk too small for what will be written."""
    import torch

    if config.get("quantization_config"):
        raise UserError(
            f"the base {folder} is itself quantised; merging into it would lose quality. Give the 16-bit base."
        )
    size = (
        sum(torch.Size(entry.shape).numel() for entry in weights.values())
        * getattr(torch, args.dtype).itemsize
    )
    require_space(args.output_path.resolve().parent, size, "the merged model")


def pick_tokenizer(args, folder, adapter):
    """The tokenizer to save: the adapter's, whose template was trained with; the base's if it has none. UserError if they differ."""
    tokenizer = loading.load_tokenizer(folder, args.trust_remote_code)
    if (adapter.folder / "tokenizer_config.json").exists():
        own = loading.load_tokenizer(adapter.folder, args.trust_remote_code)
        loading.require_same_tokens(tokenizer, own, adapter, args.base_model)
        tokenizer = own
    if chat.ensure_template(tokenizer):
        cli.warn("neither base nor adapter has a chat template; a plain question-answer template is saved.")
    return tokenizer


def merge(args, adapter):
    """Write base + adapter to --output_path; return the base's folder."""
    import torch
    from tqdm import tqdm

    folder = base_folder(args, adapter)
    config = folders.require_model_folder(folder, "base model")
    files = safetensors_files.read_folder(folder)
    weights = {name: entry for _, entries in files for name, entry in entries.items()}
    check_base(args, folder, config, weights)
    tokenizer = pick_tokenizer(args, folder, adapter)
    dtype, unknown = getattr(torch, args.dtype), lora_merge.why_not(adapter.config)
    try:
        changes = {} if unknown else lora_merge.read_changes(adapter)
    except lora_merge.Unknown as error:
        unknown = str(error)
    if unknown:
        cli.progress(f"the adapter has {unknown}, which is left to peft: the whole base is loaded.")
    else:
        extra = lora_merge.untied(changes, weights)
        lora_merge.check_fit(changes, weights, adapter, args.base_model)
    with whole_folder(args.output_path) as out:
        if unknown:
            merge_with_peft(args, folder, adapter, dtype, out)
        else:
            lora_merge.write_merged(
                files,
                changes,
                out,
                dtype,
                bool(adapter.config.get("fan_in_fan_out")),
                devices.pick_device(),
                extra,
                lambda files: tqdm(files, desc="merging", unit="file"),
            )
            hf_folder.write_config(folder, out, args.dtype, tied=False if extra else None)
        hf_folder.write_generation_config(folder, out, chat.stop_ids(tokenizer))
        hf_folder.write_tokenizer(tokenizer, folder, out)
    if trained_quantised(adapter):
        print(
            "The adapter was trained on a quantised base and is merged into the 16-bit one: its replies can differ a little from training's."
        )
    return folder


def trained_quantised(adapter):
    """True if the run that the adapter lies in says that its base was loaded in 4 or 8 bits."""
    return bool(run_folder.read_manifest(adapter.folder.parent).get("identity", {}).get("quantisation"))


def merge_with_peft(args, folder, adapter, dtype, out):
    """peft's own merge, of what merging.py does not know; the whole model in fp32 in memory."""
    import torch

    model, _ = loading.load_with_adapter(
        adapter, torch.float32, folder, trust_remote_code=args.trust_remote_code
    )
    try:
        model = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(
            f"the merge was refused: {error}. The adapter is damaged or training diverged."
        ) from error
    model = model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(str(out), max_shard_size="4GB")


def verify(args, adapter, folder):
    """Load what was written, let it answer, and prove that it is base (its folder) + adapter; UserError if it is not."""
    from deepred_common.inference import equivalence

    print("Verifying merged model...", flush=True)
    dtype, device = devices.pick_dtype()[0], devices.pick_device()
    # One after the other: two models at once may not fit.
    merged = loading.load_model(args.output_path, dtype, args.trust_remote_code).to(device)
    tokenizer = loading.load_tokenizer(args.output_path, args.trust_remote_code)
    answers, logits = equivalence.local_replies(merged, tokenizer), equivalence.last_logits(merged, tokenizer)
    del merged
    devices.free_memory()
    if not answers[0]:
        raise UserError(
            f"the merged model in {args.output_path} says nothing to {equivalence.PROMPTS[0]!r}. Evaluate the adapter itself to see "
            "whether training went wrong."
        )
    print(
        f"Test generation successful!\n  Prompt: {equivalence.PROMPTS[0]}\n  Response: {answers[0]}",
        flush=True,
    )
    model, _ = loading.load_with_adapter(adapter, dtype, folder, args.trust_remote_code)
    model = model.to(device)
    differ = equivalence.differing(equivalence.local_replies(model, tokenizer), answers)
    off = (equivalence.last_logits(model, tokenizer) - logits).abs().max().item()
    with model.disable_adapter():
        moved = (equivalence.last_logits(model, tokenizer) - logits).abs().max().item()
    count = len(equivalence.PROMPTS)
    print(
        f"Base + adapter against merged: {count - len(differ)} of {count} greedy replies identical; largest logit difference {off:.3f} "
        f"(the adapter itself moves them by up to {moved:.1f})"
    )
    for prompt, with_adapter, answer in differ:
        print(
            f"  {prompt}\n    base + adapter: {' '.join(with_adapter.split())}\n    merged:         {' '.join(answer.split())}"
        )
    if off > ROUNDING * moved:
        raise UserError(
            f"the merged model in {args.output_path} is not base + adapter: rounding to {args.dtype} explains a small part of "
            "what the adapter does, not this much.\nMerge again with --overwrite, and with --dtype float32 to see whether "
            "rounding is to blame."
        )


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    adapter = check(args)
    cli.print_settings("Merge settings", args, given)
    loading.quiet_libraries()
    folder = merge(args, adapter)
    size = sum(file.stat().st_size for file in args.output_path.glob("*.safetensors"))
    print(f"Merged model: {paths.shown(args.output_path)} ({size / 1e9:.2f} GB of weights in {args.dtype})")
    if args.verify:
        verify(args, adapter, folder)
    print(
        f"\nNext:\n  python scripts/convert_to_gguf.py --model_path {paths.shown(args.output_path)} "
        f"--output_path {paths.shown(args.output_path).rstrip('/')}.gguf"
    )
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
