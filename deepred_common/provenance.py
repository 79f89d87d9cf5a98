"""Where a result comes from: hashes, versions, the commit, the machine and the time."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from deepred_common import paths, source_files
from deepred_common.foreign_text import ESCAPED

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")  # a result depends on these
_BLOCK = 1 << 20  # bytes read at a time
_DIGEST_LENGTH = 24  # hex digits: 96 bits
_GIT_SECONDS = 10  # a working copy on a slow network drive is not waited for any longer


class Hardware(TypedDict):
    """A machine. gpus: name and memory of each."""

    cpus: int | None
    memory_gb: float
    gpus: list[str]


def now() -> str:
    """The time, local with offset, to the second, as ISO 8601 text."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file. One that has not changed since is not read again."""
    if stamp := source_files.stamps([Path(path)]):
        return _sha256_of(*stamp.popitem())
    return _read_sha256(path)  # a pipe


@functools.lru_cache
def _sha256_of(path: Path, stamp: source_files.Stamp) -> str:
    return _read_sha256(path)


def _read_sha256(path: str | Path) -> str:
    file_hash = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            file_hash.update(block)
    return file_hash.hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python, of the machine it runs on, and of PACKAGES, by name; without those not
    installed."""
    by_name = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_name


def git_commit() -> str | None:
    """The commit of this project's working copy, with "+changes" if files differ from it; None outside of
    git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(paths.ROOT), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> Hardware:
    """This machine's processors, memory and GPUs."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus],
    }


def digest(*parts: object) -> str:
    """A short hash of texts and numbers, as hex: the part of a name that tells entries apart."""
    whole = hashlib.sha256()
    for part in parts:
        # Each part is hashed by itself, so that ("ab", "c") and ("a", "bc") differ.
        whole.update(hashlib.sha256(str(part).encode(errors=ESCAPED)).digest())
    return whole.hexdigest()[:_DIGEST_LENGTH]
