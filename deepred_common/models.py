"""Model folders and hub names: what they are, checked before anything is loaded, and loading them.

A model is given as a folder (a whole model, or a LoRA adapter whose base stands in its config) or as a hub name.
"""

import contextlib
import hashlib
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from deepred_common import paths, runs
from deepred_common.cli import UserError

ADAPTER_CONFIG = "adapter_config.json"


def embedded_base_hint():
    """What to do when no hub can be reached."""
    how = "" if (paths.EMBEDDED_BASE / "config.json").exists() else " (make it: python -m deepred_common.embedded_base)"
    return f"Without a hub, use the embedded base: {paths.shown(paths.EMBEDDED_BASE)}{how}"


def looks_like_path(name):
    """True if `name` can only be meant as a folder: it exists, or is no `organisation/model` hub name."""
    text = str(name)
    if Path(text).expanduser().exists():
        return True
    return text.startswith((".", "/", "~")) or text.count("/") > 1 or text.endswith("/") or text.startswith("output/")


def read_json(path):
    """The object in a JSON file; UserError naming the file if it is missing or cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}). The file may be damaged; make it again.") from None


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
            raise UserError(f"{folder} is a LoRA adapter, not a whole model. Merge it first:\n"
                            f"  python scripts/merge_lora.py --base_model BASE --lora_path {folder} --output_path output/merged")
        raise UserError(f"{folder} is not a model folder: it has no config.json.")
    config = read_json(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        other = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(pattern))
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
        raise UserError(f"{folder} has no adapter_model.safetensors; the save was cut short, or it is not a LoRA adapter.")
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


@contextlib.contextmanager
def hub_errors(name):
    """Turn the many ways in which a model cannot be had into one UserError.

    transformers and huggingface_hub report an unknown name, a gated one and a dead network all as kinds of OSError.
    """
    try:
        yield
    except OSError as error:
        if getattr(error, "errno", None) is not None:  # a real file error: disk full, no permission
            raise
        if looks_like_path(name):
            raise UserError(f"{name} cannot be loaded: {str(error).splitlines()[0]}") from error
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            reason = "the hub cannot be reached, and the model is not in the local cache."
        else:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
        raise UserError(f"the model {name} cannot be had: {reason}\n{embedded_base_hint()}") from error


def quiet_libraries():
    """Keep transformers' and the tokenizers' own chatter out of what the user reads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    # peft and trl still use names that transformers 5 calls deprecated; bitsandbytes tells of kernels it can do without.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def load_tokenizer(name, trust_remote_code=False):
    """The tokenizer of a model folder or hub name, unchanged."""
    from transformers import AutoTokenizer

    with hub_errors(name):
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)


def load_model(name, dtype, trust_remote_code=False, **options):
    """The causal language model of a folder or hub name in `dtype` (a torch.dtype), from safetensors only.

    options: passed to from_pretrained (quantization_config, attn_implementation, device_map …).
    """
    from transformers import AutoModelForCausalLM

    with hub_errors(name):
        try:
            return AutoModelForCausalLM.from_pretrained(
                str(name), dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, **options
            )
        except ValueError as error:
            if "trust_remote_code" in str(error):
                raise UserError(f"{name} needs code of its own. Pass --trust_remote_code if you trust its authors.") from error
            raise


def require_same_tokens(tokenizer, own, adapter, base):
    """UserError unless each token of the base's tokenizer has the same number in the adapter's `own`.

    Two models of one shape but of different families would merge without a murmur: their tokens tell them apart.
    """
    numbers = own.get_vocab()
    if any(numbers.get(token) != number for token, number in tokenizer.get_vocab().items()):
        raise UserError(f"the adapter {adapter.folder} does not fit the base {base}: their tokenizers differ.\n"
                        f"It was trained on {adapter.base}.")


def load_with_adapter(adapter, dtype, base=None, trust_remote_code=False):
    """(model, tokenizer): the adapter's base (or `base`, if given) with the LoRA adapter on top, not merged.

    UserError if the two do not fit.
    """
    from peft import PeftModel

    base = base or adapter.base
    model = load_model(base, dtype, trust_remote_code)
    tokenizer = load_tokenizer(base, trust_remote_code)
    if (adapter.folder / "tokenizer_config.json").exists():
        own = load_tokenizer(adapter.folder, trust_remote_code)
        require_same_tokens(tokenizer, own, adapter, base)
        tokenizer = own
    try:
        model = PeftModel.from_pretrained(model, str(adapter.folder))
    except (RuntimeError, ValueError, KeyError) as error:
        detail = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error).splitlines()[0])
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}: {detail[:200]}\n"
            f"It was trained on {adapter.base}."
        ) from error
    return model, tokenizer


def identity(name, config):
    """What tells a model's weights from others: one SHA-256 for all of a folder's weight files, or the hub's commit.

    config: its transformers config, which knows the commit.
    """
    folder = Path(name)
    if not folder.is_dir():
        return revision(name, config)
    return hashlib.sha256("".join(runs.sha256(file) for file in sorted(folder.glob("*.safetensors"))).encode()).hexdigest()


def revision(name, config):
    """The hub's commit that a model came from; None for a folder, whose config has none."""
    return None if Path(name).is_dir() else config._commit_hash
