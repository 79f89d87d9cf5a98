"""Where a result comes from: hashes, versions, the commit, the machine and the time."""

import datetime
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from deepred_common import paths


def now():
    """The time, local with offset, to the second, as ISO 8601 text."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def sha256(path):
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions():
    """{package: version} of what a result depends on, and the Python and machine it ran on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit():
    """The commit of this project's working copy, with "+changes" if files differ from it; None outside of git."""

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def hardware():
    """{"cpus", "memory_gb", "gpus": [name and GB]} of this machine."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in gpus],
    }


def digest(*parts):
    """A short hash of texts, and of files for pathlib.Paths: the part of a name that tells entries apart."""
    found = hashlib.sha256()
    for part in parts:
        found.update(
            hashlib.sha256(part.read_bytes() if isinstance(part, Path) else str(part).encode()).digest()
        )
    return found.hexdigest()[:24]
