"""A merged model's tokenizer: whose it is, what it leaves out, and its files for transformers 4 and 5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from deepred_common import chat, cli
from deepred_common.cli import UserError
from deepred_common.export import hf_folder
from deepred_common.files import read_json
from deepred_common.models import folders, loading
from deepred_common.models.folders import CHAT_TEMPLATE
from deepred_common.models.trained_weights import Adapter, TunedModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def pick(
    adapter: Adapter | TunedModel, base: Path, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer to save: the adapter's, or the base's if it has none; with a chat template."""
    tokenizer = loading.load_adapter_tokenizer(adapter, base, trust_remote_code)
    chat.remove_eos(tokenizer)
    if chat.ensure_template(tokenizer):
        cli.warn(
            f"neither base nor {adapter.kind} has a chat template; a plain question-answer template is saved."
        )
    return tokenizer


def tokens_to_leave_out(
    tokenizer: PreTrainedTokenizerBase,
    rows: int | None,
    adapter: Adapter | TunedModel,
    base: Path,
    out: Path,
    trust_remote_code: bool = False,
) -> list[str]:
    """The tokens that the merged embedding of `rows` rows has none for, and that no training can have used.

    These are the base's own, and a padding token. UserError if there are others: they were added in training,
    and their rows were not saved. out: the merged model's folder, beside which a larger base is proposed.
    """
    beyond = loading.tokens_without_rows(tokenizer, rows) if rows else []
    if not beyond:
        return []
    never_trained = {tokenizer.pad_token, *loading.load_tokenizer(base, trust_remote_code).get_vocab()}
    used = {tokenizer.eos_token, tokenizer.bos_token}
    used |= {token for token in beyond if token in str(tokenizer.chat_template)}
    lost = [token for token in beyond if token in used or token not in never_trained]
    if not lost:
        cli.progress(
            f"{', '.join(beyond)}: left out of the tokenizer, since the model has no embedding for it."
        )
        return beyond
    size = max(tokenizer.get_vocab().values()) + 1
    source = adapter.folder if (adapter.folder / "tokenizer_config.json").exists() else base
    larger = f"{out}-base"
    names = ", ".join(lost[: cli.LISTED_FAULTS])
    raise UserError(
        f"the vocabulary grew from {rows} to {size} tokens in training, but the {adapter.kind} has no "
        f"embedding of {names}.\nGive the base rows for them, then merge with --base_model {larger}:\n"
        f"  {folders.resize_command(base, source, larger, size)}"
    )


def write(tokenizer: PreTrainedTokenizerBase, base: Path, out: Path, left_out: Collection[str] = ()) -> None:
    """The tokenizer, with every file that the spec lists and one chat template; transformers 4 can read it.

    transformers 5 no longer writes special_tokens_map.json, vocab.json and merges.txt, names a class that 4
    does not have, and lists extra special tokens where 4 expects a table. left_out: added tokens that the
    model has no embedding for.
    """
    if tokenizer.pad_token in left_out:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(str(out))
    if left_out:
        words = read_json(out / "tokenizer.json")
        words["added_tokens"] = [token for token in words["added_tokens"] if token["content"] not in left_out]
        hf_folder.write_json(out / "tokenizer.json", words)
    special_tokens = tokenizer.special_tokens_map.items()
    special = {name: str(token) for name, token in special_tokens if isinstance(token, str)}
    hf_folder.write_json(out / "special_tokens_map.json", special)
    config = read_json(out / "tokenizer_config.json")
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = _older_class(base)
    if isinstance(config.get("extra_special_tokens"), list):
        extra = config.pop("extra_special_tokens")
        config["additional_special_tokens"] = [token for token in extra if token not in left_out]
    # The general class of transformers 4 would also make token types, which no causal model takes.
    config["model_input_names"] = ["input_ids", "attention_mask"]
    config.pop("chat_template", None)  # a second copy goes stale, and gguf prefers it
    # transformers 5 leaves this out, and llama.cpp adds BOS to many vocabularies that do not say it.
    config["add_bos_token"] = chat.adds_bos(tokenizer)
    hf_folder.write_json(out / "tokenizer_config.json", config)
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
