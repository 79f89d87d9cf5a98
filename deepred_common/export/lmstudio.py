"""Handing a GGUF file on to LM Studio: where its models lie, what they are called there, and whether its server has one."""

import os
import shutil
from pathlib import Path

from deepred_common import paths
from deepred_common.files import whole_file

PUBLISHER, FOLDER = "local", "temporal"
_PLACES = ("~/.lmstudio/bin/lms", "/opt/lm-studio/bin/lms")


def target(gguf):
    """Where in LM Studio's models folder `gguf` belongs: <models>/local/temporal/<its name>."""
    return paths.lmstudio_models_dir() / PUBLISHER / FOLDER / Path(gguf).name


def lms():
    """LM Studio's command-line tool as a user would type it: its path if only that finds it."""
    found = (
        None
        if shutil.which("lms")
        else next((path for place in _PLACES if (path := Path(place).expanduser()).exists()), None)
    )
    return str(found or "lms")


def writable(gguf):
    """True if target(gguf) can be written, its folders made where they are missing."""
    folder = target(gguf).parent
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def copy(gguf):
    """Copy `gguf` to its target, whole or not at all; an older file of that name is replaced. Returns the target."""
    to = target(gguf)
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as temporary:
        shutil.copyfile(gguf, temporary)
    return to


def listed(url):
    """The identifiers that the server at `url` (ending in /v1) lists, or None if none answers."""
    import requests

    try:
        return [entry["id"] for entry in requests.get(f"{url}/models", timeout=3).json()["data"]]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
