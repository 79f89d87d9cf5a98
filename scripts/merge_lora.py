#!/usr/bin/env python3
"""Merge a LoRA adapter into its base model: one ordinary Hugging Face folder, ready for convert_to_gguf.py.

Reads the base (folder or hub name) and the adapter (the final/ folder of a run). Of a run with --full, final/
holds a whole model: its weights are copied, and the rest is the same. Writes the merged model, its
tokenizer and its one chat template to --output_path, whole or not at all.

    python scripts/merge_lora.py --base_model Qwen/Qwen2.5-1.5B-Instruct --lora_path RUN/final \
        --output_path output/merged --verify
    python scripts/merge_lora.py --base_model output/base/SmolLM2-135M-Instruct --lora_path RUN/final \
        --output_path output/merged --calibrate retain_val.jsonl unlearn_val.jsonl --max_false_refusals 5%
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, devices, paths, provenance, source_files
from deepred_common.cli import UserError
from deepred_common.evaluation import calibration, equivalence, frontier, merge_check
from deepred_common.examples import Example
from deepred_common.export import hf_folder, merged_tokenizer, trained_merge
from deepred_common.export.trained_merge import Base
from deepred_common.files import (
    require_absent,
    require_space,
    require_writable_parent,
    whole_folder,
    write_text,
)
from deepred_common.models import folders, loading, safetensors_files
from deepred_common.models.trained_weights import Adapter, TunedModel, require_finite, require_trained
from deepred_common.reporting import calibration_text, merge_check_text
from deepred_common.training import run_folder


@dataclass(frozen=True)
class MergeSettings:
    """The command line: see build_parser's help texts."""

    base_model: str
    lora_path: Path
    output_path: Path
    dtype: str
    revision: str | None
    verify: bool
    calibrate: list[Path] | None
    max_false_refusals: float | None
    max_leakage: float | None
    equal_error: bool
    overwrite: bool
    trust_remote_code: bool

    @property
    def wish(self) -> frontier.Wish | None:
        """The rate to calibrate for; None without one."""
        if self.max_false_refusals is not None:
            return frontier.Wish(frontier.FALSE_REFUSALS, self.max_false_refusals)
        if self.max_leakage is not None:
            return frontier.Wish(frontier.LEAKAGE, self.max_leakage)
        return frontier.Wish(frontier.EQUAL_ERROR) if self.equal_error else None


def build_parser() -> cli.Parser:
    parser = cli.Parser(description="Merge LoRA adapter weights into the base model.")
    add = parser.add_argument
    add(
        "--base_model",
        required=True,
        type=cli.model,
        help="hub name or folder of the base, the same as in training",
    )
    add(
        "--lora_path",
        required=True,
        type=cli.path,
        help="what was trained: the final/ folder of a run",
    )
    add("--output_path", required=True, type=cli.path, help="folder to write the merged model to")
    add(
        "--dtype",
        choices=("float16", "bfloat16", "float32"),
        default="bfloat16",
        help="type of the merged weights (default: %(default)s)",
    )
    add(
        "--revision",
        help="commit, branch or tag of a hub base (default: that of the training)",
    )
    add(
        "--verify",
        action="store_true",
        help="load the merged model again, let it answer, and compare it with what was trained",
    )
    add(
        "--calibrate",
        type=cli.path,
        nargs="+",
        metavar="FILE",
        help="retain and unlearn examples to choose the adapter's strength on, for one of these wishes:",
    )
    wishes = parser.add_mutually_exclusive_group()
    wishes.add_argument(
        "--max_false_refusals",
        type=cli.percent,
        metavar="PERCENT",
        help="refuse at most so many questions from before the cutoff, such as 5%%",
    )
    wishes.add_argument(
        "--max_leakage",
        type=cli.percent,
        metavar="PERCENT",
        help="answer at most so many questions from after the cutoff, such as 5%%",
    )
    wishes.add_argument(
        "--equal_error",
        action="store_true",
        help="choose the strength at which both error rates are closest to each other",
    )
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    add("--trust_remote_code", action="store_true", help="run code that the model's authors ship with it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args, given = cli.parse(build_parser(), argv)
    settings = MergeSettings(**vars(args))
    sources = source_files.stamps([*source_files.of_model(settings.lora_path), *(settings.calibrate or ())])
    trained, examples = check(settings)
    files = ", ".join(paths.shown(file) for file in settings.calibrate or ())
    cli.print_settings(
        "Merge settings", args, given, resolved={"calibrate": (files, "flag")} if files else None
    )
    loading.set_up_libraries()
    base, strength = merge(settings, trained, examples, sources)
    merged, shown = settings.output_path, paths.shown(settings.output_path)
    size = sum(file.stat().st_size for file in merged.glob("*.safetensors"))
    print(f"Merged model: {shown} ({size / 1e9:.2f} GB of weights in {settings.dtype})")
    if settings.verify:
        verify(settings, trained, base, strength)
    print(
        f"\nNext:\n  {paths.script('convert_to_gguf')} --model_path {paths.quoted(merged)} "
        f"--output_path {paths.quoted(f'{merged}.gguf')}"
    )
    return cli.EXIT_OK


def check(settings: MergeSettings) -> tuple[Adapter | TunedModel, list[Example]]:
    """What can be checked without loading a model; returns what was trained, and --calibrate's examples."""
    if settings.calibrate and not settings.wish:
        raise UserError("--calibrate needs --max_false_refusals 5%, --max_leakage 5% or --equal_error.")
    if settings.wish and not settings.calibrate:
        raise UserError(
            "a wished rate needs examples to be measured on: --calibrate with a retain and an unlearn file."
        )
    manifest = run_folder.read_manifest(settings.lora_path.resolve().parent)
    revision = manifest.get("identity", {}).get("base_revision")
    trained = require_trained(settings.lora_path, manifest.get("model_name", ""), revision)
    if settings.calibrate and isinstance(trained, TunedModel):
        raise UserError(
            f"--calibrate scales an adapter, and {settings.lora_path} has none: all weights were trained."
        )
    examples = calibration.read(settings.calibrate) if settings.calibrate else []
    folders.check_name(settings.base_model, "base model", transformers_loads=loads_model(settings))
    base = Path(settings.base_model)
    if settings.revision and folders.looks_like_path(settings.base_model):
        raise UserError(
            f"--revision is of a hub base, and {settings.base_model} is a folder: its files are used as they "
            "are. Leave the flag out, or give the hub name."
        )
    if base.exists() and base.resolve() == settings.lora_path.resolve():
        raise UserError(f"--lora_path {settings.lora_path} is the base itself. Give the final/ of a run.")
    require_absent(settings.output_path, settings.overwrite)
    for source in (settings.lora_path, base):
        if source.exists() and source.resolve() == settings.output_path.resolve():
            raise UserError(f"--output_path must not be the folder of {source}.")
    require_writable_parent(settings.output_path)
    if trained.base and Path(trained.base).name != Path(settings.base_model).name:
        cli.warn(f"the {trained.kind} was trained on {trained.base}, not {settings.base_model}.")
    require_finite(trained)
    return trained, examples


def loads_model(settings: MergeSettings) -> bool:
    """True if transformers has to load the base; merging alone does not need that."""
    return settings.verify or bool(settings.calibrate)


def merge(
    settings: MergeSettings,
    trained: Adapter | TunedModel,
    examples: Sequence[Example],
    sources: Mapping[Path, source_files.Stamp],
) -> tuple[Path, float]:
    """Write base + adapter to --output_path, or the tuned model in the base's place.

    sources: the files of what was trained and --calibrate's, as they were when they were first read.

    Returns the base's folder and the adapter's strength.
    """
    import torch

    revision = settings.revision
    if trained.base == settings.base_model:  # another hub model does not have that commit
        revision = revision or trained.config.get("revision")
    folder = loading.base_folder(settings.base_model, revision, settings.trust_remote_code)
    sources = {**sources, **source_files.stamps(source_files.of_model(folder))}
    config = folders.require_model_folder(folder, "base model", transformers_loads=loads_model(settings))
    base = Base(settings.base_model, folder, config, safetensors_files.read_folder(folder))
    dtype: torch.dtype = getattr(torch, settings.dtype)
    check_base(settings, base, dtype.itemsize)
    trust = settings.trust_remote_code
    tokenizer = merged_tokenizer.pick(trained, folder, trust)
    rows = folders.embedding_rows(trained.tensors()) or folders.embedding_rows(base.weights)
    left_out = merged_tokenizer.tokens_to_leave_out(
        tokenizer, rows, trained, folder, settings.output_path, trust
    )
    merging = trained_merge.choose(trained, base, trust)
    calibrated = calibrate(settings, trained, folder, examples) if settings.wish else None
    devices.free_memory()
    strength = calibrated.chosen.strength if calibrated else 1.0
    with whole_folder(settings.output_path) as out:
        require_absent(settings.output_path, settings.overwrite)  # another merge may have ended meanwhile
        config_changes = merging.write(out, dtype, strength)
        hf_folder.write_config(folder, out, settings.dtype, config_changes)
        hf_folder.write_generation_config(folder, out, chat.stop_ids(tokenizer))
        merged_tokenizer.write(tokenizer, folder, out, left_out)
        if calibrated:
            data = {path.name: provenance.sha256(path) for path in settings.calibrate or ()}
            name = Path(settings.base_model).name
            write_text(out / "README.md", calibration_text.card(calibrated, name, data))
        source_files.require_unchanged(sources)
    if trained_quantised(trained):
        print(
            "The adapter was trained on a quantised base and is merged into the 16-bit one: replies can "
            "differ a little from those in training."
        )
    return folder, strength


def calibrate(
    settings: MergeSettings, trained: Adapter | TunedModel, base: Path, examples: Sequence[Example]
) -> calibration.Calibration:
    """Choose the adapter's strength, and print how; UserError if no strength within reach keeps the wish."""
    assert settings.wish and isinstance(trained, Adapter)
    dtype, device = devices.pick_dtype()[0], devices.pick_device()
    model, tokenizer = loading.load_with_adapter(trained, dtype, base, settings.trust_remote_code)
    calibrated = calibration.of_adapter(model.to(device), tokenizer, examples, settings.wish)
    if not calibrated.is_kept:
        raise UserError(
            f"{calibration_text.text(calibrated)}\nNothing is merged. Choose a rate from the table above, "
            "or train on more data."
        )
    print(calibration_text.text(calibrated), flush=True)
    return calibrated


def check_base(settings: MergeSettings, base: Base, bytes_each: int) -> None:
    """UserError if the base is itself quantised, or the disk too small for the merged weights."""
    if base.config.get("quantization_config"):
        raise UserError(
            f"the base {base.folder} is itself quantised; merging into it would lose quality. "
            "Give the 16-bit base."
        )
    size = bytes_each * sum(math.prod(entry.shape) for entry in base.weights.values())
    require_space(settings.output_path.resolve().parent, size, "the merged model")


def trained_quantised(trained: Adapter | TunedModel) -> bool:
    """True if the run.json beside the adapter says that its base was loaded in 4 or 8 bits."""
    manifest = run_folder.read_manifest(trained.folder.resolve().parent)
    return bool(manifest.get("identity", {}).get("quantisation"))


def verify(settings: MergeSettings, trained: Adapter | TunedModel, base: Path, strength: float) -> None:
    """Load what was written, let it answer, and compare it with what was trained; UserError if it differs."""
    print("Verifying merged model...", flush=True)
    dtype, device = devices.pick_dtype()[0], devices.pick_device()
    trust = settings.trust_remote_code
    # One after the other: two models at once may not fit.
    merged = loading.load_model(settings.output_path, dtype, trust).to(device)
    tokenizer = loading.load_tokenizer(settings.output_path, trust)
    answers = merge_check.answers(merged, tokenizer)
    del merged
    devices.free_memory()
    prompt, reply = equivalence.PROMPTS[0], answers.replies[0]
    if not reply:
        raise UserError(
            f"the merged model in {settings.output_path} replies nothing to {prompt!r}. "
            f"Evaluate the {trained.kind} itself to see whether training went wrong."
        )
    print(f"Test generation successful!\n  Prompt: {prompt}\n  Response: {reply}", flush=True)
    expected, base_logits = merge_check.of_trained(
        lambda: loading.load_trained(trained, dtype, base, trust).to(device),
        lambda: loading.load_model(base, dtype, trust).to(device),
        tokenizer,
        strength,
    )
    check = merge_check.check(answers, expected, base_logits)
    print(merge_check_text.text(check, trained.title, trained.cause))
    if check.is_beyond_rounding:
        raise UserError(
            f"the merged model in {settings.output_path} is not {trained.title}: rounding to "
            f"{settings.dtype} explains a small part of the {trained.cause}'s effect, not this much.\n"
            "Merge again with --overwrite, and with --dtype float32 to see whether rounding is to blame."
        )


if __name__ == "__main__":
    sys.exit(cli.run(main))
