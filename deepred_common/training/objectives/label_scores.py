"""How likely each label is, and how far a prediction is from the base's, without all logits in fp32 at once.

Where the vocabulary is large, logits are the largest thing that training holds: of 200 labels, each over
Gemma's 262 144 tokens, 0.1 GB in bf16. Softmax, distance and gradient of all of them would be ten times that
in fp32, and a CPU's allocator gives such pieces back to the system after each use; fresh ones took a fifth
of the time. So they are computed block by block, and once more in the backward pass. Only logits and their
gradient are ever whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Logits computed at a time. On a CPU 16 MB in fp32, which the allocator keeps; on a GPU 256 MB, which are few
# kernels: of Gemma's logits, 256 labels in place of 16.
BLOCK = 2**22
GPU_BLOCK = 2**26


class LabelScores(NamedTuple):
    """Figures of labels, each (labels,), fp32, in nats.

    log_p: log-probability of the label. base_log_p: the base's, 0 where it was not run. drift:
    Kullback-Leibler divergence of the base's prediction from the model's, 0 where it was not run or wanted.
    """

    log_p: Tensor
    base_log_p: Tensor
    drift: Tensor


def of_labels(
    logits: Tensor,
    targets: Tensor,
    base_logits: Tensor | None,
    has_base: Tensor,
    needs_drift: Tensor | None = None,
) -> LabelScores:
    """The LabelScores of what was predicted for each label; log_p and drift have a gradient.

    logits: (labels, vocabulary). targets: (labels,), the labels. base_logits: (as many as has_base is True
    for, vocabulary), in order. has_base: (labels,) bool. needs_drift: (labels,) bool, the labels whose drift
    is wanted, None for all; others have 0. ValueError if the base's logits are too few or many.
    """
    if base_logits is None:
        base_logits = logits.new_empty(0, logits.shape[1])
    # Which labels these are must be known here, for which a GPU is waited for: once, not in every block.
    needs_drift = has_base if needs_drift is None else has_base & needs_drift
    on_host = torch.stack([has_base, needs_drift]).cpu()
    compared = on_host[0].nonzero().squeeze(1)
    if len(base_logits) != len(compared):
        raise ValueError(f"the base's logits are of {len(base_logits)} labels, not of {len(compared)}")
    blocks = list(_blocks(compared, on_host[1], logits))
    return LabelScores(*_Scores.apply(logits, targets, base_logits.detach(), needs_drift, blocks))


class _Block(NamedTuple):
    """Some labels. own: where they stand. compared: which of them have a prediction of the base; base: where
    those stand among the base's. drifts: whether the drift of some is wanted."""

    own: slice
    compared: Tensor
    base: slice
    drifts: bool


def _blocks(compared: Tensor, needs_drift: Tensor, logits: Tensor) -> Iterator[_Block]:
    """The blocks of logits. compared: the labels with a prediction of the base, in order. needs_drift:
    (labels,) bool. Both on the CPU."""
    labels, vocabulary = logits.shape
    size = max(1, (GPU_BLOCK if logits.is_cuda else BLOCK) // vocabulary)
    firsts = list(range(0, labels, size))
    bounds = torch.searchsorted(compared, torch.tensor([*firsts, labels])).tolist()
    places = (compared % size).to(logits.device)
    for number, first in enumerate(firsts):
        own, base = slice(first, first + size), slice(bounds[number], bounds[number + 1])
        yield _Block(own, places[base], base, bool(needs_drift[own].any()))


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        logits: Tensor,
        targets: Tensor,
        base_logits: Tensor,
        needs_drift: Tensor,
        blocks: Sequence[_Block],
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_p = torch.empty(len(logits), device=logits.device)
        base_log_p, drift = torch.zeros_like(log_p), torch.zeros_like(log_p)
        for block in blocks:
            own, label_ids = logits[block.own].float().log_softmax(-1), targets[block.own, None]
            log_p[block.own] = own.gather(1, label_ids).squeeze(1)
            if len(block.compared):
                base = base_logits[block.base].float().log_softmax(-1)
                base_log_p[block.own][block.compared] = base.gather(1, label_ids[block.compared]).squeeze(1)
            if block.drifts:
                # The sum of b (log b - log p) over all tokens, b the base's probability.
                distance = (base - own[block.compared]).mul_(base.exp_()).sum(-1)
                drift[block.own][block.compared] = distance
        drift.masked_fill_(~needs_drift, 0.0)
        context.save_for_backward(logits, targets, base_logits, needs_drift)
        context.blocks = blocks
        context.mark_non_differentiable(base_log_p)
        return log_p, base_log_p, drift

    @staticmethod
    def backward(
        context: Any, of_log_p: Tensor, _: Tensor, of_drift: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        logits, targets, base_logits, needs_drift = context.saved_tensors
        of_drift = torch.where(needs_drift, of_drift, 0.0)
        gradient = torch.empty_like(logits)
        for block in context.blocks:
            # Of log p: the label's one less p. Of the drift: p less the base's b, since b sums up to 1.
            p = logits[block.own].float().softmax(-1)
            for_log_p, for_drift = of_log_p[block.own, None], of_drift[block.own, None]
            p.mul_(for_drift - for_log_p)
            p.scatter_add_(1, targets[block.own, None], for_log_p)
            if block.drifts:
                b = base_logits[block.base].float().softmax(-1)
                p.index_add_(0, block.compared, b.mul_(for_drift[block.compared]), alpha=-1)
            gradient[block.own] = p
        return gradient, None, None, None, None
