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
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, devices, paths, source_files
from deepred_common.cli import UserError
from deepred_common.evaluation import equivalence
from deepred_common.examples import SIDES
from deepred_common.export import gguf_adapter, gguf_split, llama_cpp, lmstudio, ollama, quantise
from deepred_common.export.conversion import Conversion, ConvertSettings
from deepred_common.files import require_absent, require_space, require_writable_parent
from deepred_common.inference import llama_server
from deepred_common.json_lines import require_file
from deepred_common.models import architectures, folders, gguf_parts, loading, safetensors_files
from deepred_common.models.trained_weights import Adapter, require_adapter
from deepred_common.reporting import gguf_check_text

DEFAULT_TREE = paths.ROOT / "llama.cpp"
HALF_BYTES = 2  # a weight, in the f16 file that is quantised; other files take at most as much
FILE_BYTES = {"f32": 4}  # but these
SIZE_UNITS = {"M": 10**6, "G": 10**9}
ADAPTER_TYPE = "f16"  # of an adapter's file, by default
MODELFILE_HINT = "write one for the base, and add the line ADAPTER ./<the adapter's file>"


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
    add("--overwrite", action="store_true", help="replace --output_path, and what goes with it, if it exists")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    # ---- What can be checked before minutes pass ----
    args, given = cli.parse(build_parser(), argv)
    if args.lora and "quant_type" not in given:
        args.quant_type = ADAPTER_TYPE
    settings = ConvertSettings(**vars(args))
    conversion = check(settings)
    output = settings.output_path
    modelfile = ollama.modelfile(output, settings.model_path) if settings.modelfile else None
    cli.print_settings("Conversion settings", args, given)
    tree = get_tree(settings, "llama_cpp_path" in given)
    conversion.require_tools(tree)

    # ---- The file, and what goes with it ----
    files = conversion.write(tree)
    if modelfile is not None:
        print(f"Modelfile: {ollama.write_modelfile(output, modelfile)}")
    if settings.preset:
        print(f"Preset for LM Studio:\n{lmstudio.write_preset(output)}")
    if settings.verify:
        verify(settings, tree, conversion.adapter)

    # ---- What to do with it ----
    if settings.lora:
        print_next_of_adapter(settings)
        return cli.EXIT_OK
    print(lmstudio.hand_over(files, output, settings.copy_to_lmstudio))
    print(
        f"\nNext:\n  {paths.script('evaluate_temporal')} --use_lmstudio "
        f"--lmstudio_model {lmstudio.quoted(lmstudio.identifier(files[0]))}"
    )
    return cli.EXIT_OK


# ---- before the work ----------------------------------------------------------------------------------


def check(settings: ConvertSettings) -> Conversion:
    """Everything that can be checked before the work; returns what was read for it."""
    model, output, kind = settings.model_path, settings.output_path, settings.quant_type
    read = source_files.of_model(model) + (source_files.of_model(settings.lora) if settings.lora else [])
    sources = source_files.stamps(read)
    adapter = check_adapter(settings, settings.lora) if settings.lora else None
    role = "adapter's base" if adapter else "model"
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
    # What is printed at the end needs these: UserError now if they are wrong in the environment.
    if not adapter:
        paths.lmstudio_models_dir()
    if settings.copy_to_lmstudio:
        paths.lmstudio_url()
    if settings.imatrix:
        if kind in quantise.DIRECT_TYPES:
            raise UserError(f"--imatrix is for quantising; {kind} is not quantised.")
        for side in SIDES:
            require_file(paths.dataset_file(f"{side}_train"))
    gguf_split.complete(output)
    for file in outputs(settings):
        require_absent(file, settings.overwrite)
    require_writable_parent(output)
    weights = architectures.text_tensors(config, safetensors_files.read_weights(model))
    folders.require_rows_for_tokens(model, weights)
    count = sum(math.prod(entry.shape) for entry in weights.values())
    require_disk(settings, count)
    if folders.read_chat_template(model) is None and not adapter:
        cli.warn(f"{model} has no chat template; LM Studio will guess one, and replies will be worse.")
    quantise.warn_of_fallback(kind, weights, config)
    if settings.copy_to_lmstudio and not lmstudio.writable(output):
        folder = lmstudio.target(output).parent
        cli.warn(f"{folder} cannot be written; the commands to copy the file are printed at the end.")
    changes = gguf_adapter.read_changes(adapter, model, config, weights) if adapter else {}
    if adapter:
        gguf_adapter.warn_of_other_base(adapter, model)
    return Conversion(settings, sources, config, weights, adapter, changes)


def outputs(settings: ConvertSettings) -> list[Path]:
    """The model's files that are there, here and in LM Studio's folder, and what flags put beside them."""
    output = settings.output_path
    files = gguf_parts.written(output)
    if settings.modelfile:
        files.append(ollama.modelfile_path(output))
    if settings.preset:
        files.append(lmstudio.preset_file(output))
    if settings.copy_to_lmstudio and lmstudio.writable(output):
        files += gguf_parts.written(lmstudio.target(output))
    return files


def require_disk(settings: ConvertSettings, count: int) -> None:
    """UserError if the disk is too small for all files that are there at once. count: the model's weights."""
    kind, each = settings.quant_type, FILE_BYTES.get(settings.quant_type, HALF_BYTES)
    if settings.lora:
        if not settings.verify:
            return
        needed, purpose = HALF_BYTES, "the base's f16 file"
    elif kind in quantise.DIRECT_TYPES:
        needed, purpose = each, f"the {kind} file"
    else:
        needed, purpose = HALF_BYTES + each, f"the f16 file and the {kind} one"
    if settings.split_max_size:
        needed, purpose = needed + each, f"{purpose}, and its parts beside it"
    require_space(settings.output_path.resolve().parent, needed * count, purpose)


def check_adapter(settings: ConvertSettings, folder: Path) -> Adapter:
    """The adapter in `folder`; UserError if there is none, or if a flag makes no sense for one."""
    if folders.is_whole_model(folder):
        raise UserError(
            f"--lora {folder} is no adapter but a whole model. Convert it by itself: give it as --model_path."
        )
    if settings.quant_type not in quantise.DIRECT_TYPES:
        raise UserError(
            f"--quant_type {settings.quant_type} is for models: an adapter is not quantised. Choose one of "
            f"{', '.join(quantise.DIRECT_TYPES)}, or quantise its base."
        )
    for flag, reason in (
        ("copy_to_lmstudio", "LM Studio loads no adapters"),
        ("preset", "LM Studio loads no adapters"),
        ("modelfile", MODELFILE_HINT),
        ("split_max_size", "an adapter's file is small"),
    ):
        if getattr(settings, flag):
            raise UserError(f"--{flag} cannot be given with --lora: {reason}.")
    return require_adapter(folder)


def get_tree(settings: ConvertSettings, named_by_user: bool) -> Path:
    """llama.cpp's source tree: found, or fetched if the user agrees."""
    place = settings.llama_cpp_path
    tree = llama_cpp.find_tree(place, named_by_user)
    if tree:
        return tree
    print(f"llama.cpp not found at: {paths.shown(place)}", flush=True)
    # Beside the flag the variable does not count.
    own = "another --llama_cpp_path" if named_by_user else "--llama_cpp_path or LLAMA_CPP_DIR"
    if not settings.yes:
        if not sys.stdin.isatty():
            raise UserError(
                "llama.cpp is needed, and this is not an interactive terminal; pass --yes to fetch it, or "
                f"give {own}."
            )
        try:
            reply = input("Clone llama.cpp? [y/N]: ")
        except EOFError:  # Ctrl-D
            reply = "no"
            print(flush=True)
        if reply.strip().lower() not in ("y", "yes"):
            raise UserError(f"llama.cpp is needed. Answer y, or give {own}.")
    return llama_cpp.fetch_tree(place)


# ---- after it -----------------------------------------------------------------------------------------


def verify(settings: ConvertSettings, tree: Path, adapter: Adapter | None = None) -> None:
    """Start llama.cpp on the file and compare it with the model; UserError if its token ids differ.

    An adapter's file is put on its base in f16, which is made for it.
    """
    print("Verifying the GGUF file...", flush=True)
    loading.set_up_libraries()
    model_path, gguf = settings.model_path, settings.output_path
    questions = equivalence.questions()
    prompts = [question.prompt for question in questions]
    if adapter:
        tokenizer = loading.load_adapter_tokenizer(adapter, model_path)
        with quantise.half_precision(model_path, gguf, settings.keep_f16, tree, settings.log) as base:
            ids, replies = equivalence.served(base, tree, prompts, gguf)
    else:
        tokenizer = loading.load_tokenizer(model_path)
        ids, replies = equivalence.served(gguf_parts.first(gguf), tree, prompts)
    equivalence.require_same_tokens(tokenizer, prompts, ids)
    dtype = devices.pick_dtype()[0]
    if adapter:
        model = loading.load_trained(adapter, dtype, model_path)
    else:
        model = loading.load_model(model_path, dtype)
    model = model.to(devices.pick_device())
    compared = equivalence.compared(questions, equivalence.local_replies(model, tokenizer, prompts), replies)
    print(gguf_check_text.text(compared))
    is_quantised = settings.quant_type not in quantise.DIRECT_TYPES
    if warning := gguf_check_text.warning(compared, str(gguf), settings.quant_type, is_quantised):
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


if __name__ == "__main__":
    sys.exit(cli.run(main))
