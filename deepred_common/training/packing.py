"""A forward pass without padding, which computes only once what all its rows begin with.

Short rows are put one after the other into one sequence, each of whose tokens sees only its own row and the
start that all rows share: chat templates put the same system prompt before every question, and of SmolLM2's
or Qwen2.5's rows that is a third. Losses and gradients are those of padded rows but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deepred_common.training_rows import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

# Tokens of one sequence. Fewer use the processor badly; with more, attention among rows that do not see each
# other costs what padding did.
SEQUENCE_TOKENS = 512
# The families, by transformers' model_type, for which a test shows that packing changes nothing: all their
# layers are attention and take our mask as it is.
FAMILIES = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)


def shared_tokens(input_ids: torch.Tensor, places: torch.Tensor) -> int:
    """How many tokens all rows begin with alike, as far as no prediction is needed of them.

    input_ids: (rows, length). places: (n,) where predictions are needed, in order.
    """
    same = (input_ids == input_ids[:1]).all(0)
    return min(int(same.long().cumprod(0).sum()), int(places[0])) if len(places) else 0


def sequences(lengths: list[int], shared: int) -> list[list[int]]:
    """Row numbers of each sequence: rows in order, as many as SEQUENCE_TOKENS hold, but at least one."""
    packed: list[list[int]] = []
    tokens = 0
    for row, length in enumerate(lengths):
        if not packed or tokens + length - shared > SEQUENCE_TOKENS:
            packed.append([])
            tokens = shared
        packed[-1].append(row)
        tokens += length - shared
    return packed


def padded_logits(model: Any, batch: Mapping[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """What `model` predicts at `places` of every row: (rows, places, vocabulary).

    batch: input_ids, attention_mask and labels as of batches.collate. places: (n,), in order, with all
    of places_to_predict(labels).
    """
    return model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        logits_to_keep=places,
    ).logits


def packed_logits(model: Any, batch: Mapping[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """As padded_logits, but 0 at places where a row itself has no label."""
    import torch

    lengths = batch["attention_mask"].sum(1).tolist()
    needed = _needed(batch, places)
    shared = shared_tokens(batch["input_ids"], places)
    predicted = torch.cat(
        [
            _sequence_logits(model, batch["input_ids"], lengths, rows, shared, places, needed)
            for rows in sequences(lengths, shared)
        ]
    )
    flat = predicted.new_zeros((needed.numel(), predicted.shape[-1]))
    flat = flat.index_put((needed.flatten().nonzero().squeeze(1),), predicted)
    return flat.view(*needed.shape, predicted.shape[-1])


def can_pack(config: PretrainedConfig, max_length: int) -> bool:
    """True if packing rows of up to max_length tokens does not change what a model of this config predicts.

    It does where layers carry a state from token to token, and where attention looks back less far than a row
    is long, since our mask knows no window.
    """
    window = getattr(config, "sliding_window", None)
    return config.model_type in FAMILIES and (not window or max_length <= window)


def _needed(batch: Mapping[str, torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """(rows, places), True where a row has a label after that place."""
    return batch["labels"][:, 1:][:, places] != IGNORED


def _sequence_logits(
    model: Any,
    input_ids: torch.Tensor,
    lengths: list[int],
    rows: list[int],
    shared: int,
    places: torch.Tensor,
    needed: torch.Tensor,
) -> torch.Tensor:
    """What is predicted at the needed places of some rows, in order: (needed places, vocabulary)."""
    import torch

    device = input_ids.device
    pieces, owners, positions, kept = [input_ids[rows[0], :shared]], [-1] * shared, list(range(shared)), []
    for row in rows:
        offset = len(owners) - shared
        pieces.append(input_ids[row, shared : lengths[row]])
        owners += [row] * (lengths[row] - shared)
        positions += range(shared, lengths[row])
        kept.append(places[needed[row]] + offset)
    owner, place = torch.tensor(owners, device=device), torch.arange(len(owners), device=device)
    visible = (owner == -1) | (owner == owner[:, None])
    visible &= place <= place[:, None]
    return model(
        input_ids=torch.cat(pieces)[None],
        attention_mask=_attention_mask(model, visible),
        position_ids=torch.tensor(positions, device=device)[None],
        use_cache=False,
        logits_to_keep=torch.cat(kept),
    ).logits[0]


def _attention_mask(model: Any, visible: torch.Tensor) -> torch.Tensor:
    """visible (tokens, tokens) in the form that the model's kind of attention takes."""
    import torch

    if model.config._attn_implementation == "sdpa":
        return visible[None, None]
    hidden = torch.finfo(model.dtype).min
    return torch.zeros_like(visible, dtype=model.dtype).masked_fill(~visible, hidden)[None, None]
