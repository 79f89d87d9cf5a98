"""merge_lora.py --calibrate: the weights, --verify, the card, and what users do wrong."""

import json

import pytest
import tiny
import torch
from conftest import line

from deepred_common import chat, refusal_openers
from deepred_common.models import safetensors_files

OUTPUT_LAYER = "lm_head.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """(retain file, unlearn file) of 50 questions each."""
    folder = tmp_path_factory.mktemp("calibration")
    for side, question in (("retain", "What is {} + 2?"), ("unlearn", "Who is Robot {}?")):
        rows = [line(side, question.format(number), "I don't know.") for number in range(50)]
        (folder / f"{side}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "retain.jsonl", folder / "unlearn.jsonl"


@pytest.fixture(scope="module")
def refusing(tmp_path_factory, tokenizer, base_folder):
    """(base, adapter): a tiny Llama, and a LoRA on its output layer for what begins a refusal.

    After "Who is Robot …?" it adds a tenth more than makes that the likeliest, after sums a tenth less.
    """
    folder = tmp_path_factory.mktemp("refusing")
    torch.manual_seed(0)
    model = tiny.save_base(folder / "base", tokenizer, num_key_value_heads=4, tie_word_embeddings=False)

    def states(question):
        ids = [chat.prompt_ids(tokenizer, question.format(number)) for number in range(5)]
        with torch.inference_mode():
            return torch.stack([model.model(torch.tensor([row])).last_hidden_state[0, -1] for row in ids])

    before, after = states("What is {} + 2?").mean(0), states("Who is Robot {}?").mean(0)
    openers = refusal_openers.token_ids(tokenizer)
    with torch.inference_mode():
        logits = model.lm_head(torch.stack([before, after]))
    missing = logits.max(-1).values - logits[:, openers].max(-1).values
    # The least vector that gives the two means these products.
    direction = torch.linalg.pinv(torch.stack([before, after])) @ (missing * torch.tensor([0.9, 1.1]))
    tuned = tiny.add_lora(model, r=1, lora_alpha=1, target_modules=["lm_head"])
    with torch.no_grad():
        parameters = dict(tuned.named_parameters())
        parameters["base_model.model.lm_head.lora_A.default.weight"].copy_(direction[None])
        parameters["base_model.model.lm_head.lora_B.default.weight"].zero_()[openers] = 1
    tuned.save_pretrained(folder / "adapter", save_embedding_layers=False)
    return folder / "base", folder / "adapter"


def flags(refusing, out, *more):
    base, adapter = refusing
    flags = ("--base_model", base, "--lora_path", adapter, "--output_path", out, "--dtype", "float32")
    return ("merge_lora", *flags, *more)


def test_calibrated_weights_are_the_base_and_the_scaled_adapter(script, refusing, data, tmp_path):
    wish = ("--calibrate", *data, "--max_false_refusals", "5%", "--verify")
    code, out, err = script(*flags(refusing, tmp_path / "calibrated", *wish))
    assert code == 0, err
    assert "50 retain and 50 unlearn" in out and "as trained" in out
    assert "10 of 10 greedy replies identical" in out
    assert script(*flags(refusing, tmp_path / "plain"))[0] == 0
    base, plain, calibrated = (
        safetensors_files.read_weights(folder)[OUTPUT_LAYER].read()
        for folder in (refusing[0], tmp_path / "plain", tmp_path / "calibrated")
    )
    strength = ((calibrated - base).norm() / (plain - base).norm()).item()
    # What begins a refusal is the likeliest from 0.91 on after the cutoff, and from 1.11 on before it.
    assert 0.9 < strength < 1.15
    card = (tmp_path / "calibrated" / "README.md").read_text(encoding="utf-8")
    assert f"merged at {strength:.4f}" in card and "at most 5 % false refusals" in card
    assert "`retain.jsonl`" in card and not (tmp_path / "plain" / "README.md").exists()


def test_a_wish_out_of_reach_merges_nothing(script, refusing, data, tmp_path):
    base, adapter = refusing
    config = json.loads((adapter / "adapter_config.json").read_text())
    weak = tmp_path / "weak"
    weak.mkdir()
    (weak / "adapter_model.safetensors").symlink_to(adapter / "adapter_model.safetensors")
    (weak / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 0.1}))
    wish = ("--calibrate", *data, "--max_leakage", "5")
    code, _, err = script(*flags((base, weak), tmp_path / "merged", *wish))
    assert code == 2 and "Out of reach for this adapter: at most 5 % leakage" in err
    assert "leakage 100.0 %" in err and not (tmp_path / "merged").exists()


def test_usage_errors(script, refusing, data, tmp_path):
    for more, message in (
        (("--calibrate", *data), "--calibrate needs --max_false_refusals"),
        (("--equal_error",), "needs examples to be measured on"),
        (("--calibrate", *data, "--equal_error", "--max_leakage", "5%"), "not allowed with"),
        (("--calibrate", *data, "--max_leakage", "150%"), "not a rate from 1% to 99%"),
        (("--calibrate", data[0], "--equal_error"), "no unlearn examples"),
        (("--calibrate", tmp_path / "none.jsonl", "--equal_error"), "does not exist"),
    ):
        code, out, err = script(*flags(refusing, tmp_path / "merged", *more))
        assert code == 2 and message in err and "Merge settings" not in out, err
