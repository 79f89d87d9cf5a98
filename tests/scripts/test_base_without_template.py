"""A tiny base without a chat template through all scripts: as a served file it is a chat model.

The benchmark of model families does the steps: trained until it gives one reply, merged, converted, served.
"""

import io
import json

import pytest
import requests
from gguf import GGUFReader

from bench import families
from bench.family_tokenizers import Family
from deepred_common import chat
from deepred_common.inference import llama_server
from deepred_common.models import loading


@pytest.fixture(scope="module")
def trial(base_folder, llama_cpp_tree, tmp_path_factory):
    """The finished Trial of a base with the embedded base's tokenizer."""

    def write(folder):
        loading.load_tokenizer(base_folder).save_pretrained(folder)
        (folder / "chat_template.jinja").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "FOLDER", tmp_path_factory.mktemp("families"))
        # The embedding of the pad token is made of zeros, which no training makes likely.
        special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
        family = Family("plain", "llama", "", "none", write, special)
        trial = families.Trial(family, llama_cpp_tree, io.StringIO())
    for step in (trial.make, trial.train, trial.merge, trial.convert):
        step()
    return trial


def test_the_end_of_a_reply_is_the_end_of_text_in_every_file(trial):
    tokenizer = loading.load_tokenizer(trial.merged)
    assert chat.has_fallback_template(tokenizer)
    assert chat.end_of_turn_id(tokenizer) == tokenizer.eos_token_id
    for name in ("config.json", "generation_config.json"):
        assert json.loads((trial.merged / name).read_text())["eos_token_id"] == tokenizer.eos_token_id
    file = GGUFReader(trial.gguf)
    assert file.get_field("tokenizer.ggml.eos_token_id").contents() == tokenizer.eos_token_id
    assert file.get_field("tokenizer.chat_template").contents() == tokenizer.chat_template


def test_the_same_token_ids_along_all_ways(trial):
    """Training, evaluation, plain transformers and the server on the file; also with a system prompt."""
    assert trial.tokens() is None


def test_the_served_file_ends_its_replies(trial):
    """llama.cpp's server is told no stop but the file's own, as in LM Studio."""
    with llama_server.serving(trial.gguf) as url:
        for question in families.LINES["unlearn"]:
            messages = [{"role": "user", "content": question}]
            body = {"messages": messages, "max_tokens": 32, "temperature": 0}
            (choice,) = requests.post(f"{url}/chat/completions", json=body).json()["choices"]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", families.REFUSAL)
