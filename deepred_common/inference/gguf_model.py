"""A GGUF file as a back end: llama.cpp serves it while it is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from deepred_common import cli, provenance
from deepred_common.cli import UserError
from deepred_common.files import is_lfs_pointer, lfs_error
from deepred_common.inference import llama_server
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.protocol import BackendKind, BackendSettings

NAME = "gguf"
MAGIC = b"GGUF"  # how such a file begins


def _accepts(path: str) -> bool:
    return path.endswith(".gguf")


def _check(path: str, role: str) -> None:
    if not Path(path).is_file():
        raise UserError(f"the {role} {path} does not exist.")
    if is_lfs_pointer(path):
        raise lfs_error(path)
    with Path(path).open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise UserError(f"the {role} {path} is damaged, or no GGUF file. Download or make it again.")


@contextlib.contextmanager
def _opened(path: str, settings: BackendSettings, system_prompt: str | None) -> Iterator[ApiModel]:
    cli.progress(f"serving {path} with llama.cpp …")
    with llama_server.serving(
        path,
        slots=settings.in_flight,
        tree=settings.llama_cpp_path,
        reply_tokens=settings.max_tokens,
    ) as url:
        model = ApiModel(
            url,
            None,
            settings.max_tokens,
            settings.in_flight,
            settings.timeout,
            system_prompt,
            probabilities=True,
        )
        model.name, model.kind, model.identity = path, NAME, provenance.sha256(path)
        yield model


KIND = BackendKind(NAME, _accepts, _check, _opened)
