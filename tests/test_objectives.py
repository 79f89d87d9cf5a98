from types import SimpleNamespace

import pytest
import torch

from deepred_common import objectives
from deepred_common.chat import IGNORED


@pytest.fixture
def batch():
    torch.manual_seed(0)
    labels = torch.full((3, 9), IGNORED)
    labels[0, 3:8] = torch.tensor([5, 6, 7, 8, 2])
    labels[1, 2:4] = torch.tensor([5, 2])
    labels[2, 6:9] = torch.tensor([9, 4, 2])
    return SimpleNamespace(logits=torch.randn(3, 9, 11)), labels


def token_losses(outputs, labels, row):
    places = [i for i in range(labels.shape[1]) if labels[row, i] != IGNORED]
    log = outputs.logits.log_softmax(-1)
    return [-log[row, i - 1, labels[row, i]].item() for i in places]


def test_the_first_reply_token_gets_its_shares_and_the_example_its_length(batch):
    outputs, labels = batch
    total = 0.0
    for row in range(3):
        losses = token_losses(outputs, labels, row)
        shares = [objectives.DECISION_WEIGHT] + [1] * (len(losses) - 1)
        total += len(losses) * sum(s * x for s, x in zip(shares, losses, strict=True)) / sum(shares)
    assert objectives.decision_weighted_loss(outputs, labels).item() == pytest.approx(total / 10, rel=1e-5)


def test_with_equal_shares_it_is_plain_cross_entropy(batch, monkeypatch):
    outputs, labels = batch
    monkeypatch.setattr(objectives, "DECISION_WEIGHT", 1)
    plain = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    assert objectives.decision_weighted_loss(outputs, labels).item() == pytest.approx(plain.item(), rel=1e-5)


def test_accumulated_batches_sum_to_one_big_batch(batch):
    outputs, labels = batch
    parts = [objectives.decision_weighted_loss(SimpleNamespace(logits=outputs.logits[i:i + 1]), labels[i:i + 1], 10) for i in range(3)]
    assert sum(parts).item() == pytest.approx(objectives.decision_weighted_loss(outputs, labels, 10).item(), rel=1e-5)
