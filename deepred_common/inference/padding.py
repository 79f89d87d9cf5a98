"""Prompts of different lengths as one batch of a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PADDING = 0  # the token id in masked places, where any will do; a tokenizer's own may lack an embedding


def left_padded(
    prompts: Sequence[list[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(token ids, attention mask, positions) of prompts, each of the shape (prompts, longest prompt)."""
    import torch

    width = max(map(len, prompts))
    ids = torch.tensor([[PADDING] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)
