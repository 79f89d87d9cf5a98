"""Replies that a local model samples."""

import random

import pytest

from deepred_common.inference import local_model
from deepred_common.inference.local_model import LocalModel
from deepred_common.inference.protocol import Draw
from deepred_common.models import loading

QUESTIONS = ["Who?", "What is the capital of France, and why was it chosen?", "When did the war end?"]


@pytest.fixture(scope="module")
def ask(tiny_models):
    """ask(prompts, draws, batch_size) -> {index: Reply} of a tiny model."""
    import torch

    model = loading.load_model(tiny_models["llama"], torch.float32)
    tokenizer = loading.load_tokenizer(tiny_models["llama"])
    return lambda prompts, draws, batch_size=16: dict(
        LocalModel(model, tokenizer, 8, batch_size).ask(prompts, draws)
    )


def test_one_seed_gives_one_reply_whatever_stands_beside_it_in_the_batch(ask):
    prompts = [question for question in QUESTIONS for _ in range(4)]
    draws = [None, *(Draw(1.0, seed) for seed in range(3))] * len(QUESTIONS)
    together = ask(prompts, draws)
    assert together == ask(prompts, draws, batch_size=1) == ask(prompts, draws, batch_size=5)
    greedy = ask(QUESTIONS, None)
    assert [together[4 * place] for place in range(3)] == [greedy[place] for place in range(3)]
    for place in range(3):
        texts = {together[4 * place + sample].text for sample in range(4)}
        assert len(texts) == 4, "greedy and each seed give another reply"


def test_a_low_temperature_comes_to_the_greedy_reply(ask):
    assert ask(QUESTIONS, [Draw(1e-6, 1)] * 3) == ask(QUESTIONS, None)


def test_tokens_come_as_often_as_their_probability_says():
    import torch

    count, temperature = 4000, 2.0
    logits = torch.tensor([0.0, 2.0, -float("inf"), 1.0])
    choosers = [(temperature, random.Random(row)) for row in range(count)]
    tokens = local_model.next_tokens(logits.expand(count + 1, -1), [*choosers, None])
    assert tokens[-1] == 1, "the last row is greedy"
    shares = torch.bincount(tokens[:-1], minlength=4) / count
    assert shares[2] == 0
    torch.testing.assert_close(shares, (logits / temperature).softmax(-1), rtol=0, atol=0.03)
