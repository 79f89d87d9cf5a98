"""Model folders and hub names: what they are, checked before anything is loaded, and loading them.

A model is given as a folder (a whole model, or a LoRA adapter whose base stands in its config) or as a hub name.
"""

import contextlib
import hashlib
import logging
import os
import warnings
from pathlib import Path

from deepred_common import provenance
from deepred_common.cli import UserError
from deepred_common.models.folders import embedded_base_hint, looks_like_path


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
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[
                :300
            ]
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
                raise UserError(
                    f"{name} needs code of its own. Pass --trust_remote_code if you trust its authors."
                ) from error
            raise


def require_same_tokens(tokenizer, own, adapter, base):
    """UserError unless each token of the base's tokenizer has the same number in the adapter's `own`.

    Two models of one shape but of different families would merge without a murmur: their tokens tell them apart.
    """
    numbers = own.get_vocab()
    if any(numbers.get(token) != number for token, number in tokenizer.get_vocab().items()):
        raise UserError(
            f"the adapter {adapter.folder} does not fit the base {base}: their tokenizers differ.\n"
            f"It was trained on {adapter.base}."
        )


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
        detail = next(
            (line.strip() for line in str(error).splitlines() if "size mismatch" in line),
            str(error).splitlines()[0],
        )
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
    return hashlib.sha256(
        "".join(provenance.sha256(file) for file in sorted(folder.glob("*.safetensors"))).encode()
    ).hexdigest()


def revision(name, config):
    """The hub's commit that a model came from; None for a folder, whose config has none."""
    return None if Path(name).is_dir() else config._commit_hash
