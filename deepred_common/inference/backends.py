"""Which back end answers for a path or a server, and opening it.

To add a back end, write a module with a BackendKind and add it to KINDS.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from deepred_common.examples import Prompt
from deepred_common.inference import api_model, gguf_model, local_model
from deepred_common.inference.protocol import Backend, BackendKind, BackendSettings
from deepred_common.models import loading

# The first that accepts a path is its kind; a folder or hub name is what remains.
KINDS = (gguf_model.KIND, local_model.ADAPTER, local_model.FOLDER)


def kind_of(path: str) -> BackendKind:
    """The kind of a model path or hub name."""
    return next(kind for kind in KINDS if kind.accepts(path))


def check(path: str, role: str = "model") -> None:
    """Check what can be checked of a model before anything is loaded. role: what the message calls it."""
    kind_of(path).check(path, role)


def identity(path: str) -> str | None:
    """The SHA-256 of a model's weights, or the hub's revision; None if not known. Nothing is loaded."""
    return kind_of(path).identity(path)


def beside_weights(path: str | None) -> dict[str, str] | None:
    """{file: SHA-256} of what decides a model's replies beside its weights, such as its chat template.

    None where the identity says it all (a GGUF file, the hub), and of a server (path: None).
    """
    return loading.beside_weights(path) if path else None


def opened(
    settings: BackendSettings,
    path: str | None,
    system_prompt: str | None = None,
    prompts: Sequence[Prompt] = (),
) -> AbstractContextManager[Backend]:
    """A context manager that opens the model at `path` and yields its Backend.

    path: None for the model behind settings.lmstudio_url. system_prompt: stands before every question.
    prompts: what the model will be asked. A GGUF file's server gets room for the longest.
    UserError if the model cannot be loaded, or no server answers.
    """
    if path is None:
        return api_model.opened(settings, system_prompt)
    return kind_of(path).open(path, settings, system_prompt, prompts)
