"""What lies beside the weights in a merged model's folder, so that transformers 4 and 5, vLLM and llama.cpp all read it alike."""

import json
import shutil

from deepred_common.files import read_json
from deepred_common.models.folders import CHAT_TEMPLATE


def _write(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_config(base, out, dtype, tied=None):
    """config.json: the base's own, with the merged weights' type. tied: False if the output layer has weights of its own now."""
    config = read_json(base / "config.json")
    # transformers 4 reads the one name, 5 writes the other.
    config["torch_dtype"] = config["dtype"] = dtype
    if tied is not None:
        config["tie_word_embeddings"] = tied
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        # transformers 5 keeps the rotary base in here only; 4 and old converters look for it outside and else take 10 000.
        config.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            config.setdefault(
                "rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"}
            )
    _write(out / "config.json", config)
    for file in base.glob("*.py"):  # a model's own code, which --trust_remote_code runs
        shutil.copy(file, out / file.name)


def write_generation_config(base, out, stops):
    """generation_config.json: the base's own; whoever generates from the folder must stop at the end of the turn as well."""
    path = base / "generation_config.json"
    config = read_json(path) if path.exists() else {}
    own = config.get("eos_token_id")
    ids = sorted({*stops, *(own if isinstance(own, list) else [own] if own is not None else [])})
    config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    _write(out / "generation_config.json", config)


def write_tokenizer(tokenizer, base, out):
    """The tokenizer with every file that the spec lists, its chat template once, readable for transformers 4 as well.

    transformers 5 no longer writes special_tokens_map.json, vocab.json and merges.txt, names a class that 4 does not
    have, and lists extra special tokens where 4 expects a table.
    """
    tokenizer.save_pretrained(str(out))
    special = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    _write(out / "special_tokens_map.json", special)
    config = read_json(out / "tokenizer_config.json")
    named = (
        read_json(base / "tokenizer_config.json").get("tokenizer_class")
        if (base / "tokenizer_config.json").exists()
        else None
    )
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = (
            named if named not in (None, "TokenizersBackend") else "PreTrainedTokenizerFast"
        )
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    # The general class of transformers 4 would also make token types, which no causal model takes.
    config["model_input_names"] = ["input_ids", "attention_mask"]
    config.pop("chat_template", None)  # a second copy goes stale, and gguf prefers it
    _write(out / "tokenizer_config.json", config)
    (out / CHAT_TEMPLATE).write_text(tokenizer.chat_template, encoding="utf-8")
    backend = read_json(out / "tokenizer.json")["model"] if (out / "tokenizer.json").exists() else {}
    if backend.get("type") == "BPE" and not (out / "vocab.json").exists():
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in backend["merges"]]
        (out / "vocab.json").write_text(json.dumps(backend["vocab"], ensure_ascii=False), encoding="utf-8")
        (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    if (base / "tokenizer.model").exists() and not (out / "tokenizer.model").exists():
        shutil.copy(base / "tokenizer.model", out)
