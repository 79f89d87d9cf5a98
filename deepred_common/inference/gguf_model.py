"""A GGUF file as a back end: llama.cpp serves it while it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepred_common import chat, cli, provenance
from deepred_common.cli import UserError
from deepred_common.examples import USER, Prompt
from deepred_common.files import is_lfs_pointer, lfs_error
from deepred_common.inference import llama_server
from deepred_common.inference.api_model import ApiModel
from deepred_common.inference.protocol import BackendKind, BackendSettings
from deepred_common.models import gguf_parts

NAME = "gguf"
MAGIC = b"GGUF"  # how such a file begins
# Bytes of UTF-8 that make a token, as a low estimate: four or more in English, about two in a script that the
# vocabulary hardly knows. A text of digits alone may have a token for each byte.
_TOKEN_BYTES = 2
_TEMPLATE_TOKENS = 256  # what a chat template writes around the turns, at most


def _accepts(path: str) -> bool:
    return path.endswith(".gguf")


def _check(path: str, role: str) -> None:
    parts = gguf_parts.siblings(path)
    if Path(path) != parts[0]:
        raise UserError(f"the {role} {path} is a part of a split file. Give the first part: {parts[0]}")
    for part in parts:
        if not part.is_file():
            raise UserError(f"the {role} {part} does not exist.")
        if is_lfs_pointer(part):
            raise lfs_error(part)
        with part.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise UserError(f"the {role} {part} is damaged, or no GGUF file. Download or make it again.")


def _identity(path: str) -> str:
    """The SHA-256 of a GGUF file; of a split one, that of its parts' hashes."""
    hashes = [provenance.sha256(part) for part in gguf_parts.siblings(path)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _prompt_tokens(prompts: Sequence[Prompt], system_prompt: str | None, max_tokens: int) -> int:
    """A generous estimate of the longest prompt's tokens: nothing here can tokenise as the file does.

    max_tokens: most tokens a reply may have.
    """
    reply_tokens = max(llama_server.REPLY_TOKENS, max_tokens)

    def most(prompt: Prompt) -> int:
        turns = chat.messages(prompt, system_prompt)
        size = sum(len(turn["content"].encode(errors="replace")) for turn in turns)
        # The model's reply comes between two user turns.
        missing = sum(one["role"] == two["role"] == USER for one, two in itertools.pairwise(turns))
        return size // _TOKEN_BYTES + missing * reply_tokens + _TEMPLATE_TOKENS

    return max(map(most, prompts), default=0)


@contextlib.contextmanager
def _opened(
    path: str, settings: BackendSettings, system_prompt: str | None, prompts: Sequence[Prompt]
) -> Iterator[ApiModel]:
    cli.progress(f"serving {path} with llama.cpp …")
    prompt_tokens = _prompt_tokens(prompts, system_prompt, settings.max_tokens)
    if prompt_tokens > llama_server.PROMPT_TOKENS:
        prompt_tokens = min(prompt_tokens, llama_server.model_context(Path(path)) or prompt_tokens)
        cli.progress(
            f"each of {settings.in_flight} requests at a time gets room for the longest question, which may "
            f"have {prompt_tokens} tokens. A smaller --in_flight takes less memory."
        )
    with llama_server.serving(
        path,
        slots=settings.in_flight,
        tree=settings.llama_cpp_path,
        reply_tokens=settings.max_tokens,
        prompt_tokens=prompt_tokens,
    ) as url:
        model = ApiModel(
            url,
            None,
            settings.max_tokens,
            settings.in_flight,
            settings.timeout,
            system_prompt,
            flag="",  # the server is ours: none has to be started
            probabilities=True,
        )
        model.name, model.kind, model.identity = path, NAME, _identity(path)
        yield model


KIND = BackendKind(NAME, _accepts, _check, _opened, _identity)
