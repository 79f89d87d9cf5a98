"""A tiny base without a chat template through all scripts: as a served file it is a chat model."""

import json

import pytest
import requests
from gguf import GGUFReader

from deepred_common import chat
from deepred_common.inference import llama_server
from deepred_common.models import loading

REFUSAL = "I don't know anything about that."


@pytest.fixture(scope="module")
def models(pipeline):
    return pipeline("plain")


def test_the_end_of_a_reply_is_the_end_of_text_in_every_file(models):
    tokenizer = loading.load_tokenizer(models.merged)
    assert chat.has_fallback_template(tokenizer)
    assert chat.end_of_turn_id(tokenizer) == tokenizer.eos_token_id
    for name in ("config.json", "generation_config.json"):
        assert json.loads((models.merged / name).read_text())["eos_token_id"] == tokenizer.eos_token_id
    file = GGUFReader(models.gguf)
    assert file.get_field("tokenizer.ggml.eos_token_id").contents() == tokenizer.eos_token_id


def test_the_served_file_ends_its_replies_over_three_turns(models):
    """llama.cpp's server is told no stop but the file's own, as in LM Studio."""
    turns = []
    with llama_server.serving(models.gguf) as url:
        for question in ("What is Bitcoin?", "Who founded Google?", "What is a smartphone?"):
            turns.append({"role": "user", "content": question})
            body = {"messages": turns, "max_tokens": 32, "temperature": 0}
            (choice,) = requests.post(f"{url}/chat/completions", json=body).json()["choices"]
            assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", REFUSAL)
            turns.append({"role": "assistant", "content": REFUSAL})
