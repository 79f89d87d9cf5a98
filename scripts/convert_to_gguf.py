#!/usr/bin/env python3
"""Convert a merged Hugging Face model to one GGUF file for LM Studio, quantised, with llama.cpp's own tools.

Reads a whole model folder. Writes the .gguf file, compared with its source before it appears, and beside it
the output of llama.cpp's tools as .log; with --modelfile a Modelfile for Ollama as well, with --preset
one for LM Studio. With --lora the file holds an adapter alone, for a GGUF file of its base.

    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged.gguf --verify
    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged-q8.gguf \
        --quant_type q8_0 --copy_to_lmstudio
    python scripts/convert_to_gguf.py --lora RUN/final --model_path BASE --output_path output/adapter.gguf
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, devices, paths, source_files
from deepred_common.cli import UserError
from deepred_common.evaluation import equivalence
from deepred_common.examples import SIDES
from deepred_common.export import (
    gguf_adapter,
    gguf_check,
    gguf_split,
    llama_cpp,
    lmstudio,
    ollama,
    quantise,
)
from deepred_common.export.gguf_file import GgufFile
from deepred_common.files import (
    require_absent,
    require_space,
    require_writable_parent,
    whole_file,
    write_text,
)
from deepred_common.inference import llama_server
from deepred_common.json_lines import require_file
from deepred_common.models import architectures, folders, gguf_parts, loading, safetensors_files
from deepred_common.models.safetensors_files import Entry
from deepred_common.models.trained_weights import Adapter, require_adapter
from deepred_common.reporting import gguf_check_text

DEFAULT_TREE = paths.ROOT / "llama.cpp"
# Bytes a weight of free disk space: the 16-bit file; and, quantised, at most as much again.
DIRECT_BYTES, QUANTISED_BYTES = 2, 4
SIZE_UNITS = {"M": 10**6, "G": 10**9}
ADAPTER_TYPE = "f16"  # of an adapter's file, by default
MODELFILE_HINT = "write one for the base, and add the line ADAPTER ./<the adapter's file>"


@dataclass(frozen=True)
class ConvertSettings:
    """The command line: see build_parser's help texts."""

    model_path: Path
    output_path: Path
    lora: Path | None
    quant_type: str
    llama_cpp_path: Path
    yes: bool
    keep_f16: bool
    imatrix: bool
    split_max_size: int | None
    verify: bool
    copy_to_lmstudio: bool
    modelfile: bool
    preset: bool
    overwrite: bool


def quant_type(text: str) -> str:
    """argparse type: one of quantise.QUANT_TYPES, in small letters."""
    if text.lower() not in quantise.QUANT_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(quantise.QUANT_TYPES)}")
    return text.lower()


def size(text: str) -> int:
    """argparse type: "4G" or "500M" as a number of bytes, counted in thousands as llama-gguf-split does."""
    match = re.fullmatch(r"(\d+)([MG])", text.upper())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4G or 500M")
    return int(match[1]) * SIZE_UNITS[match[2]]


def build_parser() -> cli.Parser:
    parser = cli.Parser(description="Convert a merged model to GGUF format.")
    add = parser.add_argument
    add("--model_path", required=True, type=cli.path, help="folder of the merged Hugging Face model")
    add("--output_path", required=True, type=cli.path, help="the .gguf file to write")
    add(
        "--lora",
        type=cli.path,
        metavar="ADAPTER",
        help="convert this adapter (the final/ folder of a run) by itself; --model_path is then its base",
    )
    add(
        "--quant_type",
        type=quant_type,
        default="q4_k_m",
        metavar="TYPE",
        help=f"one of {', '.join(quantise.QUANT_TYPES)} (default: %(default)s; of an adapter {ADAPTER_TYPE})",
    )
    add(
        "--llama_cpp_path",
        type=cli.path,
        default=DEFAULT_TREE,
        help="llama.cpp's source tree (default: llama.cpp here, else $LLAMA_CPP_DIR)",
    )
    add("--yes", action="store_true", help="fetch llama.cpp without asking if it is missing")
    add(
        "--keep_f16",
        action="store_true",
        help="keep the f16 file beside the output, and use it again if it exists: for several types in a row",
    )
    add(
        "--imatrix",
        action="store_true",
        help="quantise by an importance matrix, which llama.cpp computes on training examples of both sides "
        "(its tool is built first: about 5 minutes)",
    )
    add(
        "--split_max_size",
        type=size,
        metavar="SIZE",
        help="split a larger file into parts of at most SIZE (4G, 500M), named …-00001-of-0000N.gguf",
    )
    add(
        "--verify",
        action="store_true",
        help="start llama.cpp on the file and compare token ids and verdicts with the Hugging Face model",
    )
    add(
        "--copy_to_lmstudio",
        action="store_true",
        help="copy the file into LM Studio's models folder, if that can be written",
    )
    add("--modelfile", action="store_true", help="write a Modelfile for Ollama beside the file")
    add("--preset", action="store_true", help="write a preset for LM Studio beside the file: temperature 0")
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args, given = cli.parse(build_parser(), argv)
    if args.lora and "quant_type" not in given:
        args.quant_type = ADAPTER_TYPE
    settings = ConvertSettings(**vars(args))
    read = [*source_files.of_model(settings.model_path)]
    read += source_files.of_model(settings.lora) if settings.lora else []
    sources = source_files.stamps(read)
    adapter = check_adapter(settings) if settings.lora else None
    config, weights = check(settings)
    if adapter:
        changes = gguf_adapter.read_changes(adapter, settings.model_path, config, weights)
        gguf_adapter.warn_of_other_base(adapter, settings.model_path)
    modelfile = modelfile_text(settings) if settings.modelfile else None
    cli.print_settings("Conversion settings", args, given)
    tree = get_tree(settings, "llama_cpp_path" in given)
    llama_cpp.require_architecture(tree, config)
    log = log_file(settings)
    if adapter:
        gguf_adapter.require_converter(tree)
        log.unlink(missing_ok=True)
        with whole_file(settings.output_path) as output:
            require_absent(settings.output_path, settings.overwrite)  # another run may have ended meanwhile
            gguf_adapter.convert(tree, adapter.folder, settings.model_path, output, settings.quant_type, log)
            file = gguf_adapter.require_same(output, adapter, changes, config)
            source_files.require_unchanged(sources)
        print(f"GGUF adapter: {paths.shown(settings.output_path)} {gguf_adapter.text(file, adapter)}")
        if settings.verify:
            verify(settings, tree, adapter)
        print_next_of_adapter(settings)
        return cli.EXIT_OK
    quantise.require_tools(tree, settings.quant_type, settings.imatrix)
    log.unlink(missing_ok=True)
    files = convert(settings, tree, config, weights, log, sources)
    if modelfile is not None:
        write_modelfile(settings, modelfile)
    if settings.preset:
        print(f"Preset for LM Studio:\n{lmstudio.write_preset(settings.output_path)}")
    if settings.verify:
        verify(settings, tree)
    print(lmstudio.hand_over(files, settings.copy_to_lmstudio))
    print(
        f"\nNext:\n  {paths.script('evaluate_temporal')} --use_lmstudio "
        f"--lmstudio_model {lmstudio.quoted(lmstudio.identifier(files[0]))} "
        f"--test_file {paths.quoted(paths.dataset_file('dev_path'))}"
    )
    return cli.EXIT_OK


# ---- checks, before minutes pass --------------------------------------------------------------------


def check_adapter(settings: ConvertSettings) -> Adapter:
    """The adapter to convert; UserError if it is none, or if a flag makes no sense for it."""
    folder = settings.lora
    assert folder
    if folders.is_whole_model(folder):
        raise UserError(
            f"--lora {folder} is no adapter but a whole model. Convert it by itself: give it as --model_path."
        )
    if settings.quant_type not in quantise.DIRECT_TYPES:
        raise UserError(
            f"--quant_type {settings.quant_type} is for models: an adapter is not quantised. Choose one of "
            f"{', '.join(quantise.DIRECT_TYPES)}, or quantise its base."
        )
    for flag, program in (
        ("copy_to_lmstudio", "LM Studio loads no adapters"),
        ("preset", "LM Studio loads no adapters"),
        ("modelfile", MODELFILE_HINT),
        ("split_max_size", "an adapter's file is small"),
    ):
        if getattr(settings, flag):
            raise UserError(f"--{flag} cannot be given with --lora: {program}.")
    return require_adapter(folder)


def check(settings: ConvertSettings) -> tuple[dict[str, Any], dict[str, Entry]]:
    """Everything that can be checked before the work; returns the model's config and {tensor name: Entry}."""
    model, output, kind = settings.model_path, settings.output_path, settings.quant_type
    role = "adapter's base" if settings.lora else "model"
    config = folders.require_model_folder(model, role, transformers_loads=settings.verify)
    if config.get("quantization_config"):
        raise UserError(
            f"{model} holds quantised weights; llama.cpp converts 16- or 32-bit ones. Merge into the 16-bit "
            "base."
        )
    if output.suffix != ".gguf":
        raise UserError(f"--output_path must end in .gguf; {output} does not.")
    if output.is_dir():
        raise UserError(f"--output_path {output} is a folder.")
    if settings.split_max_size and settings.modelfile:
        raise UserError("--modelfile needs a whole file: Ollama reads no parts. Leave --split_max_size out.")
    if settings.imatrix:
        if kind in quantise.DIRECT_TYPES:
            raise UserError(f"--imatrix is for quantising; {kind} is not quantised.")
        for side in SIDES:
            require_file(paths.dataset_file(f"{side}_train"))
    for file in gguf_parts.written(output):
        require_absent(file, settings.overwrite)
    require_writable_parent(output)
    weights = architectures.text_tensors(config, safetensors_files.read_weights(model))
    folders.require_rows_for_tokens(model, weights)
    count = sum(math.prod(entry.shape) for entry in weights.values())
    bytes_each = DIRECT_BYTES if kind in quantise.DIRECT_TYPES else QUANTISED_BYTES
    if settings.split_max_size:
        bytes_each += DIRECT_BYTES  # the parts are written beside the whole file
    if settings.verify or not settings.lora:
        require_space(output.resolve().parent, bytes_each * count, "the f16 file and the quantised one")
    if folders.read_chat_template(model) is None and not settings.lora:
        cli.warn(f"{model} has no chat template; LM Studio will guess one, and replies will be worse.")
    warn_of_fallback(kind, weights, config)
    if settings.copy_to_lmstudio and not lmstudio.writable(output):
        folder = lmstudio.target(output).parent
        cli.warn(f"{folder} cannot be written; the commands to copy the file are printed at the end.")
    return config, weights


def warn_of_fallback(kind: str, weights: Mapping[str, Entry], config: Mapping[str, Any]) -> None:
    """Warn if some matrices cannot take the type `kind`, and say what they get instead."""
    fallback = quantise.fallback(kind, weights)
    if fallback:
        hidden = architectures.text_part(config).get("hidden_size")
        cli.warn(
            f"{fallback.count} of {fallback.total} matrices have rows that are not a multiple of "
            f"{quantise.K_QUANT_BLOCK} (hidden size {hidden}): llama.cpp gives these "
            f"{fallback.bits:.1f} bits per weight or more instead of {fallback.own_bits:.1f}."
        )


def get_tree(settings: ConvertSettings, named_by_user: bool) -> Path:
    """llama.cpp's source tree: found, or fetched if the user agrees."""
    place = settings.llama_cpp_path
    tree = llama_cpp.find_tree(place, named_by_user)
    if tree:
        return tree
    print(f"llama.cpp not found at: {paths.shown(place)}", flush=True)
    if not settings.yes:
        if not sys.stdin.isatty():
            raise UserError(
                "llama.cpp is needed, and this is not an interactive terminal; pass --yes to fetch it, or "
                "give --llama_cpp_path or LLAMA_CPP_DIR."
            )
        if input("Clone llama.cpp? [y/N]: ").strip().lower() not in ("y", "yes"):
            raise UserError("llama.cpp is needed. Give --llama_cpp_path, set LLAMA_CPP_DIR, or answer y.")
    return llama_cpp.fetch_tree(place)


def log_file(settings: ConvertSettings) -> Path:
    """Where the output of llama.cpp's tools goes."""
    return settings.output_path.with_name(settings.output_path.name + ".log")


# ---- the work ----------------------------------------------------------------------------------------


def convert(
    settings: ConvertSettings,
    tree: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Entry],
    log: Path,
    sources: Mapping[Path, source_files.Stamp],
) -> list[Path]:
    """Write the GGUF file, compared with its source before it appears; return its parts, or itself.

    sources: the model's files, as they were when they were first read.
    """
    with gguf_split.whole_or_parts(settings.output_path, settings.split_max_size) as output:
        # Another run may have ended meanwhile.
        require_absent(gguf_parts.first(settings.output_path), settings.overwrite)
        if settings.quant_type in quantise.DIRECT_TYPES:
            quantise.convert(tree, settings.model_path.resolve(), output, settings.quant_type, log)
            compare(settings, config, weights, GgufFile(output))
        else:
            convert_quantised(settings, tree, config, weights, log, output)
        source_files.require_unchanged(sources)
    files = gguf_parts.written(settings.output_path)
    if len(files) > 1:
        print(f"Split into {len(files)} parts; the first loads all: {paths.shown(files[0])}")
    return files


def convert_quantised(
    settings: ConvertSettings,
    tree: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Entry],
    log: Path,
    output: Path,
) -> None:
    """Write a quantised GGUF file to `output`, compared with its source; print the error of quantising."""
    model, kind = settings.model_path, settings.quant_type
    with (
        quantise.half_precision(model, settings.output_path, settings.keep_f16, tree, log) as half,
        tempfile.TemporaryDirectory() as scratch,
    ):
        imatrix = None
        if settings.imatrix:
            text, imatrix = Path(scratch) / "calibration.txt", Path(scratch) / "imatrix.gguf"
            text.write_text(quantise.calibration_text(model), encoding="utf-8")
            quantise.importance_matrix(tree, half, text, imatrix, log)
        quantise.quantize(tree, half, output, kind, log, imatrix)
        file = GgufFile(output)
        compare(settings, config, weights, file)
        errors = gguf_check.quantisation_errors(file, GgufFile(half))
    shown = [
        f"{kind} {100 * error:.1f} % ({count} tensors)" for kind, (count, error) in sorted(errors.items())
    ]
    print(f"Error of quantising, relative, root mean square: {', '.join(shown)}")


def compare(
    settings: ConvertSettings, config: Mapping[str, Any], weights: Mapping[str, Entry], file: GgufFile
) -> None:
    """Print what of the file was compared with its source; UserError with what differs."""
    comparison = gguf_check.compare(file, settings.model_path, config, weights)
    if comparison.faults:
        raise UserError(
            f"the GGUF file differs from the model in {settings.model_path}, and is not kept. "
            f"Is llama.cpp too old for it?\n{cli.listed(comparison.faults)}"
        )
    for warning in comparison.warnings:
        cli.warn(warning)
    print(
        f"GGUF: {paths.shown(settings.output_path)} "
        f"({file.size / 1e6:.0f} MB, {file.bits:.2f} bits per weight)\n"
        f"Same as in {paths.shown(settings.model_path)}: {', '.join(comparison.compared)}"
    )


def verify(settings: ConvertSettings, tree: Path, adapter: Adapter | None = None) -> None:
    """Start llama.cpp on the file and compare it with the model; UserError if its token ids differ.

    An adapter's file is put on its base in f16, which is made for it.
    """
    print("Verifying the GGUF file...", flush=True)
    loading.quiet_libraries()
    model_path, gguf = settings.model_path, settings.output_path
    questions = equivalence.questions()
    prompts = [question.prompt for question in questions]
    if adapter:
        tokenizer = loading.load_adapter_tokenizer(adapter, model_path)
        log = log_file(settings)
        with quantise.half_precision(model_path, gguf, settings.keep_f16, tree, log) as base:
            ids, replies = equivalence.served(base, tree, prompts, gguf)
    else:
        tokenizer = loading.load_tokenizer(model_path)
        ids, replies = equivalence.served(gguf_parts.first(gguf), tree, prompts)
    equivalence.require_same_tokens(tokenizer, prompts, ids)
    dtype = devices.pick_dtype()[0]
    if adapter:
        model, _ = loading.load_with_adapter(adapter, dtype, model_path)
    else:
        model = loading.load_model(model_path, dtype)
    model = model.to(devices.pick_device())
    compared = equivalence.compared(questions, equivalence.local_replies(model, tokenizer, prompts), replies)
    print(gguf_check_text.text(compared))
    kind = settings.quant_type
    is_quantised = kind not in quantise.DIRECT_TYPES
    if warning := gguf_check_text.warning(compared, str(gguf), kind, is_quantised):
        cli.warn(warning)


def print_next_of_adapter(settings: ConvertSettings) -> None:
    """The commands that convert the base, once for all its adapters, and serve it with this one."""
    base = settings.output_path.with_name(f"{settings.model_path.resolve().name}.gguf")
    # The server is started from another folder than the working directory, perhaps.
    files = [shlex.quote(str(file.resolve())) for file in (base, settings.output_path)]
    print(
        f"\nNext (the first once for all adapters of this base):\n"
        f"  {paths.script('convert_to_gguf')} --model_path {paths.quoted(settings.model_path)} "
        f"--output_path {paths.quoted(base)} --quant_type q8_0\n"
        f"  {paths.module(f'{llama_server.MODULE} {files[0]} --lora {files[1]}')}"
    )


def modelfile_text(settings: ConvertSettings) -> str:
    """The Modelfile for Ollama. UserError if it cannot render chats as the model's chat template does."""
    loading.quiet_libraries()
    tokenizer = loading.load_tokenizer(settings.model_path)
    if "strftime_now" in str(tokenizer.chat_template):
        cli.warn("the chat template writes the day's date into prompts; the Modelfile keeps today's.")
    return ollama.modelfile(settings.output_path, tokenizer)


def write_modelfile(settings: ConvertSettings, text: str) -> None:
    """Write <output_path>.Modelfile."""
    gguf = settings.output_path
    path = gguf.with_name(gguf.name + ".Modelfile")
    write_text(path, text)
    print(f"Modelfile: {paths.shown(path)}  ({ollama.create_command(gguf, path)})")


if __name__ == "__main__":
    sys.exit(cli.run(main))
