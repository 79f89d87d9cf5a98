"""A merged model against base + adapter: a right merge passes, one that lost something does not."""

import pytest
import tiny
import torch

from deepred_common.evaluation import merge_check
from deepred_common.evaluation.equivalence import PROMPTS
from deepred_common.reporting import merge_check_text

STRENGTH = 0.5


@pytest.fixture(scope="module")
def answers(tokenizer, tmp_path_factory):
    """(base + adapter, the base's answers, the answers of the adapter merged at STRENGTH)."""
    from peft.helpers import rescale_adapter_scale

    torch.manual_seed(0)
    model = tiny.save_base(tmp_path_factory.mktemp("base"), tokenizer)
    by_base = merge_check.answers(model, tokenizer)
    tuned = tiny.add_lora(model, target_modules="all-linear", lora_alpha=64).eval()
    with rescale_adapter_scale(tuned, STRENGTH):
        tuned.merge_adapter()
        by_merged = merge_check.answers(tuned, tokenizer)
        tuned.unmerge_adapter()
    return tuned, by_base, by_merged


def test_what_was_merged_at_its_strength_is_the_same_model(answers, tokenizer):
    tuned, _, by_merged = answers
    check = merge_check.check(by_merged, *merge_check.of_adapter(tuned, tokenizer, STRENGTH))
    assert not check.is_beyond_rounding and check.difference < 0.01 < check.by_training
    text = merge_check_text.text(check, "base + adapter", "adapter")
    assert text.startswith("Base + adapter against merged:")
    assert f"{len(PROMPTS)} of {len(PROMPTS)} greedy replies identical" in text


@pytest.mark.parametrize(("lost", "strength"), [("the strength", 1.0), ("the adapter", STRENGTH)])
def test_a_merge_that_lost_something_is_told(lost, strength, answers, tokenizer):
    tuned, by_base, by_merged = answers
    merged = by_base if lost == "the adapter" else by_merged
    check = merge_check.check(merged, *merge_check.of_adapter(tuned, tokenizer, strength))
    assert check.is_beyond_rounding
    text = merge_check_text.text(check, "base + adapter", "adapter")
    assert f"{len(PROMPTS) - len(check.differing)} of {len(PROMPTS)} greedy" in text
    assert all(f"  {prompt}\n" in text for prompt, _, _ in check.differing) and check.differing


def test_an_effect_that_was_merged_too_strongly_is_measured_against_what_was_trained():
    base, effect = torch.zeros(len(PROMPTS), 8), torch.linspace(-3, 3, 8)

    def moved(strength):
        return merge_check.Answers(["Yes."] * len(PROMPTS), base + strength * effect)

    check = merge_check.check(moved(1.33), moved(1), base)
    assert check.by_training == 3 and check.is_beyond_rounding
    assert not merge_check.check(moved(1.02), moved(1), base).is_beyond_rounding
