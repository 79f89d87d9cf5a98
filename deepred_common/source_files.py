"""Files that are read: which they are, and whether they were changed meanwhile.

A result that is made of half an older file and half a newer one, or is kept under the hash of another, looks
like any other result. So whoever reads more than once takes stamps before, and compares them at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.paths import shown

# What a model or adapter folder is read for, in its own files.
MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
# Inode, size, time of the last change in nanoseconds: another file under the name, or another content.
Stamp = tuple[int, int, int]


def of_model(folder: Path) -> list[Path]:
    """The files of a model or adapter folder that decide what it is; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix in MODEL_SUFFIXES)


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """{file: its Stamp}, to compare later. What is missing, or a pipe, is left out."""
    by_file = {}
    for file in files:
        if file.is_file():
            status = file.stat()
            by_file[file] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return by_file


def require_unchanged(before: Mapping[Path, Stamp]) -> None:
    """UserError naming a file that has changed since its Stamp was taken."""
    now = stamps(before)
    for file, stamp in before.items():
        if now.get(file) != stamp:
            raise UserError(f"{shown(file)} was changed while it was read. Run this again.")
