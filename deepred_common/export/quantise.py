"""Converting and quantising with llama.cpp: the types, the commands, the f16 file between the two steps.

A new quantisation type is a line in QUANT_TYPES, and in FALLBACK_TYPES if it is a K-quant.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepred_common import cli, paths, provenance, source_files, training_rows
from deepred_common.examples import SIDES, balanced_sample, read_examples
from deepred_common.export import converter_input, llama_cpp, tool_runner
from deepred_common.files import partial_folder, whole_file
from deepred_common.models import architectures, loading
from deepred_common.models.safetensors_files import Entry

DIRECT_TYPES = ("f32", "f16", "bf16")  # the converter writes these itself, without the quantiser
QUANT_TYPES = (
    *DIRECT_TYPES,
    *("q8_0", "q6_k"),
    *("q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s"),
    *("q3_k_l", "q3_k_m", "q3_k_s", "q2_k"),
    *("q5_0", "q5_1", "q4_0", "q4_1"),
    *("iq4_nl", "iq4_xs"),
)
# A K-quant packs 256 weights; rows of another length take the type beside it (llama.cpp's llama-quant.cpp,
# tensor_type_fallback).
K_QUANT_BLOCK = 256
FALLBACK_TYPES = {
    "Q2_K": "IQ4_NL",
    "Q3_K": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
}
IMATRIX_EXAMPLES = 400  # training examples, half of each side: some 20 000 tokens
IMATRIX_CONTEXT = 512  # tokens a chunk, llama-imatrix's own default
_PREBUILT_QUANTIZE = (
    "import sys\n"
    "from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize\n"
    "parameters = LlamaModelQuantizeParams()\n"
    "parameters.ftype = int(sys.argv[3])\n"
    "model_quantize(sys.argv[1], sys.argv[2], parameters)\n"
)


@dataclass(frozen=True)
class Fallback:
    """Matrices that cannot take a type because of the length of their rows.

    count: of `total` matrices. bits: per weight, of the type they get instead; own_bits: of the type itself.
    """

    count: int
    total: int
    bits: float
    own_bits: float


def fallback(quant_type: str, weights: Mapping[str, Entry]) -> Fallback | None:
    """The matrices among {tensor name: Entry} that cannot take `quant_type`; None if all can.

    Judged by the mixture's main type: for q4_k_m, Q4_K.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    main = quant_type.upper().removesuffix("_M").removesuffix("_S").removesuffix("_L")
    if main not in FALLBACK_TYPES:
        return None
    matrices = [entry.shape for entry in weights.values() if len(entry.shape) > 1]
    count = sum(shape[-1] % K_QUANT_BLOCK != 0 for shape in matrices)

    def bits(name: str) -> float:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        return 8 * size / block

    return Fallback(count, len(matrices), bits(FALLBACK_TYPES[main]), bits(main)) if count else None


def warn_of_fallback(quant_type: str, weights: Mapping[str, Entry], config: Mapping[str, Any]) -> None:
    """Warn if some matrices cannot take `quant_type`, and say what they get instead. config: the model's."""
    if lost := fallback(quant_type, weights):
        hidden = architectures.text_part(config).get("hidden_size")
        cli.warn(
            f"{lost.count} of {lost.total} matrices have rows that are not a multiple of {K_QUANT_BLOCK} "
            f"(hidden size {hidden}): llama.cpp gives these {lost.bits:.1f} bits per weight or more instead "
            f"of {lost.own_bits:.1f}."
        )


def has_prebuilt_quantizer() -> bool:
    """True if the cyllama package, which carries llama.cpp's quantiser, is installed."""
    return importlib.util.find_spec("cyllama") is not None


def require_tools(tree: Path, quant_type: str, imatrix: bool) -> None:
    """UserError if what `quant_type` needs of llama.cpp can be neither found nor built."""
    if quant_type in DIRECT_TYPES:
        return
    if imatrix:  # the prebuilt quantiser cannot take one
        programs, instead = ["llama-imatrix", "llama-quantize"], " Or leave --imatrix out."
    else:
        programs = [] if has_prebuilt_quantizer() else ["llama-quantize"]
        instead = " Or take the prebuilt quantiser: pip install cyllama"
    missing = [name for name in programs if not llama_cpp.find_tool(tree, name)]
    if missing:
        llama_cpp.require_build_tools(missing, instead)


def convert(tree: Path, model: Path, output: Path, outtype: str, log: Path) -> None:
    """Run the converter: the model folder `model` to the GGUF file `output`, of a type in DIRECT_TYPES."""
    converter = str(tree / llama_cpp.CONVERTER)
    with converter_input.arguments(model) as arguments:
        tool_runner.run_logged(
            [sys.executable, converter, *arguments, "--outfile", str(output), "--outtype", outtype],
            log,
            f"converting to {outtype}",
            environment={"PYTHONPATH": ""},
        )


@contextlib.contextmanager
def half_precision(model: Path, output: Path, keep: bool, tree: Path, log: Path) -> Iterator[Path]:
    """The model folder as an f16 GGUF file beside `output`: a temporary one, or with `keep` one that stays.

    A kept file has a hash of its source in its name, and is used again for the same source.
    """
    folder = output.resolve().parent
    if not keep:
        with partial_folder(folder / f"{output.name}.f16") as scratch:
            half = scratch / "f16.gguf"
            convert(tree, model, half, "f16", log)
            yield half
        return
    files = source_files.of_model(model)
    hashes = "".join(f"{file.name} {provenance.sha256(file)}\n" for file in files)
    source = hashlib.sha256(hashes.encode()).hexdigest()[:12]
    half = folder / f"{model.resolve().name}-{source}.f16.gguf"
    if half.exists():
        cli.progress(f"{paths.shown(half)} was made from this model; it is used again")
    else:
        with whole_file(half) as temporary:
            convert(tree, model, temporary, "f16", log)
    yield half


def calibration_text(model: Path) -> str:
    """Training examples of both sides as the model sees them, special tokens spelled out, as one text."""
    loading.set_up_libraries()
    tokenizer = loading.load_tokenizer(model)
    examples = []
    for side in SIDES:
        examples += read_examples(paths.dataset_file(f"{side}_train"), side)
    rows = training_rows.of_examples(
        tokenizer, balanced_sample(examples, min(IMATRIX_EXAMPLES, len(examples)))
    )
    usable = [row for row in rows if isinstance(row, training_rows.TrainingRow)]
    return "".join(f"{tokenizer.decode(row.input_ids)}\n" for row in usable)


def importance_matrix(tree: Path, source: Path, text: Path, output: Path, log: Path) -> None:
    """Write to `output` how much each weight of the GGUF `source` matters to the file `text`.

    Runs llama-imatrix, which is built if it is missing.
    """
    tool = llama_cpp.find_tool(tree, "llama-imatrix") or llama_cpp.build(tree, "llama-imatrix", log)
    command = [str(tool), "-m", str(source), "-f", str(text), "-o", str(output)]
    tool_runner.run_logged(
        [*command, "--parse-special", "-c", str(IMATRIX_CONTEXT), "--no-ppl"], log, "importance matrix"
    )


def quantize_command(
    tree: Path, source: Path, output: Path, quant_type: str, imatrix: Path | None = None
) -> list[str] | None:
    """The command that quantises `source` to `output`: by a built llama-quantize, or the prebuilt one.

    imatrix: a file of importance_matrix, which the prebuilt one cannot take. None if there is no quantiser.
    """
    if tool := llama_cpp.find_tool(tree, "llama-quantize"):
        return _built_command(tool, source, output, quant_type, imatrix)
    if imatrix or not has_prebuilt_quantizer():
        return None
    from gguf import LlamaFileType

    file_type = int(LlamaFileType[f"MOSTLY_{quant_type.upper()}"])
    return [sys.executable, "-c", _PREBUILT_QUANTIZE, str(source), str(output), str(file_type)]


def _built_command(
    tool: Path, source: Path, output: Path, quant_type: str, imatrix: Path | None
) -> list[str]:
    matrix = ["--imatrix", str(imatrix)] if imatrix else []
    return [str(tool), *matrix, str(source), str(output), quant_type.upper()]


def quantize(
    tree: Path, source: Path, output: Path, quant_type: str, log: Path, imatrix: Path | None = None
) -> None:
    """Quantise the GGUF `source` to `output`; llama-quantize is built if there is no other way."""
    command = quantize_command(tree, source, output, quant_type, imatrix)
    if command is None:
        tool = llama_cpp.build(tree, "llama-quantize", log)
        command = _built_command(tool, source, output, quant_type, imatrix)
    tool_runner.run_logged(command, log, f"quantising to {quant_type}")
