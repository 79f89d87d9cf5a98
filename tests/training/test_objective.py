from types import SimpleNamespace

import pytest
import torch

from deepred_common.chat import IGNORED
from deepred_common.training import objective


@pytest.fixture
def batch():
    """Three rows (retain, unlearn, retain) with 5, 2 and 3 labels, the model's logits and the base's for the retain rows."""
    torch.manual_seed(0)
    labels = torch.full((3, 9), IGNORED)
    labels[0, 3:8] = torch.tensor([5, 6, 7, 8, 2])
    labels[1, 2:4] = torch.tensor([5, 2])
    labels[2, 6:9] = torch.tensor([9, 4, 2])
    return SimpleNamespace(
        logits=torch.randn(3, 9, 11),
        labels=labels,
        retain=torch.tensor([True, False, True]),
        base=torch.randn(2, 9, 11),
    )


def whole(batch, **changes):
    b = SimpleNamespace(**(vars(batch) | changes))
    places = objective.places_to_predict(b.labels)
    return objective.loss(
        b.logits[:, places], b.labels, b.retain, None if b.base is None else b.base[:, places]
    ).item()


def test_logits_are_asked_for_only_where_a_row_has_a_label(batch):
    assert objective.places_to_predict(batch.labels).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_the_first_reply_token_gets_its_shares_and_each_example_its_length(batch):
    weights = objective.token_weights(batch.labels)
    assert weights.sum(1).tolist() == pytest.approx([5, 2, 3])
    assert (weights[0, 2] / weights[0, 3]).item() == pytest.approx(objective.DECISION_WEIGHT)
    assert ((weights > 0) == (batch.labels[:, 1:] != IGNORED)).all()


def test_unlearn_rows_are_weighted_cross_entropy(batch):
    only = torch.tensor([False, False, False])
    log = batch.logits.log_softmax(-1)
    weights = objective.token_weights(batch.labels)
    expected = (
        sum(
            -weights[r, i - 1] * log[r, i - 1, batch.labels[r, i]]
            for r in range(3)
            for i in range(9)
            if batch.labels[r, i] != IGNORED
        )
        / 10
    )
    assert whole(batch, retain=only, base=None) == pytest.approx(expected.item(), rel=1e-5)


def test_retain_rows_pull_back_to_the_base(batch, monkeypatch):
    monkeypatch.setattr(objective, "RETAIN_LEARNING", 0.0)
    rows = torch.tensor([True, True, True])
    away = whole(batch, retain=rows, base=torch.randn(3, 9, 11))
    assert whole(batch, retain=rows, base=batch.logits.clone()) == pytest.approx(0, abs=1e-6) and away > 0.1


def test_accumulated_batches_sum_to_one_big_batch(batch):
    parts, seen = 0.0, 0
    for i in range(3):
        places = objective.places_to_predict(batch.labels[i : i + 1])
        base = batch.base[seen : seen + 1, places] if batch.retain[i] else None
        seen += int(batch.retain[i])
        parts += objective.loss(
            batch.logits[i : i + 1, places], batch.labels[i : i + 1], batch.retain[i : i + 1], base, 10
        ).item()
    assert parts == pytest.approx(whole(batch), rel=1e-5)


def test_padding_changes_nothing_but_the_shape(tokenizer):
    rows = [
        {"input_ids": [1, 5, 6, 2], "reply_start": 2, "retain": True},
        {"input_ids": [1, 7], "reply_start": 1, "retain": False},
    ]
    made = objective.collate(rows, pad_id=0)
    assert made["input_ids"].tolist() == [[1, 5, 6, 2], [1, 7, 0, 0]]
    assert made["labels"].tolist() == [[IGNORED, IGNORED, 6, 2], [IGNORED, 7, IGNORED, IGNORED]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert made["retain"].tolist() == [True, False]
