"""What the converter is told of a model beside its files, so that a server makes the same tokens."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deepred_common.files import read_json
from deepred_common.models import folders

# The tokens that llama.cpp looks up in a vocabulary of Phi-3; it loads no file of that name without them.
_PHI_3_TOKENS = {"<unk>", "<s>", "</s>", "<|endoftext|>"}


@contextlib.contextmanager
def arguments(model: Path) -> Iterator[list[str]]:
    """The converter's arguments that say what to convert: `model` or a view of it, and its name if needed."""
    model = model.resolve()
    name = ["--model-name", _phi_3_name(model.name)] if _strips_as_phi_3(model) else []
    changes: dict[str, Any] = {"add_prefix_space": False} if _puts_no_spaces(model) else {}
    if added := _unlisted_tokens(model):
        changes["added_tokens_decoder"] = added
    if not changes:
        yield [str(model), *name]
        return
    with tempfile.TemporaryDirectory() as scratch:
        view = Path(scratch) / model.name
        view.mkdir()
        for entry in model.iterdir():
            if entry.name != "tokenizer_config.json":
                (view / entry.name).symlink_to(entry)
        config = read_json(model / "tokenizer_config.json") | changes
        (view / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        yield [str(view), *name]


def _unlisted_tokens(model: Path) -> dict[str, Any]:
    """{id: token} of added tokens, which transformers 5 writes into tokenizer.json alone; {} if listed.

    The converter reads a SentencePiece vocabulary from tokenizer.model, and the tokens added to it from
    tokenizer_config.json. A server would spell out the others.
    """
    file, config = model / "tokenizer.json", model / "tokenizer_config.json"
    if not all(path.exists() for path in (file, config, model / "tokenizer.model")):
        return {}
    if "added_tokens_decoder" in read_json(config):
        return {}
    return {str(token["id"]): token for token in read_json(file).get("added_tokens", [])}


def _strips_as_phi_3(model: Path) -> bool:
    """True if special tokens take the white space after them away, as Phi-3's do.

    A GGUF file cannot say so. llama.cpp does it if the model's name has "phi-3" in it (llama-vocab.cpp).
    """
    file = model / "tokenizer.json"
    if read_json(model / "config.json").get("model_type") != "phi3" or not file.exists():
        return False
    added = read_json(file).get("added_tokens", [])
    strip = any(token.get("rstrip") for token in added)
    return strip and {token["content"] for token in added} >= _PHI_3_TOKENS


def _phi_3_name(folder: str) -> str:
    """The folder's name, as by default, but with "phi-3" in it, whose hyphen the converter would remove."""
    return folder if "phi-3" in folder.lower() else f"Phi-3 {folder}"


def _puts_no_spaces(model: Path) -> bool:
    """True if a SentencePiece tokenizer puts no space before a text that follows BOS, as all of a chat does.

    llama.cpp puts one before each text unless told, and so a second one after Mistral's "[INST] ".
    """
    file = model / "tokenizer.json"
    if not file.exists() or not read_json(file)["model"].get("byte_fallback"):
        return False
    vocabulary, template = folders.read_vocabulary(model), folders.read_chat_template(model)
    bos = vocabulary and vocabulary.special["bos"]
    if not bos or not template or ("bos_token" not in template and bos not in template):
        return False
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file)).encode(f"{bos}a", add_special_tokens=False).tokens[1] == "a"
