"""Packing rows into one sequence changes neither predictions nor gradients, in any family."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from deepred_common.training import batches, packing
from deepred_common.training_rows import IGNORED

TINY = dict(
    vocab_size=60,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    pad_token_id=0,
)
MORE = {
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 24},
    "gemma3_text": {"head_dim": 8, "sliding_window": 24},
    "mistral": {"sliding_window": 24},
    "qwen3": {"head_dim": 8},
}


def tiny(family):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**TINY, **MORE.get(family, {}))
    return AutoModelForCausalLM.from_config(
        config, attn_implementation="eager" if "gemma2" in family else "sdpa"
    )


@pytest.fixture
def batch():
    """Rows of 18, 24 and 17 tokens whose first 12 are the same, with labels from the 15th on."""
    torch.manual_seed(1)
    start = torch.randint(1, 60, (12,))
    rows = [
        {
            "input_ids": torch.cat([start, torch.tensor([number + 1]), torch.randint(1, 60, (length - 13,))]),
            "reply_start": 14 + number,
            "decision": 14 + number,
            "side": number % 2,
            "learns_wording": False,
            "other_reply": [],
        }
        for number, length in enumerate((18, 24, 17))
    ]
    return batches.collate(rows, pad_id=0)


def packed_and_padded(family, batch, checkpointing=False):
    """For both ways: what is predicted, and its gradients."""
    both = []
    for predict in (packing.packed_logits, packing.padded_logits):
        model = tiny(family)
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.train()
        shapes = []
        model.register_forward_pre_hook(
            lambda _, args, kwargs, shapes=shapes: shapes.append(tuple(kwargs["input_ids"].shape)),
            with_kwargs=True,
        )
        if predict is packing.packed_logits:
            packing.take_packed_rows(model)
        logits = predict(model, batch)
        logits.logsumexp(-1).sum().backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
        both.append((logits, gradients, shapes))
    return both


def assert_alike(packed, padded):
    (logits, gradients, _), (expected, expected_gradients, _) = packed, padded
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("plain_keys", [256, 0])
@pytest.mark.parametrize("family", packing.FAMILIES)
def test_packed_rows_get_the_predictions_and_gradients_of_padded_ones(family, plain_keys, batch, monkeypatch):
    """plain_keys: up to how many keys attention is not computed by torch's fused kernel."""
    monkeypatch.setattr(packing, "PLAIN_KEYS", plain_keys)
    monkeypatch.setattr(packing, "LENGTH_MARGIN", 0)  # so that the rows are two groups
    packed, padded = packed_and_padded(family, batch)
    assert packed[2] == [(1, 12 + 6 + 12 + 5)]
    assert len(padded[0]) == (batch["labels"] != IGNORED).sum()
    assert_alike(packed, padded)


def test_packed_rows_stay_apart_when_activations_are_computed_again(batch):
    assert_alike(*packed_and_padded("llama", batch, checkpointing=True))


def test_a_model_that_takes_packed_rows_still_takes_padded_ones(batch):
    model, usual = tiny("llama"), tiny("llama")
    packing.take_packed_rows(model)
    assert torch.equal(packing.padded_logits(model, batch), packing.padded_logits(usual, batch))


def test_rows_without_a_common_start_are_packed_too(batch):
    batch["input_ids"][1, 0] += 1
    assert_alike(*packed_and_padded("llama", batch))


def test_rows_are_not_packed_where_that_would_change_them():
    """Recurrent layers carry one row's state into the next, and our mask knows no sliding window."""
    assert not packing.can_pack(CONFIG_MAPPING["lfm2"](), 512)
    mistral = CONFIG_MAPPING["mistral"](sliding_window=512)
    assert packing.can_pack(mistral, 512) and not packing.can_pack(mistral, 513)


def test_rows_share_no_more_than_what_stands_before_the_first_prediction(batch):
    ids, needed = batch["input_ids"], batches.predicts_label(batch["labels"])
    assert packing.shared_tokens(ids, needed) == 12
    earlier = needed.clone()
    earlier[2, 2] = True
    assert packing.shared_tokens(ids, earlier) == 2
    ids[1, 3] += 1
    assert packing.shared_tokens(ids, needed) == 3


def test_packed_rows_stand_by_length_after_what_they_share():
    places = packing.packed_places(torch.tensor([4, 3, 4]), shared=2, width=5)
    assert places.tolist() == [[0, 1, 3, 4, 4], [0, 1, 2, 2, 2], [0, 1, 5, 6, 6]]


def test_a_long_row_does_not_pad_short_ones():
    lengths = torch.tensor([30, 200, 40, 61, 62])
    assert packing.rows_of_like_length(lengths) == [[0, 2, 3], [4], [1]]
