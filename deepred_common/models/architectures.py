"""Whether the installed transformers can load what a config.json describes as a causal language model."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from deepred_common.models.safetensors_files import Entry

UPGRADE = "pip install -U transformers"
TEXT_PART = "text_config"  # the text part's own config, nested where a checkpoint also sees or hears
# Names of tensors in a checkpoint with other parts beside the text, and in a model of the text part alone.
TEXT_PART_NAMES = {r"^language_model\.": "", r"^model\.language_model\.": "model."}
# In the name of a module or tensor that takes images or sound, beside the language model.
OTHER_PARTS = re.compile(r"vision|visual|image|audio|multi_?modal|(?:^|\.)mm_")
AUTO_CLASSES = "models/auto"  # in transformers' sources
CONFIG_FILES = ("auto_mappings.py", "configuration_auto.py")
CONFIG_LINE = re.compile(r'"([^"]+)"[,:] "\w+Config"')  # ("llama", "LlamaConfig"),
CAUSAL_FILES = ("modeling_auto.py",)
CAUSAL_TABLE = "\nMODEL_FOR_CAUSAL_LM_MAPPING_NAMES = "
CAUSAL_LINE = re.compile(r'\("([^"]+)", "')  # ("llama", "LlamaForCausalLM"),


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that describes the language model: all of it, or what is nested in it."""
    nested = config.get(TEXT_PART)
    return nested if isinstance(nested, dict) else config


def text_tensors(config: Mapping[str, Any], weights: Mapping[str, Entry]) -> dict[str, Entry]:
    """{tensor name: Entry} of the language model alone, named as if there were no part beside it."""
    if text_part(config) is config:
        return dict(weights)
    named = {}
    for name, entry in weights.items():
        if not OTHER_PARTS.search(name):
            for pattern, replacement in TEXT_PART_NAMES.items():
                name = re.sub(pattern, replacement, name)
            named[name] = entry
    return named


def fault(config: Mapping[str, Any]) -> str | None:
    """Why transformers cannot load a model with this config.json, and what to do; None if it can.

    transformers' sources are read, not run: importing it takes seconds. A model with code of its own is not
    judged.
    """
    kind, text_kind = config.get("model_type"), text_part(config).get("model_type")
    if kind is None:
        return "names no model_type in its config.json, so it cannot be loaded. Download it again."
    table = _source(CAUSAL_FILES).partition(CAUSAL_TABLE)[2].partition("\n)")[0]
    known, causal = set(CONFIG_LINE.findall(_source(CONFIG_FILES))), set(CAUSAL_LINE.findall(table))
    if not known or not causal or "auto_map" in config or text_kind is None or text_kind in causal:
        return None
    if kind not in known:
        return (
            f"has the architecture {kind}, which transformers {metadata.version('transformers')} does not "
            f"know.\nIt may be newer: {UPGRADE}"
        )
    if text_kind != kind:
        return (
            f"is a {kind} checkpoint, which also takes images or sound, and its text part ({text_kind}) "
            "cannot be trained alone.\nTake a text-only model, or one of Gemma 3, Mistral Small 3 or Qwen3.5."
        )
    return f"is a {kind} model, no causal language model: it cannot chat. Take a chat model."


def _source(files: tuple[str, ...]) -> str:
    """The text of files of transformers' auto classes; "" if there are none."""
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        return ""
    folder = Path(package.origin).parent / AUTO_CLASSES
    return "".join((folder / name).read_text(encoding="utf-8") for name in files if (folder / name).exists())
