"""Converting and quantising with llama.cpp: the types, the commands, the fallbacks."""

import importlib.util
import sys

from deepred_common.export import llama_cpp

# A K-quant packs 256 weights; rows of another length take the next type that fits (llama-quant.cpp, tensor_type_fallback).
K_QUANT_BLOCK = 256
_FALLBACK = {
    "Q2_K": "IQ4_NL",
    "Q3_K": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
}


def fallback(quant_type, weights):
    """(matrices that cannot take `quant_type`, matrices, bits per weight of these instead of the type's own); None if all can.

    weights: {tensor name: safetensors_files.Entry}. The type is the mixture's main one: for q4_k_m, Q4_K.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    main = quant_type.upper().removesuffix("_M").removesuffix("_S").removesuffix("_L")
    if main not in _FALLBACK:
        return None
    matrices = [entry.shape for entry in weights.values() if len(entry.shape) > 1]
    odd = sum(shape[-1] % K_QUANT_BLOCK != 0 for shape in matrices)

    def bits(name):
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        return 8 * size / block

    return (odd, len(matrices), bits(_FALLBACK[main]), bits(main)) if odd else None


DIRECT_TYPES = ("f32", "f16", "bf16")  # the converter writes these itself, without the quantiser
QUANT_TYPES = (
    *DIRECT_TYPES,
    "q8_0",
    "q6_k",
    "q5_k_m",
    "q5_k_s",
    "q4_k_m",
    "q4_k_s",
    "q3_k_l",
    "q3_k_m",
    "q3_k_s",
    "q2_k",
    "q5_0",
    "q5_1",
    "q4_0",
    "q4_1",
    "iq4_nl",
    "iq4_xs",
)
_PREBUILT_QUANTIZE = (
    "import sys\n"
    "from cyllama.llama.llama_cpp import LlamaModelQuantizeParams, model_quantize\n"
    "parameters = LlamaModelQuantizeParams()\n"
    "parameters.ftype = int(sys.argv[3])\n"
    "model_quantize(sys.argv[1], sys.argv[2], parameters)\n"
)


def has_prebuilt_quantizer():
    """True if the cyllama package, which carries llama.cpp's quantiser, is installed."""
    return importlib.util.find_spec("cyllama") is not None


def convert(tree, model, output, outtype, log):
    """Run the converter: the Hugging Face folder `model` to the GGUF file `output` of type `outtype`."""
    llama_cpp.run_logged(
        [
            sys.executable,
            str(tree / llama_cpp.CONVERTER),
            str(model),
            "--outfile",
            str(output),
            "--outtype",
            outtype,
        ],
        log,
        f"converting to {outtype}",
        environment={"PYTHONPATH": ""},
    )


def importance_matrix(tree, source, text, output, log):
    """Run llama-imatrix (built if need be): how much each weight of the GGUF `source` matters to the file `text`, to `output`."""
    tool = llama_cpp.find_tool(tree, "llama-imatrix") or llama_cpp.build(tree, "llama-imatrix", log)
    llama_cpp.run_logged(
        [
            str(tool),
            "-m",
            str(source),
            "-f",
            str(text),
            "-o",
            str(output),
            "--parse-special",
            "-c",
            "512",
            "--no-ppl",
        ],
        log,
        "importance matrix",
    )


def quantize_command(tree, source, output, quant_type, imatrix=None):
    """The command that quantises the GGUF `source` to `output`: a built llama-quantize, else the prebuilt one; None if neither is there.

    imatrix: a file of importance_matrix. The prebuilt quantiser cannot take one.
    """
    if tool := llama_cpp.find_tool(tree, "llama-quantize"):
        return [
            str(tool),
            *(["--imatrix", str(imatrix)] if imatrix else []),
            str(source),
            str(output),
            quant_type.upper(),
        ]
    if imatrix or not has_prebuilt_quantizer():
        return None
    from gguf import LlamaFileType

    ftype = int(LlamaFileType[f"MOSTLY_{quant_type.upper()}"])
    return [sys.executable, "-c", _PREBUILT_QUANTIZE, str(source), str(output), str(ftype)]


def quantize(tree, source, output, quant_type, log, imatrix=None):
    """Quantise the GGUF `source` to `output`, by quantize_command; llama-quantize is built if there is no other way."""
    command = quantize_command(tree, source, output, quant_type, imatrix)
    if command is None:
        llama_cpp.build(tree, "llama-quantize", log)
        command = quantize_command(tree, source, output, quant_type, imatrix)
    llama_cpp.run_logged(command, log, f"quantising to {quant_type}")
