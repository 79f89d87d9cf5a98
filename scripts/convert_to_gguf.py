#!/usr/bin/env python3
"""Convert a merged Hugging Face model to one GGUF file for LM Studio, quantised as asked, with llama.cpp's own tools.

Reads a whole model folder. Writes the .gguf file and, beside it, llama.cpp's chatter as .log.

    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged.gguf
    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged-q8.gguf --quant_type q8_0
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import cli, llama_cpp, models, paths
from deepred_common.cli import UserError

DEFAULT_TREE = paths.ROOT / "llama.cpp"
K_QUANT_BLOCK = 256  # weights in a K-quant's super-block: rows of another length cannot take it


def quant_type(text):
    if text.lower() not in llama_cpp.QUANT_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(llama_cpp.QUANT_TYPES)}")
    return text.lower()


def build_parser():
    parser = argparse.ArgumentParser(description="Convert a merged model to GGUF format.")
    add = parser.add_argument
    add("--model_path", required=True, type=Path, help="folder of the merged Hugging Face model")
    add("--output_path", required=True, type=Path, help="the .gguf file to write")
    add("--quant_type", type=quant_type, default="q4_k_m", metavar="TYPE",
        help=f"one of {', '.join(llama_cpp.QUANT_TYPES)} (default: %(default)s)")
    add("--llama_cpp_path", type=Path, default=DEFAULT_TREE,
        help="llama.cpp's source tree (default: llama.cpp here, else $LLAMA_CPP_DIR)")
    add("--yes", action="store_true", help="fetch llama.cpp without asking if it is not there")
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    return parser


def check(args):
    """Everything that can be known before the work; returns the model's config."""
    config = models.require_model_folder(args.model_path)
    if config.get("quantization_config"):
        raise UserError(f"{args.model_path} holds quantised weights; llama.cpp converts 16- or 32-bit ones. Merge into the 16-bit base.")
    if args.output_path.suffix != ".gguf":
        raise UserError(f"--output_path must end in .gguf; {args.output_path} does not.")
    if args.output_path.is_dir():
        raise UserError(f"--output_path {args.output_path} is a folder.")
    paths.require_absent(args.output_path, args.overwrite)
    paths.require_writable_parent(args.output_path)
    weights = sum(file.stat().st_size for file in args.model_path.glob("*.safetensors"))
    paths.require_space(args.output_path.resolve().parent, 2 * weights, "the f16 file and the quantised one")
    if not (args.model_path / "chat_template.jinja").exists() and "chat_template" not in models.read_json(
        args.model_path / "tokenizer_config.json"
    ):
        cli.warn(f"{args.model_path} has no chat template; LM Studio will guess one, and replies will be worse.")
    return config


def get_tree(args, asked_for):
    """llama.cpp's source tree: found, or fetched if the user agrees."""
    tree = llama_cpp.find_tree(args.llama_cpp_path, asked_for)
    if tree:
        return tree
    print(f"llama.cpp not found at: {paths.shown(args.llama_cpp_path)}", flush=True)
    if not args.yes:
        if not sys.stdin.isatty():
            raise UserError("llama.cpp is needed and nobody is there to ask. Pass --yes to fetch it, or --llama_cpp_path / LLAMA_CPP_DIR.")
        if input("Clone llama.cpp? [y/N]: ").strip().lower() not in ("y", "yes"):
            raise UserError("llama.cpp is needed. Give --llama_cpp_path or set LLAMA_CPP_DIR, or answer y.")
    return llama_cpp.fetch_tree(args.llama_cpp_path)


def convert(args, tree, log):
    """Write the GGUF: straight from the converter, or through a temporary f16 file that goes whatever happens."""
    if args.quant_type not in llama_cpp.DIRECT_TYPES and not (
        llama_cpp.find_tool(tree, "llama-quantize") or llama_cpp.has_prebuilt_quantizer()
    ):
        llama_cpp.require_build_tools()  # before the conversion's minutes, not after
    with paths.whole_file(args.output_path) as output:
        if args.quant_type in llama_cpp.DIRECT_TYPES:
            llama_cpp.convert(tree, args.model_path.resolve(), output, args.quant_type, log)
            return
        half = output.with_suffix(".f16")
        try:
            llama_cpp.convert(tree, args.model_path.resolve(), half, "f16", log)
            llama_cpp.quantize(tree, half, output, args.quant_type, log)
        finally:
            half.unlink(missing_ok=True)


def describe(args, config):
    """Open the GGUF and print what is in it; warn where it is not what a reader would assume."""
    from gguf import GGUFReader

    reader = GGUFReader(args.output_path)
    elements = sum(int(tensor.n_elements) for tensor in reader.tensors)
    size = args.output_path.stat().st_size
    print(f"GGUF: {paths.shown(args.output_path)} ({size / 1e6:.0f} MB, {len(reader.tensors)} tensors, "
          f"{8 * size / elements:.2f} bits per weight)")
    if reader.get_field("tokenizer.chat_template") is None:
        cli.warn("the GGUF carries no chat template.")
    hidden = config.get("hidden_size")
    if "_k" in args.quant_type and hidden and hidden % K_QUANT_BLOCK:
        other = sum(len(tensor.shape) > 1 and "_K" not in tensor.tensor_type.name for tensor in reader.tensors)
        cli.warn(f"the hidden size {hidden} is not a multiple of {K_QUANT_BLOCK}: {other} tensors fell back to other types, "
                 f"hence {8 * size / elements:.2f} bits per weight.")


def print_handoff(args):
    """The commands that bring the file into LM Studio, with real paths; nothing is run."""
    folder = paths.lmstudio_models_dir() / "local" / "temporal"
    print(f"\nTo try it in LM Studio:\n  mkdir -p {folder}\n  cp {paths.shown(args.output_path)} {folder}/\n"
          f"  lms load \"temporal/{args.output_path.stem}\"\n"
          "(Where LM Studio runs as root: sudo, and /root/.lmstudio/models/local/temporal.)")
    print(f"\nNext:\n  python scripts/evaluate_temporal.py --use_lmstudio --lmstudio_model \"temporal/{args.output_path.stem}\" "
          "--test_file datasets/dev/dev_subset.jsonl")


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    config = check(args)
    cli.print_settings("Conversion settings", args, given)
    tree = get_tree(args, "llama_cpp_path" in given)
    log = args.output_path.with_name(args.output_path.name + ".log")
    log.unlink(missing_ok=True)
    convert(args, tree, log)
    describe(args, config)
    print_handoff(args)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
