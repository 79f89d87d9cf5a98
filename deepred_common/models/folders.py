"""Model folders and hub names: what is in a folder, checked without loading weights.

What a training leaves, an adapter or a tuned model, is in trained_weights.py.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepred_common import paths
from deepred_common.cli import UserError, progress
from deepred_common.files import read_json
from deepred_common.models import architectures, safetensors_files, tokenizer_files
from deepred_common.models.safetensors_files import Entry

CHAT_TEMPLATE = "chat_template.jinja"
ADAPTER_CONFIG = "adapter_config.json"
OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf")  # named in the error where no safetensors are
HUB_TIMEOUT = 5  # seconds to connect


@dataclass(frozen=True)
class Vocabulary:
    """What tokenizer.json and tokenizer_config.json of a model folder say.

    ids: {token: id}. special: {"bos", "eos", "pad": token or None}. added: tokens beside the vocabulary.
    """

    ids: dict[str, int]
    special: dict[str, str | None]
    added: set[str]

    @property
    def size(self) -> int:
        """Embedding rows that the tokens need: the highest id and one."""
        return max(self.ids.values(), default=-1) + 1


def read_vocabulary(folder: str | Path) -> Vocabulary | None:
    """The Vocabulary of a model folder; None if it has no tokenizer.json."""
    file = Path(folder) / "tokenizer.json"
    if not file.exists():
        return None
    content = read_json(file)
    listed = content["model"].get("vocab", {})  # a list of [token, score] in SentencePiece's unigram models
    if isinstance(listed, dict):
        ids = dict(listed)
    else:
        ids = {entry[0]: number for number, entry in enumerate(listed)}
    added_tokens = content.get("added_tokens", [])
    ids.update((token["content"], token["id"]) for token in added_tokens)
    config = _read_tokenizer_config(folder)
    special = {}
    for kind in ("bos", "eos", "pad"):
        token = config.get(f"{kind}_token")
        special[kind] = token["content"] if isinstance(token, dict) else token
    return Vocabulary(ids, special, {token["content"] for token in added_tokens})


def _read_tokenizer_config(folder: str | Path) -> dict[str, Any]:
    file = Path(folder) / "tokenizer_config.json"
    return read_json(file) if file.exists() else {}


def read_chat_template(folder: str | Path) -> str | None:
    """A model folder's chat template: chat_template.jinja, else tokenizer_config.json's, else None.

    UserError if it has several and none is named `default`.
    """
    file = Path(folder) / CHAT_TEMPLATE
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = _read_tokenizer_config(folder).get("chat_template")
    if isinstance(template, list):  # several, each with a name
        template = {entry["name"]: entry["template"] for entry in template}
    return default_template(template, folder) if isinstance(template, dict) else template


def default_template(templates: Mapping[str, str], name: str | Path) -> str | None:
    """The one named `default` of several chat templates; None if there are none, UserError if it is missing.

    name: the model's, for the message and for the line that says so where there are several.
    """
    if templates and "default" not in templates:
        raise UserError(
            f"{name} has several chat templates ({', '.join(templates)}), and none is named `default`.\n"
            f"Save the one to use as {CHAT_TEMPLATE} in the model's folder."
        )
    if len(templates) > 1:
        _say_once(f"{name} has several chat templates ({', '.join(templates)}); `default` is used.")
    return templates.get("default")


@functools.cache
def _say_once(line: str) -> None:
    progress(line)


def embedding_rows(weights: Mapping[str, Entry]) -> int | None:
    """Rows of the input embedding among {tensor name: Entry}, one a token; None if it is not found."""
    for name, entry in weights.items():
        if name.replace(".base_layer.", ".").endswith(("embed_tokens.weight", "wte.weight")):
            return entry.shape[0]
    return None


def require_rows_for_tokens(folder: str | Path, weights: Mapping[str, Entry]) -> None:
    """UserError if the tokenizer in `folder` has tokens that the embedding in `weights` has no row for."""
    vocabulary, rows = read_vocabulary(folder), embedding_rows(weights)
    if vocabulary and rows is not None and vocabulary.size > rows:
        raise UserError(
            f"the tokenizer in {folder} has {vocabulary.size} tokens, but the model's embedding only "
            f"{rows} rows: tokens were added without resizing the model. Give it rows for them:\n"
            f"  {resize_command(folder, folder, f'{folder}-{vocabulary.size}', vocabulary.size)}"
        )


def resize_command(model: str | Path, tokenizer: str | Path, output: str | Path, rows: int) -> str:
    """The command that writes `model` with `rows` embedding rows, and a folder's tokenizer, to `output`."""
    code = (
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
        f'm = M.from_pretrained({json.dumps(str(model))}, dtype="auto"); m.resize_token_embeddings({rows}); '
        f"m.save_pretrained({json.dumps(str(output))}); "
        f"T.from_pretrained({json.dumps(str(tokenizer))}).save_pretrained({json.dumps(str(output))})"
    )
    return f"python -c {shlex.quote(code)}"


def embedded_base_hint() -> str:
    """What to do when no hub can be reached."""
    exists = (paths.EMBEDDED_BASE / "config.json").exists()
    how = "" if exists else f" (make it: {paths.module('deepred_common.models.embedded_base')})"
    return f"Without a hub, use the embedded base: {paths.quoted(paths.EMBEDDED_BASE)}{how}"


def looks_like_path(name: str | Path) -> bool:
    """True if `name` can only be meant as a folder: it exists, or is no `organisation/model` hub name."""
    text = str(name)
    return (
        Path(text).exists()
        or text.startswith((".", "/", "~", "output/"))
        or text.endswith("/")
        or text.count("/") > 1
        or "\\" in text
    )


def is_adapter(folder: str | Path) -> bool:
    """True if `folder` holds a LoRA adapter rather than a whole model."""
    return (Path(folder) / ADAPTER_CONFIG).exists()


def is_whole_model(folder: str | Path) -> bool:
    """True if `folder` holds a whole model, or the beginning of one, rather than an adapter."""
    return (Path(folder) / "config.json").exists() and not is_adapter(folder)


def require_model_folder(
    folder: str | Path, role: str = "model", transformers_loads: bool = True
) -> dict[str, Any]:
    """Check that `folder` is a whole Hugging Face model with safetensors weights and a tokenizer.

    Returns its config. Of the weights the headers are read only: some hundredths of a second in all.
    role: what the model is, for messages. transformers_loads: whether its architecture must be one that
    transformers knows. UserError says which file is missing, cut short, a Git LFS pointer or too new.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"the {role} {folder} does not exist.\n{embedded_base_hint()}")
    if not folder.is_dir():
        raise UserError(f"the {role} {folder} is a file; a Hugging Face model folder is needed.")
    if not (folder / "config.json").exists():
        if is_adapter(folder):
            raise UserError(
                f"{folder} is a LoRA adapter, not a whole model. Merge it first:\n"
                f"  {paths.script('merge_lora')} --base_model BASE --lora_path {paths.quoted(folder)} "
                "--output_path MERGED"
            )
        inside = adapters_inside(folder) or _models_inside(folder)
        raise UserError(f"{folder} is not a model folder: it has no config.json.{inside}")
    config = read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        other = sorted(file.name for pattern in OTHER_WEIGHTS for file in folder.glob(pattern))
        hint = f" It holds {', '.join(other[:3])}; only safetensors weights are read." if other else ""
        raise UserError(f"{folder} has no *.safetensors weights.{hint}")
    if not any((folder / name).exists() for name in tokenizer_files.NAMES):
        raise UserError(f"{folder} has no tokenizer: none of {', '.join(tokenizer_files.NAMES)}.")
    fault = architectures.fault(config) if transformers_loads else None
    if fault:
        raise UserError(f"the {role} {folder} {fault}")
    safetensors_files.read_folder(folder)
    tokenizer_files.require_whole(folder)
    return config


def adapters_inside(folder: Path) -> str:
    """A sentence about the adapters in sub-folders: a run's final/, or several with names; "" without any."""
    names = sorted(file.parent.name for file in folder.glob(f"*/{ADAPTER_CONFIG}"))
    if is_whole_model(folder / "final"):  # of a run that trained all weights
        names = ["final"]
    if not names:
        return ""
    if len(names) == 1 or "final" in names:
        return f" Did you mean {folder / ('final' if 'final' in names else names[0])}?"
    return f" It holds several adapters, give the folder of one: {', '.join(names)}."


def _models_inside(folder: Path) -> str:
    """A sentence about the newest model in sub-folders, such as the hub's cache has; "" without any."""
    configs = [*folder.glob("*/config.json"), *folder.glob("snapshots/*/config.json")]
    if not configs:
        return ""
    newest = max(configs, key=lambda file: file.parent.stat().st_mtime)
    return f" Did you mean {newest.parent}?"


def check_name(name: str | Path, role: str = "model", transformers_loads: bool = True) -> None:
    """Check a model's name as far as possible before the libraries load: a folder must be a whole model.

    role, transformers_loads: as in require_model_folder.

    For a hub name, if the hub's host cannot be reached, HF_HUB_OFFLINE is set, so that only the local cache
    is searched: the hub's own client would retry for a minute first.
    """
    if looks_like_path(name):
        require_model_folder(name, role, transformers_loads)
    elif not _hub_answers():
        os.environ["HF_HUB_OFFLINE"] = "1"


def _hub_answers() -> bool:
    """False if the hub's host cannot be reached; True if it can, or if a proxy stands before it."""
    # Imported here: they would take a tenth of the time of every --help.
    import socket
    import urllib.parse
    import urllib.request

    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host = endpoint.hostname or ""
    proxies = urllib.request.getproxies()  # NO_PROXY is in it too, as "no"
    has_proxy = endpoint.scheme in proxies or "all" in proxies
    if has_proxy and not urllib.request.proxy_bypass(host):
        return True
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=HUB_TIMEOUT).close()
    except OSError:
        return False
    return True
