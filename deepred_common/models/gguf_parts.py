"""The files of a GGUF model that is split: named as llama.cpp names them, and loaded by the first."""

from __future__ import annotations

import re
from pathlib import Path

NAME = "{stem}-{number:05d}-of-{count:05d}.gguf"  # gguf's SHARD_NAME_FORMAT
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def siblings(path: str | Path) -> list[Path]:
    """All parts of the split model that `path` is one of, in order, there or not; [path] if it is no part."""
    path = Path(path)
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    stem, _, count = match.groups()
    return [
        path.with_name(NAME.format(stem=stem, number=number, count=int(count)))
        for number in range(1, int(count) + 1)
    ]


def written(output: Path) -> list[Path]:
    """What is there of a model that was written to `output`, whole or in parts, the first part first."""
    parts = []
    for file in output.parent.glob("*.gguf"):
        match = _PART.fullmatch(file.name)
        if match and match[1] == output.stem:
            parts.append(file)
    return [*([output] if output.exists() else []), *sorted(parts)]


def first(output: Path) -> Path:
    """What a program loads of a model that was written to `output`: that file, or its first part."""
    return next(iter(written(output)), output)
