"""The project's folders and files, and the environment variables that move them.

WIKI_DATA moves the data sets and LM Studio's models folder; LMSTUDIO_HOST and LMSTUDIO_PORT make the API's
URL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
from pathlib import Path

from deepred_common import cli
from deepred_common.cli import UserError

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "output"
TRAINING_SCRIPT = ROOT / "scripts" / "finetune_temporal.py"
EMBEDDED_BASE = OUTPUT / "base" / "SmolLM2-135M-Instruct"
DEFAULT_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
DATASET_FILES = {
    "dev_path": "dev/dev_subset.jsonl",
    "retain_train": "retain/retain_train.jsonl",
    "retain_val": "retain/retain_val.jsonl",
    "unlearn_train": "unlearn/unlearn_train.jsonl",
    "unlearn_val": "unlearn/unlearn_val.jsonl",
}
CHAT_FILE = "chat/chat_train.jsonl"  # prompts for replay; WIKI_DATA does not move them


def from_environment(variable: str) -> Path | None:
    """The path in an environment variable, expanded as a flag's is; None if it is not set, or empty."""
    text = os.environ.get(variable)
    try:
        return cli.path(text) if text else None
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{variable}: {error}.") from None


def datasets_dir() -> Path:
    """`$WIKI_DATA/datasets` if WIKI_DATA is set and not empty, else the shipped `datasets/`."""
    wiki_data = from_environment("WIKI_DATA")
    return wiki_data / "datasets" if wiki_data else ROOT / "datasets"


def dataset_file(name: str) -> Path:
    """The default path of one of DATASET_FILES, for instance `retain_train`."""
    return datasets_dir() / DATASET_FILES[name]


def lmstudio_models_dir() -> Path:
    """LM Studio's models folder: `lmstudio/models` beside $WIKI_DATA if set, else the one in its settings.

    Without settings it is `models` in lmstudio_home().
    """
    wiki_data = from_environment("WIKI_DATA")
    if wiki_data:
        return wiki_data.resolve().parent / "lmstudio" / "models"
    home = lmstudio_home()
    try:
        chosen = json.loads((home / "settings.json").read_text(encoding="utf-8-sig"))["downloadsFolder"]
        folder = Path(chosen).expanduser()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return home / "models"  # it was never moved, or the settings are of another version
    return folder if folder.is_absolute() else home / "models"


def lmstudio_home() -> Path:
    """LM Studio's own folder: the one that its pointer file names, else `~/.lmstudio`."""
    user = Path.home()
    with contextlib.suppress(OSError, ValueError):
        home = Path((user / ".lmstudio-home-pointer").read_text(encoding="utf-8-sig").strip())
        if home.is_absolute() and home.is_dir():
            return home
    newer, older = user / ".lmstudio", user / ".cache" / "lm-studio"
    # Path.is_dir would raise in a home folder that may not be entered.
    return older if os.path.isdir(older) and not os.path.isdir(newer) else newer


def lmstudio_url() -> str:
    """The API's base URL, `http://<LMSTUDIO_HOST>:<LMSTUDIO_PORT>/v1`; localhost and 1234 by default."""
    host = os.environ.get("LMSTUDIO_HOST") or "localhost"
    port = os.environ.get("LMSTUDIO_PORT") or "1234"
    if not port.isdigit():
        raise UserError(f"LMSTUDIO_PORT is {port!r}; it must be a port number such as 1234.")
    if "/" in host or host.count(":") == 1:
        raise UserError(
            f"LMSTUDIO_HOST is {host!r}; it must be a host alone, such as 192.168.1.20. "
            "The port belongs into LMSTUDIO_PORT, a whole URL into --lmstudio_url."
        )
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"  # IPv6
    return f"http://{host}:{port}/v1"


def shown(path: str | Path) -> str:
    """`path` as the user would type it: relative if it lies below the working directory."""
    path = Path(path)
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


# ---- commands that are printed: each can be pasted -------------------------------------------------


def quoted(path: str | Path) -> str:
    """`shown(path)`, of a path or a hub name, as one word of a command."""
    text = shown(path)
    if text.startswith(("-", "~")):  # it would be read as a flag, or as the home folder
        text = f"./{text}"
    return shlex.quote(text)


def script(name: str) -> str:
    """The words that start a script of scripts/ from the working directory: `python scripts/<name>.py`."""
    return f"python {quoted(ROOT / 'scripts' / f'{name}.py')}"


def module(name: str) -> str:
    """The command that runs a module of this project, which python finds from the project's folder only."""
    command = f"python -m {name}"
    return command if Path.cwd() == ROOT else f"(cd {quoted(ROOT)} && {command})"
