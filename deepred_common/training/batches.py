"""Training rows put together into one padded batch of tensors, and which of its places need a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepred_common.training_rows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def collate(rows: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """One right-padded batch of rows of token_rows.py; their other replies, if any, are rows at its end.

    Returns input_ids, labels (IGNORED in prompts and padding) and attention_mask, each (batch, longest row),
    decisions, (batch,), the place where each reply's own text begins, sides, (batch,) of numbers in
    examples.ALL_SIDES, learns_wording, (batch,) bool, and other_of, (batch,), the row whose other reply a row
    is, -1 for the rows given.
    """
    import torch

    paired = [(number, _with_other_reply(row)) for number, row in enumerate(rows) if len(row["other_reply"])]
    other_of = torch.tensor([-1] * len(rows) + [number for number, _ in paired])
    rows = [*rows, *(row for _, row in paired)]
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
        "other_of": other_of,
    }


def of_rows(batch: Mapping[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    """Some rows of a batch of `collate`, whole examples. chosen: (rows,) bool."""
    import torch

    some = {name: values[chosen] for name, values in batch.items()}
    places = chosen.cumsum(0) - 1
    some["other_of"] = torch.where(some["other_of"] < 0, -1, places[some["other_of"]])
    return some


def _with_other_reply(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its other reply in place of its own."""
    prompt = list(row["input_ids"][: int(row["reply_start"])])
    return dict(row) | {
        "input_ids": [*prompt, *row["other_reply"]],
        "decision": row["other_decision"],
    }


def predicts_label(labels: Tensor) -> Tensor:
    """(rows, length - 1) bool, True where the next token is a label: only there are logits needed.

    The output layer of a small model is a fifth of its arithmetic, and most places belong to prompts.
    """
    return labels[:, 1:] != IGNORED


def first_text_labels(labels: Tensor, decisions: Tensor) -> Tensor:
    """(rows,): the index, among all labels of the batch, row after row, of each row's first text label."""
    numbers = predicts_label(labels).flatten().cumsum(0).view(len(labels), -1) - 1
    return numbers.gather(1, decisions[:, None] - 1).squeeze(1)
