"""What the libraries raise when a model cannot be loaded, as one error that says what to do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.models import architectures
from deepred_common.models.folders import embedded_base_hint, looks_like_path

LONGEST_REASON = 300  # characters of a library's error that are shown
DOWNLOAD_AGAIN = "Are all its files of one version? Download them again."


@contextlib.contextmanager
def hub_errors(name: str | Path) -> Iterator[None]:
    """Turn the many ways in which a model cannot be loaded into one UserError.

    transformers and huggingface_hub report an unknown name, a gated model and a missing network all as kinds
    of OSError; what is wrong with a model's files, in the ways that _file_fault tells.
    """
    try:
        yield
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        if lines[0].endswith(":"):  # the reason itself follows
            lines[:2] = [" ".join(lines[:2])]
        reason = lines[0][:LONGEST_REASON]
        fault = _file_fault(error, reason)
        if fault:
            raise UserError(f"{name} could not be loaded: {fault}") from error
        # With a number it is a real file error: disk full, no permission.
        if not isinstance(error, OSError) or error.errno is not None:
            raise
        if looks_like_path(name):
            raise UserError(f"{name} could not be loaded: {reason}") from error
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            reason = "the hub cannot be reached, and the model is not in the local cache."
        advice = _token_advice(error) or embedded_base_hint()
        raise UserError(f"the model {name} could not be loaded: {reason}\n{advice}") from error


def _token_advice(error: BaseException) -> str | None:
    """What to do if the hub refused a request that a token was sent with: it says no model is there, either.

    None if it did not, or there is no token.
    """
    from huggingface_hub import get_token

    chain: BaseException | None = error
    while chain is not None and getattr(getattr(chain, "response", None), "status_code", None) != 401:
        chain = chain.__cause__ or chain.__context__
    if chain is None or not get_token():
        return None
    return (
        "The hub refused the access token of this machine; an old one spoils even what is open to all. "
        "Get a new one (hf auth login), or leave it out (unset HF_TOKEN; hf auth logout)."
    )


def _file_fault(error: Exception, reason: str) -> str | None:
    """What is wrong with a model's files, and what to do; None if that is not what `error` says.

    reason: its first line.
    """
    from huggingface_hub.errors import HFValidationError
    from safetensors import SafetensorError

    text = str(error)
    if isinstance(error, ValueError) and "trust_remote_code" in text:
        return "it needs code of its own. Pass --trust_remote_code if you trust its authors."
    if isinstance(error, (ValueError, KeyError)) and "does not recognize this architecture" in text:
        return f"{reason}\nIt may be newer than your transformers: {architectures.UPGRADE}"
    if isinstance(error, SafetensorError):
        return f"its weights cannot be read ({reason}). Download them again."
    if isinstance(error, RuntimeError) and "quantiz" in text and "bitsandbytes" not in text:
        return f"{reason}\nTake the model's 16-bit original."
    if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" in text:
        return f"its weights have other shapes than its config.json says. {DOWNLOAD_AGAIN}"
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return reason
    if type(error) is Exception:  # all that the tokenizers library raises
        return (
            f"its tokenizer.json cannot be read ({reason}). Download it again, or, if it is newer:\n"
            f"  {architectures.UPGRADE} tokenizers"
        )
    if isinstance(error, HFValidationError):
        return "it is neither a folder that exists nor a name on the hub."
    if isinstance(error, (ValueError, KeyError)) and not isinstance(error, OSError):
        return f"{reason} ({type(error).__name__}). {DOWNLOAD_AGAIN}"
    return None
