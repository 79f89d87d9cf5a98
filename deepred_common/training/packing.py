"""A forward pass without padding, which computes only once what all its rows begin with.

The rows of a batch are put one after the other into one sequence, each of whose tokens sees only its own row
and the start that all rows share: chat templates put the same system prompt before every question, and of
SmolLM2's or Qwen2.5's rows that is a third. Losses and gradients are those of padded rows but for rounding.

Only attention is computed row by row, padded: over the whole sequence with a mask, most of its products would
be of tokens that do not see each other.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepred_common.training import batches

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

ATTENTION = "deepred_packed_rows"  # the name that transformers knows _attend_in_rows by
# Keys that a row's tokens see, up to which attention is computed in plain products. torch's fused kernel is
# slow in its backward pass on a CPU (in bf16 three times as slow for rows of 50 tokens), but takes no memory
# for the scores, which grow with the square of the length.
PLAIN_KEYS = 256
# A row joins a group of rows for attention up to so many times the length of its shortest, and so many tokens
# more: each group costs some operations in each layer.
LENGTH_RATIO, LENGTH_MARGIN = 1.5, 16
# The families, by transformers' model_type, for which a test shows that packing changes nothing: all their
# layers are attention, and they hand what the model is given on to our attention function.
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


@dataclass(frozen=True)
class Layout:
    """How rows lie in the sequence that they are packed into: first what they share, then the rows by length.

    shared: how many tokens all rows begin with; they stand there once.
    groups: the rows in order, those of like length together, so that padding costs attention little.
    """

    shared: int
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Group:
    """Rows of like length. `longest` counts tokens of one row without the shared ones.

    places: (rows, longest) of each row's tokens in the sequence; the last one's where it has no more.
    is_token: (rows, longest) bool, False where it has no more.
    """

    places: torch.Tensor
    is_token: torch.Tensor


def padded_logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What `model` predicts for each label of a batch, row after row: (labels, vocabulary).

    batch: input_ids, attention_mask and labels as of batches.collate.
    """
    needed = batches.predicts_label(batch["labels"])
    places = needed.any(0).nonzero().squeeze(1)
    logits = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        logits_to_keep=places,
    ).logits
    return logits[needed[:, places]]


def packed_logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """As padded_logits, computed without padding, of a model that take_packed_rows was called with."""
    import torch

    ids, needed = batch["input_ids"], batches.predicts_label(batch["labels"])
    lengths = batch["attention_mask"].sum(1)
    shared = shared_tokens(ids, needed)
    places = packed_places(lengths, shared, ids.shape[1])
    is_token = batch["attention_mask"].bool()
    column = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    packed_ids, positions = ids.new_empty((2, int(places.max()) + 1))
    packed_ids[places[is_token]] = ids[is_token]
    positions[places[is_token]] = column[is_token]
    groups = []
    for rows in rows_of_like_length(lengths - shared):
        own = slice(shared, int(lengths[rows].max()))
        groups.append(Group(places[rows, own], is_token[rows, own]))
    return model(
        input_ids=packed_ids[None],
        attention_mask=packed_ids.new_empty(0, 0, 0, 0),  # or transformers would make one
        position_ids=positions[None],
        use_cache=False,
        logits_to_keep=places[:, :-1][needed],
        packed_rows=Layout(shared, tuple(groups)),
    ).logits[0]


def can_pack(config: PretrainedConfig, max_length: int) -> bool:
    """True if packing rows of up to max_length tokens does not change what a model of this config predicts.

    It does where layers carry a state from token to token, and where attention looks back less far than a row
    is long, since our mask knows no window.
    """
    window = getattr(config, "sliding_window", None)
    return config.model_type in FAMILIES and (not window or max_length <= window)


def take_packed_rows(model: Any) -> None:
    """Let a model whose config can_pack take packed rows, from now on.

    For good, not around each forward pass: gradient checkpointing repeats that within the backward pass.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, _attend_in_rows)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.config._attn_implementation = ATTENTION


def shared_tokens(input_ids: torch.Tensor, needed: torch.Tensor) -> int:
    """How many tokens all rows begin with alike, as far as no prediction is needed of them.

    input_ids: (rows, length). needed: of batches.predicts_label.
    """
    same = (input_ids == input_ids[:1]).all(0)[: needed.shape[1]] & ~needed.any(0)
    return int(same.long().cumprod(0).sum())


def packed_places(lengths: torch.Tensor, shared: int, width: int) -> torch.Tensor:
    """(rows, width) place in the packed sequence of each token of rows padded to `width`.

    lengths: (rows,), all above `shared`. After a row's last token, that one's place.
    """
    import torch

    own = lengths - shared
    order = lengths.argsort(stable=True)
    starts = torch.empty_like(lengths)
    starts[order] = own[order].cumsum(0) - own[order]
    column = torch.minimum(torch.arange(width, device=lengths.device), lengths[:, None] - 1)
    return torch.where(column < shared, column, column + starts[:, None])


def rows_of_like_length(lengths: torch.Tensor) -> list[list[int]]:
    """Row numbers by length, in groups whose rows are of nearly one length."""
    order = lengths.argsort(stable=True).tolist()
    groups: list[list[int]] = []
    for row in order:
        if not groups or lengths[row] > LENGTH_RATIO * lengths[groups[-1][0]] + LENGTH_MARGIN:
            groups.append([])
        groups[-1].append(row)
    return groups


def _attend_in_rows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packed_rows: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention among packed rows; a function of transformers' AttentionInterface.

    query: (1, heads, tokens, head size). key, value: the same, of perhaps fewer heads. packed_rows: None for
    padded rows, which attention_mask is of. options: what the family's own attention functions take.
    Returns (1, tokens, heads, head size) and no weights.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packed_rows is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    shared, outputs = packed_rows.shared, []
    if shared:
        start = [states[:, :, :shared] for states in (query, key, value)]
        outputs.append(_attend(module, start[0], start[1], start[2], 0, **options)[0])
    for group in packed_rows.groups:
        keys, values = (_after_shared(states, group, shared) for states in (key, value))
        of_group = _attend(module, _in_rows(query, group), keys, values, shared, **options)
        outputs.append(of_group[group.is_token])
    return torch.cat(outputs)[None], None


def _in_rows(states: torch.Tensor, group: Group) -> torch.Tensor:
    """States of the sequence, (1, heads, tokens, head size), by row: (rows, heads, longest, head size)."""
    of_rows = states[0].index_select(1, group.places.flatten())
    return of_rows.unflatten(1, group.places.shape).transpose(0, 1)


def _after_shared(states: torch.Tensor, group: Group, shared: int) -> torch.Tensor:
    """The same with the shared tokens before each row: (rows, heads, shared + longest, head size)."""
    import torch

    start = states[:, :, :shared].expand(len(group.places), -1, -1, -1)
    return torch.cat([start, _in_rows(states, group)], dim=2)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    before: int,
    softcap: float | None = None,
    **options: Any,
) -> torch.Tensor:
    """(rows, queries, heads, head size) of one layer's causal attention.

    query: (rows, heads, queries, head size). key, value: of `before` more tokens, which stand before those.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    visible = torch.ones((query.shape[2], key.shape[2]), dtype=torch.bool, device=query.device).tril(before)
    if softcap is None and len(visible[0]) > PLAIN_KEYS:
        return sdpa_attention_forward(module, query, key, value, visible[None, None], **options)[0]
    # Every family's module has it. It is not among the registered ones, since no two are quite alike.
    plain = sys.modules[type(module).__module__].eager_attention_forward
    hidden = torch.finfo(query.dtype).min
    mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, hidden)[None, None]
    more = {} if softcap is None else {"softcap": softcap}
    return plain(module, query, key, value, mask, **more, **options)[0]
