"""Model and adapter folders: what is in them, checked without loading weights."""

import os
from dataclasses import dataclass
from pathlib import Path

from deepred_common import paths
from deepred_common.cli import UserError
from deepred_common.files import read_json


@dataclass(frozen=True)
class Vocabulary:
    """What tokenizer.json and tokenizer_config.json of a model folder say: {token: id}, special tokens as text or None, and the
    tokens that were added to the vocabulary proper."""

    ids: dict
    special: dict
    added: set

    @property
    def size(self):
        """Numbers that tokens take: the highest id and one."""
        return max(self.ids.values(), default=-1) + 1


def read_vocabulary(folder):
    """The Vocabulary of a model folder; None if it has no tokenizer.json to read it from."""
    folder = Path(folder)
    if not (folder / "tokenizer.json").exists():
        return None
    content = read_json(folder / "tokenizer.json")
    vocab = content["model"].get("vocab", {})
    ids = dict(vocab) if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}
    ids.update((token["content"], token["id"]) for token in content.get("added_tokens", []))
    path = folder / "tokenizer_config.json"
    named = read_json(path) if path.exists() else {}
    special = {}
    for kind in ("bos", "eos", "pad"):
        token = named.get(f"{kind}_token")
        special[kind] = token["content"] if isinstance(token, dict) else token
    return Vocabulary(ids, special, {token["content"] for token in content.get("added_tokens", [])})


def embedding_rows(weights):
    """Rows of the input embedding among {tensor name: safetensors_files.Entry}: the numbers that the model knows; None if not found."""
    return next(
        (
            entry.shape[0]
            for name, entry in weights.items()
            if name.endswith(("embed_tokens.weight", "wte.weight"))
        ),
        None,
    )


CHAT_TEMPLATE = "chat_template.jinja"
ADAPTER_CONFIG = "adapter_config.json"


def embedded_base_hint():
    """What to do when no hub can be reached."""
    how = (
        ""
        if (paths.EMBEDDED_BASE / "config.json").exists()
        else " (make it: python -m deepred_common.models.embedded_base)"
    )
    return f"Without a hub, use the embedded base: {paths.shown(paths.EMBEDDED_BASE)}{how}"


def looks_like_path(name):
    """True if `name` can only be meant as a folder: it exists, or is no `organisation/model` hub name."""
    text = str(name)
    if Path(text).expanduser().exists():
        return True
    return (
        text.startswith((".", "/", "~"))
        or text.count("/") > 1
        or text.endswith("/")
        or text.startswith("output/")
    )


def is_adapter(folder):
    """True if `folder` holds a LoRA adapter rather than a whole model."""
    return (Path(folder) / ADAPTER_CONFIG).exists()


def require_model_folder(folder, role="model"):
    """Check that `folder` is a whole Hugging Face model with safetensors weights and a tokenizer; return its config.

    Reads config.json only. UserError says which file is missing.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise UserError(f"the {role} {folder} does not exist.\n{embedded_base_hint()}")
    if not folder.is_dir():
        raise UserError(f"the {role} {folder} is a file; a Hugging Face model folder is needed.")
    if not (folder / "config.json").exists():
        if is_adapter(folder):
            raise UserError(
                f"{folder} is a LoRA adapter, not a whole model. Merge it first:\n"
                f"  python scripts/merge_lora.py --base_model BASE --lora_path {folder} --output_path output/merged"
            )
        raise UserError(f"{folder} is not a model folder: it has no config.json.")
    config = read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        other = sorted(
            p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(pattern)
        )
        found = f" It holds {', '.join(other[:3])}; only safetensors weights are read." if other else ""
        raise UserError(f"{folder} has no *.safetensors weights.{found}")
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json, tokenizer.model or vocab.json).")
    return config


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter folder and what its config says."""

    folder: Path
    config: dict

    @property
    def base(self):
        """The name or path of the base it was trained on."""
        return self.config.get("base_model_name_or_path") or ""


def require_adapter(folder):
    """Check that `folder` holds a complete LoRA adapter; return it. Reads its config only."""
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise UserError(f"the adapter {folder} does not exist. Give the final/ folder of a finished run.")
    if not folder.is_dir():
        raise UserError(f"the adapter {folder} is a file; the final/ folder of a run is needed.")
    if not is_adapter(folder):
        final = folder / "final"
        hint = f" Did you mean {final}?" if is_adapter(final) else ""
        raise UserError(f"{folder} is not a LoRA adapter: it has no {ADAPTER_CONFIG}.{hint}")
    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(
            f"{folder} has no adapter_model.safetensors; the save was cut short, or it is not a LoRA adapter."
        )
    config = read_json(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{folder} is a {config.get('peft_type')} adapter; only LoRA adapters are supported.")
    return Adapter(folder, config)


def check_name(name, role="model"):
    """Check what can be checked of a model's name before the libraries load: a folder must be a whole model.

    For a hub name, if the hub's host cannot even be reached, only the local cache is asked: the hub's own client would
    retry for a minute before it says so.
    """
    if looks_like_path(name):
        require_model_folder(name, role)
    elif not _hub_answers():
        os.environ["HF_HUB_OFFLINE"] = "1"


def _hub_answers():
    """False if the hub's host cannot be reached; True if it can, or if a proxy stands between."""
    import socket
    import urllib.parse
    import urllib.request

    if urllib.request.getproxies():
        return True
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((endpoint.hostname, endpoint.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
