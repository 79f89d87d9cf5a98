"""A GGUF file compared with the model folder it was made from, and what quantising cost.

Reads headers, metadata and a sample of rows; neither torch nor the model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.export.gguf_file import GgufFile
from deepred_common.models import architectures, folders
from deepred_common.models.safetensors_files import Entry

SAMPLED_ROWS = 16  # of each tensor, to measure the error of quantising on
SAMPLED_TOKENS = 200  # vocabulary entries compared by text, spread evenly
# Metadata holds 32-bit floats: half a unit in their last place is 6e-8 of the value.
FLOAT_TOLERANCE = 1e-6
# llama.cpp's default, where the file names no rotary base (its converter writes none for Gemma 2).
DEFAULT_ROTARY_BASE = 10000.0
# Where the file does not say whether texts begin with BOS, llama.cpp decides by the kind of vocabulary.
BOS_BY_DEFAULT = {"tokenizer.ggml.model": ("llama",), "tokenizer.ggml.pre": ("llama-bpe", "tekken")}
# Tensors that the converter adds by itself: rotary factors, worked out from the config.
ADDED_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclass
class Comparison:
    """What of a file was compared with its source, in words, and what differs, as texts.

    warnings: what differs only in how a server uses the file.
    """

    compared: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def require_same(
    file: GgufFile, folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Entry]
) -> str:
    """What is printed of a file that was compared with its source: its size, and what is the same.

    Warns of what differs only in how a server uses the file. UserError with whatever else differs.
    """
    comparison = compare(file, folder, config, weights)
    if comparison.faults:
        raise UserError(
            f"the GGUF file differs from the model in {folder}, and is not kept. "
            f"Is llama.cpp too old for it?\n{cli.listed(comparison.faults)}"
        )
    for warning in comparison.warnings:
        cli.warn(warning)
    return (
        f"({file.size / 1e6:.0f} MB, {file.bits:.2f} bits per weight)\n"
        f"Same as in {paths.shown(folder)}: {', '.join(comparison.compared)}"
    )


def compare(
    file: GgufFile, folder: str | Path, config: Mapping[str, Any], weights: Mapping[str, Entry]
) -> Comparison:
    """Compare a GGUF file with the model folder it was made from.

    config: the folder's config.json; weights: {tensor name: Entry}. What the folder does not have (a chat
    template, say) is not compared and not in `compared`.
    """
    comparison = Comparison()
    _compare_tensors(comparison, file, config, weights)
    _compare_vocabulary(comparison, file, folder, weights)
    _compare_settings(comparison, file, folder, config)
    return comparison


def _compare_tensors(
    comparison: Comparison, file: GgufFile, config: Mapping[str, Any], weights: Mapping[str, Entry]
) -> None:
    """Names and shapes, as far as the converter keeps a tensor as it is."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next((key for key, name in MODEL_ARCH_NAMES.items() if name == file.architecture), None)
    if architecture is None:
        return  # the tree's converter is newer than the gguf package and knows more models
    names = get_tensor_name_map(architecture, file.value("{arch}.block_count"))
    tied = bool(config.get("tie_word_embeddings")) and "output.weight" not in file.tensors
    expected: dict[str, tuple[int, ...]] = {}
    skipped = 0
    for source_name, entry in weights.items():
        name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if name is None:
            continue  # the converter splits or joins it, or it would have failed
        if tied and name == "output.weight":
            skipped += 1
        else:
            expected[name] = entry.shape
    for name, shape in expected.items():
        if name not in file.tensors:
            comparison.faults.append(f"the tensor {name} is missing")
        elif file.tensors[name].shape != shape:
            comparison.faults.append(
                f"the tensor {name} is {list(file.tensors[name].shape)}, in the source {list(shape)}"
            )
    if len(expected) + skipped == len(weights):
        # Only where every source tensor has one of its own in the file can an additional one be detected.
        comparison.faults += [
            f"the tensor {name} is not in the source"
            for name in file.tensors
            if name not in expected and name not in ADDED_TENSORS
        ]
    comparison.compared.append(f"{len(expected)} tensors")


def _compare_vocabulary(
    comparison: Comparison, file: GgufFile, folder: str | Path, weights: Mapping[str, Entry]
) -> None:
    tokens = file.value("tokenizer.ggml.tokens") or []
    rows = folders.embedding_rows(weights)
    if rows is not None:
        if len(tokens) != rows:
            comparison.faults.append(f"it has {len(tokens)} tokens, the model's embedding {rows} rows")
        comparison.compared.append(f"{rows} tokens")
    vocabulary = folders.read_vocabulary(folder)
    if vocabulary is None:
        return
    # Added tokens may be stored as the tokenizer normalises them.
    numbered = [(number, text) for text, number in vocabulary.ids.items() if text not in vocabulary.added]
    numbered.sort()
    for number, text in numbered[:: max(1, len(numbered) // SAMPLED_TOKENS)]:
        stored = tokens[number] if number < len(tokens) else None
        if stored != text:
            comparison.faults.append(f"token {number} is {stored!r}, in the source {text!r}")
    special = {kind: text for kind, text in vocabulary.special.items() if text is not None}
    for kind, text in special.items():
        stored = file.value(f"tokenizer.ggml.{'padding' if kind == 'pad' else kind}_token_id")
        if stored != vocabulary.ids.get(text):
            comparison.faults.append(
                f"the {kind} token is {stored}, in the source {vocabulary.ids.get(text)} ({text})"
            )
    if special:
        comparison.compared.append("/".join(special))


def _compare_settings(
    comparison: Comparison, file: GgufFile, folder: str | Path, config: Mapping[str, Any]
) -> None:
    config = architectures.text_part(config)
    rotary_base = (config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta"))
    stored_base = file.value("{arch}.rope.freq_base")
    for name, stored, expected in (
        ("rotary base", DEFAULT_ROTARY_BASE if stored_base is None else stored_base, rotary_base),
        ("context length", file.value("{arch}.context_length"), config.get("max_position_embeddings")),
    ):
        if expected is None:
            continue
        if stored is None or abs(stored - expected) > FLOAT_TOLERANCE * abs(expected):
            comparison.faults.append(f"the {name} is {stored}, in the source {expected}")
        comparison.compared.append(f"{name} {expected:.0f}")
    template = folders.read_chat_template(folder)
    if template is not None:
        _compare_ends(comparison, file, folder, template)
        if file.value("tokenizer.chat_template") != template:
            comparison.faults.append("the chat template is not the source's")
        comparison.compared.append("chat template")


def _compare_ends(comparison: Comparison, file: GgufFile, folder: str | Path, template: str) -> None:
    """BOS before a chat and EOS after a prompt, which a server adds where the file says so."""
    if file.value("tokenizer.ggml.add_eos_token"):
        comparison.warnings.append(
            "llama.cpp's server puts EOS after each prompt. Save the tokenizer with add_eos_token off, and "
            "convert again."
        )
    vocabulary = folders.read_vocabulary(folder)
    bos = vocabulary and vocabulary.special["bos"]
    if not vocabulary or not bos or "bos_token" in template or bos in template:
        return  # a template's own BOS is not doubled
    from tokenizers import Tokenizer

    first = Tokenizer.from_file(str(Path(folder) / "tokenizer.json")).encode("a").ids[0]
    expected = first == vocabulary.ids.get(bos)
    stored = file.value("tokenizer.ggml.add_bos_token")
    if stored is None:
        stored = any(file.value(key) in values for key, values in BOS_BY_DEFAULT.items())
    if bool(stored) != expected:
        server, tokenizer = ("puts", "does not") if stored else ("does not put", "does")
        comparison.warnings.append(
            f"llama.cpp's server {server} BOS before a chat, the model's tokenizer {tokenizer}.\nWrite "
            f'"add_bos_token": {str(expected).lower()} into {folder}/tokenizer_config.json and convert again.'
        )


def quantisation_errors(file: GgufFile, half: GgufFile) -> str:
    """The error of the quantised tensors of `file`, type by type, as printed.

    The root mean square of the difference to `half` (the same model in 16 bits), relative to that of the
    weights themselves, over a sample of rows.
    """
    import numpy as np

    sums: dict[str, tuple[int, float, float]] = {}
    for name, tensor in file.tensors.items():
        if tensor.type == half.tensors[name].type:
            continue
        quantised = file.sample_rows(name, SAMPLED_ROWS)
        original = half.sample_rows(name, SAMPLED_ROWS)
        count, difference, whole = sums.get(tensor.type.name, (0, 0.0, 0.0))
        sums[tensor.type.name] = (
            count + 1,
            difference + float(np.square(quantised - original).sum()),
            whole + float(np.square(original).sum()),
        )
    shown = [
        f"{kind} {100 * ((difference / whole) ** 0.5 if whole else 0.0):.1f} % ({count} tensors)"
        for kind, (count, difference, whole) in sorted(sums.items())
    ]
    return f"Error of quantising, relative, root mean square: {', '.join(shown)}"
