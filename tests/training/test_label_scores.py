"""Log-probabilities and distances of labels, block by block: as from all logits at once."""

import pytest
import torch

from deepred_common.training.objectives import label_scores

LABELS, VOCABULARY = 7, 11


def scores_at_once(logits, targets, base_logits, has_base, needs_drift):
    own, base = logits.float().log_softmax(-1), base_logits.float().log_softmax(-1)
    base_log_p, drift = torch.zeros(LABELS), torch.zeros(LABELS)
    base_log_p[has_base] = base.gather(1, targets[has_base, None]).squeeze(1)
    drift = drift.index_put((has_base,), (base.exp() * (base - own[has_base])).sum(-1))
    return own.gather(1, targets[:, None]).squeeze(1), base_log_p, torch.where(needs_drift, drift, 0.0)


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_base", ["1011010", "0000000", "1111111"])
@pytest.mark.parametrize("with_drift", ["1111111", "1100010", "0000000"])
def test_blocks_change_neither_scores_nor_gradient(rows_at_once, dtype, with_base, with_drift, monkeypatch):
    monkeypatch.setattr(label_scores, "BLOCK", rows_at_once * VOCABULARY)
    chance = torch.Generator().manual_seed(1)
    has_base, needs_drift = (
        torch.tensor([digit == "1" for digit in digits]) for digits in (with_base, with_drift)
    )
    values = torch.randn(LABELS, VOCABULARY, generator=chance).to(dtype)
    base_logits = torch.randn(int(has_base.sum()), VOCABULARY, generator=chance).to(dtype)
    targets = torch.randint(VOCABULARY, (LABELS,), generator=chance)
    weights = torch.randn(2, LABELS, generator=chance)
    figures, gradients = [], []
    for scores_of in (scores_at_once, label_scores.of_labels):
        logits = values.clone().requires_grad_()
        log_p, base_log_p, drift = scores_of(logits, targets, base_logits, has_base, needs_drift)
        (weights[0] * log_p.exp() + weights[1] * drift**2).sum().backward()
        figures.append(torch.stack([log_p, base_log_p, drift]).detach())
        gradients.append(logits.grad)
    torch.testing.assert_close(*figures)
    torch.testing.assert_close(*gradients)
    assert gradients[1].dtype == dtype


def test_missing_or_too_many_logits_of_the_base_are_an_error():
    logits, targets = torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)
    has_base = torch.tensor([True, False])
    for base_logits in (None, torch.zeros(2, 5)):
        with pytest.raises(ValueError, match=r"base's logits are of [02] labels, not of 1"):
            label_scores.of_labels(logits, targets, base_logits, has_base)


def test_a_batch_without_labels_or_base_has_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    scores = label_scores.of_labels(logits, torch.zeros(0, dtype=torch.long), None, torch.zeros(0).bool())
    (scores.log_p.sum() + scores.drift.sum()).backward()
    assert logits.grad is not None and logits.grad.shape == (0, 5)
