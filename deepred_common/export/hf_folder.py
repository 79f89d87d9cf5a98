"""The configs beside the weights in a merged model's folder: for transformers 4 and 5, vLLM and llama.cpp."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepred_common.files import read_json
from deepred_common.foreign_text import ESCAPED
from deepred_common.models import terms
from deepred_common.models.architectures import TEXT_PART, text_part


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as transformers does; what is no valid text is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors=ESCAPED)


# Settings that peft's own merge can change: a larger vocabulary, embeddings untied.
CHANGED_BY_PEFT = ("vocab_size", "tie_word_embeddings")


def write_config(base: Path, out: Path, dtype: str, changes: Mapping[str, Any]) -> None:
    """config.json: the base's own, with the merged weights' type (such as "bfloat16") and with `changes`.

    changes: {setting of the language model: value} of what merging changed, such as {"vocab_size": 49154}.
    """
    config = read_json(base / "config.json")
    is_nested = text_part(config) is not config
    text: dict[str, Any] = config[TEXT_PART] if is_nested else config
    # transformers 4 reads the one name, 5 writes the other.
    config["torch_dtype"] = config["dtype"] = dtype
    text.update(changes)
    if "tie_word_embeddings" in changes:  # in a nested config, this one is read from outside
        config["tie_word_embeddings"] = changes["tie_word_embeddings"]
    _add_older_rope(text)
    write_json(out / "config.json", config)
    # A model's own code, which --trust_remote_code runs; what an image or a sound becomes.
    for pattern in ("*.py", "*processor_config.json"):
        for file in base.glob(pattern):
            shutil.copy(file, out / file.name)
    terms.copy(base, out)


def changes_by_peft(base: Path, out: Path) -> dict[str, Any]:
    """{setting: value} of what peft's merge, saved by transformers in `out`, changed of the base's config."""
    before, after = read_json(base / "config.json"), read_json(out / "config.json")
    return {
        name: after[name] for name in CHANGED_BY_PEFT if after.get(name, before.get(name)) != before.get(name)
    }


def _add_older_rope(config: dict[str, Any]) -> None:
    """Beside rope_parameters, where transformers 5 keeps all about rotary positions, what others read.

    transformers 4 and old converters look for the rotary base outside, or take 10 000.
    """
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict):
        return
    if isinstance(rope.get("full_attention"), dict):  # Gemma 3: one for each kind of layer
        sliding = rope.get("sliding_attention") or {}
        if "rope_theta" in sliding:
            config.setdefault("rope_local_base_freq", sliding["rope_theta"])
        rope = rope["full_attention"]
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            config.setdefault(name, rope[name])
    if rope.get("rope_type", "default") != "default":
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        config.setdefault("rope_scaling", scaling)


def write_generation_config(base: Path, out: Path, stop_ids: Iterable[int]) -> None:
    """generation_config.json: the base's own, with `stop_ids` added, so that replies end with the turn."""
    path = base / "generation_config.json"
    config = read_json(path) if path.exists() else {}
    own = config.get("eos_token_id")
    own_ids = own if isinstance(own, list) else [] if own is None else [own]
    ids = sorted({*stop_ids, *own_ids})
    config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    write_json(out / "generation_config.json", config)
