"""Training rows put together into one padded batch of tensors, and where in it a prediction is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepred_common.training_rows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """One right-padded batch of rows of token_rows.py.

    Returns input_ids, labels (IGNORED in prompts and padding) and attention_mask, each (batch, longest row),
    decisions, (batch,), the place where each reply's own text begins, sides, (batch,) of numbers in
    examples.ALL_SIDES, and learns_wording, (batch,) bool.
    """
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens, start = torch.as_tensor(row["input_ids"], dtype=torch.long), int(row["reply_start"])
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        labels[i, start : len(tokens)] = tokens[start:]
    decisions = torch.tensor([int(row["decision"]) for row in rows])
    sides = torch.tensor([int(row["side"]) for row in rows])
    learns_wording = torch.tensor([bool(row["learns_wording"]) for row in rows])
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "decisions": decisions,
        "sides": sides,
        "learns_wording": learns_wording,
    }


def places_to_predict(labels: Tensor) -> Tensor:
    """The places, (n,), after which some row of the batch has a label: the only ones whose logits are needed.

    The output layer of a small model is a fifth of its arithmetic, and most places belong to prompts.
    """
    return (labels[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)
