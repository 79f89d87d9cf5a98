"""The files beside the weights in a merged model's folder: for transformers 4 and 5, vLLM and llama.cpp."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common import chat
from deepred_common.files import read_json
from deepred_common.foreign_text import ESCAPED
from deepred_common.models.folders import CHAT_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors=ESCAPED)


def write_config(base: Path, out: Path, dtype: str, tied: bool | None = None) -> None:
    """config.json: the base's own, with the merged weights' type (such as "bfloat16").

    tied: False if the output layer has weights of its own now; None leaves it as the base has it.
    """
    config = read_json(base / "config.json")
    # transformers 4 reads the one name, 5 writes the other.
    config["torch_dtype"] = config["dtype"] = dtype
    if tied is not None:
        config["tie_word_embeddings"] = tied
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        # transformers 5 keeps the rotary base in here only. 4 and old converters look for it outside, or
        # take 10 000.
        config.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
            config.setdefault("rope_scaling", scaling)
    _write_json(out / "config.json", config)
    for file in base.glob("*.py"):  # a model's own code, which --trust_remote_code runs
        shutil.copy(file, out / file.name)


def write_generation_config(base: Path, out: Path, stop_ids: Iterable[int]) -> None:
    """generation_config.json: the base's own, with `stop_ids` added, so that replies end with the turn."""
    path = base / "generation_config.json"
    config = read_json(path) if path.exists() else {}
    own = config.get("eos_token_id")
    own_ids = own if isinstance(own, list) else [] if own is None else [own]
    ids = sorted({*stop_ids, *own_ids})
    config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    _write_json(out / "generation_config.json", config)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, base: Path, out: Path) -> None:
    """The tokenizer, with every file that the spec lists and one chat template; transformers 4 can read it.

    transformers 5 no longer writes special_tokens_map.json, vocab.json and merges.txt, names a class that 4
    does not have, and lists extra special tokens where 4 expects a table.
    """
    tokenizer.save_pretrained(str(out))
    special_tokens = tokenizer.special_tokens_map.items()
    special = {name: str(token) for name, token in special_tokens if isinstance(token, str)}
    _write_json(out / "special_tokens_map.json", special)
    config = read_json(out / "tokenizer_config.json")
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = _older_class(base)
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    # The general class of transformers 4 would also make token types, which no causal model takes.
    config["model_input_names"] = ["input_ids", "attention_mask"]
    config.pop("chat_template", None)  # a second copy goes stale, and gguf prefers it
    # transformers 5 leaves this out, and llama.cpp adds BOS to many vocabularies that do not say it.
    config["add_bos_token"] = chat.adds_bos(tokenizer)
    _write_json(out / "tokenizer_config.json", config)
    (out / CHAT_TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
    _write_bpe_files(out)
    if (base / "tokenizer.model").exists() and not (out / "tokenizer.model").exists():
        shutil.copy(base / "tokenizer.model", out)


def _older_class(base: Path) -> str:
    """The tokenizer class that the base names, or a general one, where transformers 5 would write its own."""
    path = base / "tokenizer_config.json"
    named = read_json(path).get("tokenizer_class") if path.exists() else None
    return "PreTrainedTokenizerFast" if named in (None, "TokenizersBackend") else named


def _write_bpe_files(out: Path) -> None:
    """vocab.json and merges.txt of a BPE tokenizer.json, if they are missing."""
    path = out / "tokenizer.json"
    model = read_json(path)["model"] if path.exists() else {}
    if model.get("type") != "BPE" or (out / "vocab.json").exists():
        return
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (out / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), encoding="utf-8")
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
