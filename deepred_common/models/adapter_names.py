"""The names of an adapter's tensors, which differ between tools: made peft's own, and found in a base.

A checkpoint may say `language_model.model.layers.0…`, the model that transformers makes of it
`model.language_model.layers.0…`, its text part alone `model.layers.0…`; wrappers of torch add words of their
own, and what is saved without peft's help says `lora_A.default.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIX = "base_model.model."  # peft's, before the name in the model that was trained

# The words that are in some of these names and not in others. What tells tensors apart is none of them.
OPTIONAL_WORDS = {
    "base_model",
    "model",
    "language_model",
    "transformer",  # GPT-2's; its checkpoint does without
    "vision_model",
    "module",  # torch's DistributedDataParallel
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
}
# peft's name of an adapter ("default") after one of its own words, which its files do without.
LORA_NAME = re.compile(r"\.(lora_\w+)\.(?!weight$|bias$)\w+")
TRAINED_COPY = re.compile(r"\.modules_to_save(?:\.(?!weight$|bias$)\w+)?")
UNTRAINED_COPY = ".original_module."
# Where a tensor's name goes on after that of its module.
TENSOR = re.compile(r"\.(?:lora_\w+|token_adapter|base_layer|weight|bias)(?:\.|$)")


def tidy(name: str) -> str | None:
    """A tensor's name in an adapter's file as peft writes it, without PREFIX; None if it was not trained."""
    if UNTRAINED_COPY in name:
        return None
    return TRAINED_COPY.sub("", LORA_NAME.sub(r".\1", name.removeprefix(PREFIX)))


def module_of(name: str) -> str:
    """The module that a tensor of an adapter, by its tidy name, belongs to."""
    match = TENSOR.search(name)
    return name[: match.start()] if match else name


def core(name: str) -> str:
    """What all names of a tensor or module have in common: "layers.0.self_attn.q_proj.weight"."""
    return ".".join(word for word in name.split(".") if word not in OPTIONAL_WORDS)


def by_core(names: Iterable[str]) -> dict[str, str]:
    """{core: name}, without cores that several of the names have."""
    cores: dict[str, str] = {}
    twice = set()
    for name in names:
        if cores.setdefault(core(name), name) != name:
            twice.add(core(name))
    return {key: name for key, name in cores.items() if key not in twice}
