#!/usr/bin/env python3
"""Convert a merged Hugging Face model to one GGUF file for LM Studio, quantised as asked, with llama.cpp's own tools.

Reads a whole model folder. Writes the .gguf file, compared with its source before it appears, and beside it llama.cpp's
chatter as .log; with --modelfile a Modelfile for Ollama as well.

    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged.gguf --verify
    python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged-q8.gguf --quant_type q8_0 --copy_to_lmstudio
"""

import argparse
import contextlib
import hashlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepred_common import chat, cli, paths, provenance
from deepred_common.cli import UserError
from deepred_common.examples import SIDES, balanced_sample, read_examples, require_file
from deepred_common.export import gguf_check, llama_cpp, lmstudio, quantise
from deepred_common.files import (
    read_json,
    require_absent,
    require_space,
    require_writable_parent,
    whole_file,
    write_text,
)
from deepred_common.inference import llama_server
from deepred_common.models import folders, loading, safetensors_files

DEFAULT_TREE = paths.ROOT / "llama.cpp"
IMATRIX_LINES = 400  # training lines, half of each side: some 20 000 tokens


def quant_type(text):
    if text.lower() not in quantise.QUANT_TYPES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(quantise.QUANT_TYPES)}")
    return text.lower()


def build_parser():
    parser = cli.Parser(description="Convert a merged model to GGUF format.")
    add = parser.add_argument
    add("--model_path", required=True, type=Path, help="folder of the merged Hugging Face model")
    add("--output_path", required=True, type=Path, help="the .gguf file to write")
    add(
        "--quant_type",
        type=quant_type,
        default="q4_k_m",
        metavar="TYPE",
        help=f"one of {', '.join(quantise.QUANT_TYPES)} (default: %(default)s)",
    )
    add(
        "--llama_cpp_path",
        type=Path,
        default=DEFAULT_TREE,
        help="llama.cpp's source tree (default: llama.cpp here, else $LLAMA_CPP_DIR)",
    )
    add("--yes", action="store_true", help="fetch llama.cpp without asking if it is not there")
    add(
        "--keep_f16",
        action="store_true",
        help="keep the f16 file beside the output, and use it if it is there: for several types in a row",
    )
    add(
        "--imatrix",
        action="store_true",
        help="quantise by an importance matrix, worked out by llama.cpp on training lines of both sides (built first: about 5 minutes)",
    )
    add(
        "--verify",
        action="store_true",
        help="start llama.cpp on the file and compare token ids and replies with the Hugging Face model",
    )
    add(
        "--copy_to_lmstudio",
        action="store_true",
        help="copy the file into LM Studio's models folder, if that can be written",
    )
    add("--modelfile", action="store_true", help="write a Modelfile for Ollama beside the file")
    add("--overwrite", action="store_true", help="replace --output_path if it exists")
    return parser


# ---- before minutes pass ------------------------------------------------------------------------------------------------


def check(args):
    """Everything that can be known before the work; returns the model's config and {tensor name: Entry}."""
    config = folders.require_model_folder(args.model_path)
    if config.get("quantization_config"):
        raise UserError(
            f"{args.model_path} holds quantised weights; llama.cpp converts 16- or 32-bit ones. Merge into the 16-bit base."
        )
    if args.output_path.suffix != ".gguf":
        raise UserError(f"--output_path must end in .gguf; {args.output_path} does not.")
    if args.output_path.is_dir():
        raise UserError(f"--output_path {args.output_path} is a folder.")
    if args.imatrix and args.quant_type in quantise.DIRECT_TYPES:
        raise UserError(f"--imatrix is for quantising; {args.quant_type} is not quantised.")
    if args.imatrix:
        for side in SIDES:
            require_file(paths.dataset_file(f"{side}_train"))
    require_absent(args.output_path, args.overwrite)
    require_writable_parent(args.output_path)
    weights = safetensors_files.read_weights(args.model_path)
    check_vocabulary(args.model_path, weights)
    elements = sum(_product(entry.shape) for entry in weights.values())
    require_space(
        args.output_path.resolve().parent,
        (2 if args.quant_type in quantise.DIRECT_TYPES else 4) * elements,
        "the f16 file and the quantised one",
    )
    if not (args.model_path / "chat_template.jinja").exists() and "chat_template" not in read_json(
        args.model_path / "tokenizer_config.json"
    ):
        cli.warn(
            f"{args.model_path} has no chat template; LM Studio will guess one, and replies will be worse."
        )
    if found := quantise.fallback(args.quant_type, weights):
        odd, matrices, bits, own = found
        cli.warn(
            f"{odd} of {matrices} matrices have rows that are not a multiple of {quantise.K_QUANT_BLOCK} (hidden size "
            f"{config.get('hidden_size')}): llama.cpp gives these {bits:.1f} bits per weight or more instead of {own:.1f}."
        )
    if args.copy_to_lmstudio and not lmstudio.writable(args.output_path):
        cli.warn(
            f"{lmstudio.target(args.output_path).parent} cannot be written; the commands that copy are printed at the end."
        )
    return config, weights


def _product(shape):
    product = 1
    for side in shape:
        product *= side
    return product


def check_vocabulary(folder, weights):
    """UserError if the tokenizer has tokens that the embedding has no row for."""
    vocabulary, rows = folders.read_vocabulary(folder), folders.embedding_rows(weights)
    if vocabulary and rows is not None and vocabulary.size > rows:
        raise UserError(
            f"the tokenizer in {folder} has {vocabulary.size} tokens, but the model's embedding only {rows} rows.\n"
            "Tokens were added and the model not resized: use the base's own tokenizer, or resize the base before training."
        )


def get_tree(args, asked_for):
    """llama.cpp's source tree: found, or fetched if the user agrees."""
    tree = llama_cpp.find_tree(args.llama_cpp_path, asked_for)
    if tree:
        return tree
    print(f"llama.cpp not found at: {paths.shown(args.llama_cpp_path)}", flush=True)
    if not args.yes:
        if not sys.stdin.isatty():
            raise UserError(
                "llama.cpp is needed and nobody is there to ask. Pass --yes to fetch it, or --llama_cpp_path / LLAMA_CPP_DIR."
            )
        if input("Clone llama.cpp? [y/N]: ").strip().lower() not in ("y", "yes"):
            raise UserError("llama.cpp is needed. Give --llama_cpp_path or set LLAMA_CPP_DIR, or answer y.")
    return llama_cpp.fetch_tree(args.llama_cpp_path)


def check_tools(args, tree, config):
    """UserError if llama.cpp does not know the model, or what will be needed of it can be neither found nor built."""
    known, own = llama_cpp.architectures(tree), config.get("architectures") or ["(none named in config.json)"]
    if known and own[0] not in known:
        raise UserError(
            f"llama.cpp in {paths.shown(tree)} does not know the architecture {own[0]} (it knows {len(known)}).\n"
            "A newer one may: git pull there, or --llama_cpp_path."
        )
    if args.quant_type in quantise.DIRECT_TYPES:
        return
    prebuilt = quantise.has_prebuilt_quantizer() and not args.imatrix
    if not (llama_cpp.find_tool(tree, "llama-quantize") or prebuilt) or (
        args.imatrix and not llama_cpp.find_tool(tree, "llama-imatrix")
    ):
        llama_cpp.require_build_tools()


# ---- the work -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def half_precision(args, tree, log):
    """The model as an f16 GGUF file: a temporary one, or with --keep_f16 one that stays and is found again by its source's hash."""
    if not args.keep_f16:
        beside = args.output_path.resolve().parent
        with tempfile.TemporaryDirectory(
            prefix=f".{args.output_path.name}.", suffix=".partial", dir=beside
        ) as folder:
            half = Path(folder) / "f16.gguf"
            quantise.convert(tree, args.model_path.resolve(), half, "f16", log)
            yield half
        return
    files = sorted(
        p
        for p in args.model_path.iterdir()
        if p.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt")
    )
    source = hashlib.sha256(
        "".join(f"{file.name} {provenance.sha256(file)}\n" for file in files).encode()
    ).hexdigest()[:12]
    half = args.output_path.resolve().parent / f"{args.model_path.resolve().name}-{source}.f16.gguf"
    if half.exists():
        cli.progress(f"{paths.shown(half)} is there and of this model; used again")
    else:
        with whole_file(half) as temporary:
            quantise.convert(tree, args.model_path.resolve(), temporary, "f16", log)
    yield half


def calibration_text(args):
    """Training lines of both sides as the model sees them, special tokens spelled out, as one text."""
    loading.quiet_libraries()
    tokenizer = loading.load_tokenizer(args.model_path)
    examples = [e for side in SIDES for e in read_examples(paths.dataset_file(f"{side}_train"), side)]
    rows = chat.training_rows(tokenizer, balanced_sample(examples, min(IMATRIX_LINES, len(examples))))
    return "".join(tokenizer.decode(row.input_ids) + "\n" for row in rows)


def convert(args, tree, config, weights, log):
    """Write the GGUF file, compared with its source before it appears."""
    with whole_file(args.output_path) as output:
        if args.quant_type in quantise.DIRECT_TYPES:
            quantise.convert(tree, args.model_path.resolve(), output, args.quant_type, log)
            compare(args, config, weights, gguf_check.GgufFile(output))
            return
        with half_precision(args, tree, log) as half, tempfile.TemporaryDirectory() as scratch:
            imatrix = None
            if args.imatrix:
                text, imatrix = Path(scratch) / "calibration.txt", Path(scratch) / "imatrix.gguf"
                text.write_text(calibration_text(args), encoding="utf-8")
                quantise.importance_matrix(tree, half, text, imatrix, log)
            quantise.quantize(tree, half, output, args.quant_type, log, imatrix)
            compare(args, config, weights, gguf_check.GgufFile(output), gguf_check.GgufFile(half))


def compare(args, config, weights, made, half=None):
    """Print that the GGUF file is what it was made from, and what quantising cost; UserError with what differs otherwise."""
    faults = list(made.faults(args.model_path, config, weights))
    if faults:
        more = f"\n  … and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(
            f"the GGUF file is not the model in {args.model_path}, and is not kept. Is llama.cpp too old for it?\n  "
            + "\n  ".join(faults[:5])
            + more
        )
    print(
        f"GGUF: {paths.shown(args.output_path)} ({made.size / 1e6:.0f} MB, {made.bits:.2f} bits per weight)\n"
        f"As in {paths.shown(args.model_path)}: {made.summary()}"
    )
    if half:
        print(
            "Error of quantising, relative, root mean square: "
            + ", ".join(
                f"{kind} {100 * error:.1f} % ({count} tensors)"
                for kind, (count, error) in sorted(made.errors(half).items())
            )
        )


def verify(args, tree):
    """Start llama.cpp on the file; UserError if its token ids are not ours, else print how far its replies are the model's."""
    from deepred_common import devices
    from deepred_common.inference import equivalence

    print("Verifying the GGUF file...", flush=True)
    loading.quiet_libraries()
    tokenizer = loading.load_tokenizer(args.model_path)
    ids, replies = equivalence.served(args.output_path, tree)
    own = [chat.prompt_ids(tokenizer, prompt) for prompt in equivalence.PROMPTS]
    for prompt, ours, theirs in zip(equivalence.PROMPTS, own, ids, strict=True):
        if ours != theirs:
            raise UserError(
                f"llama.cpp makes other tokens of {prompt!r} than the model was trained with: {theirs[:12]} …, not {ours[:12]} …\n"
                "Replies will be worse. Is the tokenizer the base's own, and llama.cpp new enough for it?"
            )
    model = loading.load_model(args.model_path, devices.pick_dtype()[0]).to(devices.pick_device())
    differ = equivalence.differing(equivalence.local_replies(model, tokenizer), replies)
    count = len(equivalence.PROMPTS)
    print(
        f"Token ids: the same for {count} of {count} prompts. Greedy replies: {count - len(differ)} of {count} word for word the same."
    )
    for prompt, model_reply, file_reply in differ:
        print(
            f"  {prompt}\n    model: {' '.join(model_reply.split())}\n    GGUF:  {' '.join(file_reply.split())}"
        )


def write_modelfile(args):
    """Write <output_path>.Modelfile."""
    from deepred_common.export import ollama

    loading.quiet_libraries()
    path = args.output_path.with_name(args.output_path.name + ".Modelfile")
    write_text(path, ollama.modelfile(args.output_path, loading.load_tokenizer(args.model_path)))
    print(f"Modelfile: {paths.shown(path)}  (ollama create {args.output_path.stem} -f {paths.shown(path)})")


def hand_over(args):
    """Copy the file to LM Studio if asked, and print the commands, with real paths, that copy and load it. No sudo is run."""
    to = lmstudio.target(args.output_path)
    name = llama_server.identifier(to)
    load = f'  {lmstudio.lms()} load "{name}"'
    if args.copy_to_lmstudio and lmstudio.writable(args.output_path):
        print(f"\nCopied to {lmstudio.copy(args.output_path)}. To load it:\n{load}")
        url = paths.lmstudio_url()
        listed = lmstudio.listed(url)
        if listed is not None:
            print(
                f"{url} lists {name}."
                if name in listed
                else f"{url} does not list {name} yet; it lists {', '.join(listed[:5]) or 'nothing'}. Load it as above, or start LM Studio anew."
            )
    else:
        root = Path("/root/.lmstudio/models") / lmstudio.PUBLISHER / lmstudio.FOLDER
        print(
            f"\nTo try it in LM Studio:\n  mkdir -p {to.parent}\n  cp {paths.shown(args.output_path)} {to.parent}/\n{load}"
        )
        if to.parent != root:
            print(
                f"Where LM Studio runs as root:\n  sudo mkdir -p {root}\n  sudo cp {paths.shown(args.output_path)} {root}/"
            )
    print(
        f'\nNext:\n  python scripts/evaluate_temporal.py --use_lmstudio --lmstudio_model "{name}" '
        "--test_file datasets/dev/dev_subset.jsonl"
    )


def main(argv=None):
    args, given = cli.parse(build_parser(), argv)
    config, weights = check(args)
    cli.print_settings("Conversion settings", args, given)
    tree = get_tree(args, "llama_cpp_path" in given)
    check_tools(args, tree, config)
    log = args.output_path.with_name(args.output_path.name + ".log")
    log.unlink(missing_ok=True)
    convert(args, tree, config, weights, log)
    if args.modelfile:
        write_modelfile(args)
    if args.verify:
        verify(args, tree)
    hand_over(args)
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
