"""Handing a GGUF file on to LM Studio: its models folder, the models' names there, and its server's list."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepred_common import paths, server_session
from deepred_common.files import json_text, whole_file, write_text
from deepred_common.models import gguf_parts

PUBLISHER, FOLDER = "local", "temporal"
SYSTEM_TOOL = Path("/opt/lm-studio/bin/lms")
ROOT_MODELS = Path("/root/.lmstudio/models")  # where LM Studio runs as root, as the spec's server does
TIMEOUT = 3  # seconds
SHOWN_MODELS = 5  # of the server's list


def target(gguf: str | Path) -> Path:
    """Where in LM Studio's models folder `gguf` belongs: <models>/local/temporal/<its name>."""
    return paths.lmstudio_models_dir() / PUBLISHER / FOLDER / Path(gguf).name


def identifier(gguf: str | Path) -> str:
    """What LM Studio calls a file at its target: `temporal/<its name without .gguf>`."""
    return f"{FOLDER}/{Path(gguf).stem}"


def quoted(name: str) -> str:
    """A model's name as one word of a command: in double quotes, as in LM Studio's own pages, if these do."""
    return shlex.quote(name) if re.search(r'["$`\\!]', name) else f'"{name}"'


def tool() -> str:
    """LM Studio's command-line tool as a user would type it: `lms`, or its path if it is not on PATH."""
    if not shutil.which("lms"):
        for place in (paths.lmstudio_home() / "bin" / "lms", SYSTEM_TOOL):
            if os.path.exists(place):  # Path.exists raises below a folder that may not be entered
                return shlex.quote(str(place))
    return "lms"


def writable(gguf: str | Path) -> bool:
    """True if target(gguf) can be written, after its missing folders are made."""
    folder = target(gguf).parent
    while not os.path.exists(folder):  # as for a folder in one that may not be entered
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def copy(files: Sequence[Path], output: Path) -> Path:
    """Copy what was written to `output`, a file or its parts, to the targets; return the first one.

    Each appears whole or not at all. All older copies of `output` are replaced, those in parts too: the
    caller has checked that they may be. The first part is copied last: LM Studio loads a model by it.
    """
    targets = [target(file) for file in files]
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    if len(files) > 1:
        targets[0].unlink(missing_ok=True)
    for file in reversed(files):
        with whole_file(target(file)) as temporary:
            shutil.copyfile(file, temporary)
    for older in gguf_parts.written(target(output)):
        if older not in targets:
            older.unlink()
    return targets[0]


def preset(gguf: Path) -> dict[str, Any]:
    """LM Studio's settings for chats with `gguf`, as the evaluation asks it: greedy, without a system prompt.

    LM Studio's own settings sample, and penalise repeated words.
    """
    fields = {
        "llm.prediction.temperature": 0,
        "llm.prediction.repeatPenalty": {"checked": False, "value": 1},
        "llm.prediction.systemPrompt": "",
    }
    listed = [{"key": key, "value": value} for key, value in fields.items()]
    return {
        "identifier": f"@local:{gguf.stem}",
        "name": gguf.stem,
        "changed": False,
        "operation": {"fields": listed},
        "load": {"fields": []},
    }


def preset_file(gguf: Path) -> Path:
    """Where the preset for `gguf` is written: beside it."""
    return gguf.with_name(f"{gguf.stem}.preset.json")


def write_preset(gguf: Path) -> str:
    """Write the preset beside `gguf`; return the command that hands it to LM Studio."""
    file = preset_file(gguf)
    write_text(file, json_text(preset(gguf), indent=2) + "\n")
    folder = shlex.quote(f"{paths.lmstudio_home() / 'config-presets'}/")
    return f"  cp {paths.quoted(file)} {folder}"


def listed_models(url: str) -> list[str] | None:
    """The identifiers that the server at `url` (ending in /v1) lists; None if no server answers."""
    import requests

    try:
        listed = server_session.new(url).get(f"{url}/models", timeout=TIMEOUT).json()
        return [entry["id"] for entry in listed["data"]]
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None


def hand_over(files: Sequence[Path], output: Path, wants_copy: bool) -> str:
    """Copy a model's file, or its parts, to LM Studio if wanted and possible; return what to tell the user.

    That is the copy's path, or the commands, with real paths, that copy the file (no sudo is run here),
    and the command that loads it. What was written into LM Studio's folder is not copied. output: the file
    that the model was written to, whole or as those parts.
    """
    gguf = files[0]
    load = f"  {tool()} load {quoted(identifier(gguf))}"
    if os.path.exists(target(gguf)) and target(gguf).samefile(gguf):
        return f"\nIt was written into LM Studio's folder. To load it:\n{load}"
    if wants_copy and writable(gguf):
        return f"\nCopied to {copy(files, output)}. To load it:\n{load}{_listed_line(identifier(gguf))}"
    folder, file = target(gguf).parent, " ".join(paths.quoted(part) for part in files)
    into = shlex.quote(f"{folder}/")
    text = f"\nTo try it in LM Studio:\n  mkdir -p {into}\n  cp {file} {into}\n{load}"
    root = ROOT_MODELS / PUBLISHER / FOLDER
    if folder != root:
        text += f"\nWhere LM Studio runs as root:\n  sudo mkdir -p {root}\n  sudo cp {file} {root}/"
    return text


def _listed_line(name: str) -> str:
    """A line that says whether LM Studio's server lists the model `name`; "" if no server answers."""
    url = paths.lmstudio_url()
    models = listed_models(url)
    if models is None:
        return ""
    if name in models:
        return f"\n{url} lists {name}."
    return (
        f"\n{url} does not list {name} yet; it lists {', '.join(models[:SHOWN_MODELS]) or 'nothing'}. "
        "Load it as above, or restart LM Studio."
    )
