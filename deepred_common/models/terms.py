"""The licence or terms of a model: files beside its weights that go with them wherever they are passed on."""

from __future__ import annotations

import shutil
from pathlib import Path

FILES = ("LICENSE*", "NOTICE*", "*TERMS*")


def copy(model: Path, out: Path) -> None:
    """Copy the licence or terms in a model's folder to the folder `out`."""
    for pattern in FILES:
        for file in model.glob(pattern):
            shutil.copy(file, out / file.name)
