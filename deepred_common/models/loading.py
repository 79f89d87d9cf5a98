"""Loading models, tokenizers and adapters with transformers and peft, and what identifies a model's weights.

A model is given as a folder (a whole model, or a LoRA adapter whose base its config names) or as a hub name.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import chat, provenance
from deepred_common.cli import UserError
from deepred_common.models.folders import Adapter, default_template, embedded_base_hint, looks_like_path

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

LONGEST_REASON = 300  # characters of a library's error that are shown
# What a model needs besides its weights; no *.bin, *.pt or *.py is downloaded for a merge.
DOWNLOADED_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")


@contextlib.contextmanager
def hub_errors(name: str | Path) -> Iterator[None]:
    """Turn the many ways in which a model cannot be loaded into one UserError.

    transformers and huggingface_hub report an unknown name, a gated model and a missing network all as kinds
    of OSError.
    """
    try:
        yield
    except OSError as error:
        if getattr(error, "errno", None) is not None:  # a real file error: disk full, no permission
            raise
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        if looks_like_path(name):
            raise UserError(f"{name} could not be loaded: {lines[0]}") from error
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            reason = "the hub cannot be reached, and the model is not in the local cache."
        else:
            reason = lines[0][:LONGEST_REASON]
        raise UserError(f"the model {name} could not be loaded: {reason}\n{embedded_base_hint()}") from error


def quiet_libraries() -> None:
    """Keep the libraries' own messages out of what the user reads."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")
    # peft and trl still use names that transformers 5 calls deprecated; bitsandbytes names optional kernels.
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def download(name: str, revision: str | None = None) -> Path:
    """The folder of a hub model's files in the local cache, downloaded if need be; UserError if that fails.

    revision: a commit, branch or tag; None for the default branch.
    """
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(DOWNLOADED_FILES)))


def load_tokenizer(name: str | Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name, with one chat template at most.

    Of several templates it keeps `default`, as llama.cpp does. UserError if none has that name.
    """
    from transformers import AutoTokenizer

    with hub_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = default_template(tokenizer.chat_template, name)
    chat.space_as_server(tokenizer)
    return tokenizer


def load_model(name: str | Path, dtype: torch.dtype, trust_remote_code: bool = False, **options: Any) -> Any:
    """The causal language model, a PreTrainedModel, of a folder or hub name in `dtype`; safetensors only.

    Any, since type checkers misread what transformers makes of PreTrainedModel.to(). options: passed to
    from_pretrained (quantization_config, attn_implementation, device_map …).
    """
    from transformers import AutoModelForCausalLM

    with hub_errors(name):
        try:
            return AutoModelForCausalLM.from_pretrained(
                str(name), dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, **options
            )
        except ValueError as error:
            if "trust_remote_code" in str(error):
                raise UserError(
                    f"{name} needs code of its own. Pass --trust_remote_code if you trust its authors."
                ) from error
            raise


def require_same_tokens(
    tokenizer: PreTrainedTokenizerBase,
    adapter_tokenizer: PreTrainedTokenizerBase,
    adapter: Adapter,
    base: str | Path,
) -> None:
    """UserError unless each token of the base's `tokenizer` has the same id in the adapter's.

    Two models of one shape but of different families would merge without an error; their tokens differ.
    """
    ids = adapter_tokenizer.get_vocab()
    if any(ids.get(token) != number for token, number in tokenizer.get_vocab().items()):
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}: their tokenizers differ.\n"
            f"It was trained on {adapter.base}."
        )


def load_adapter_tokenizer(
    adapter: Adapter, base: str | Path, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer, whose chat template it was trained with; the base's, if it has none.

    base: a folder or hub name. UserError if the two tokenizers differ in their tokens.
    """
    tokenizer = load_tokenizer(base, trust_remote_code)
    if not (adapter.folder / "tokenizer_config.json").exists():
        return tokenizer
    adapter_tokenizer = load_tokenizer(adapter.folder, trust_remote_code)
    require_same_tokens(tokenizer, adapter_tokenizer, adapter, base)
    return adapter_tokenizer


def load_with_adapter(
    adapter: Adapter, dtype: torch.dtype, base: str | Path | None = None, trust_remote_code: bool = False
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer): the adapter's base (or `base`, if given) with the LoRA adapter on top, not merged.

    The model is a PeftModel. UserError if base and adapter do not fit.
    """
    from peft import PeftModel

    base = base or adapter.base
    model = load_model(base, dtype, trust_remote_code)
    tokenizer = load_adapter_tokenizer(adapter, base, trust_remote_code)
    try:
        return PeftModel.from_pretrained(model, str(adapter.folder)), tokenizer
    except (RuntimeError, ValueError, KeyError) as error:
        lines = str(error).splitlines()
        detail = next((line.strip() for line in lines if "size mismatch" in line), lines[0])
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}: {detail[:LONGEST_REASON]}\n"
            f"It was trained on {adapter.base}."
        ) from error


def identity(name: str | Path) -> str | None:
    """What identifies a model's weights: one SHA-256 of all of a folder's weight files; the hub's commit."""
    folder = Path(name)
    if not folder.is_dir():
        return revision(name)
    hashes = [provenance.sha256(file) for file in sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def revision(name: str | Path) -> str | None:
    """The hub's commit that a model was loaded from; None for a folder, which has none."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return None
    # transformers' configs no longer know it; the cache keeps each commit's files in a folder of that name.
    cached = try_to_load_from_cache(str(name), "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else None
