"""The files of a tokenizer: whether they are whole, and of a version that the tokenizers library can read."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.files import is_lfs_pointer, lfs_error

NAMES = ("tokenizer.json", "tokenizer.model", "vocab.json")  # one of these holds the vocabulary
OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "merges.txt", "chat_template.jinja")
# Every part of a tokenizer.json names its class so. No token can look like it: its quotes are escaped.
PART = re.compile(rb'"type"\s*:\s*"(\w+)"')


def require_whole(folder: Path) -> None:
    """UserError if a tokenizer file in `folder` is a Git LFS pointer, cut short or of a newer version.

    A tokenizer.json is searched, not parsed: it may have 30 MB.
    """
    for name in (*NAMES, *OTHERS):
        if (folder / name).exists() and is_lfs_pointer(folder / name):
            raise lfs_error(folder / name)
    file = folder / NAMES[0]
    if not file.exists():
        return
    content = file.read_bytes()
    if not content.rstrip().endswith(b"}"):
        raise UserError(f"{file} is cut short, or no JSON. Download or copy it again.")
    unknown = {part.decode() for part in PART.findall(content)} - _known_parts()
    if unknown:
        raise UserError(
            f"{file} has a part of the type {min(unknown)}, which tokenizers "
            f"{metadata.version('tokenizers')} does not know. If the file is not damaged, it is newer:\n"
            "  pip install -U tokenizers transformers"
        )


def _known_parts() -> set[str]:
    """The names of the classes that the installed tokenizers library makes a tokenizer of."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    modules = (decoders, models, normalizers, pre_tokenizers, processors)
    return {name for module in modules for name in dir(module)}
