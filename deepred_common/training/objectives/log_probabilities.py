"""How likely the replies of a batch are, for the model and for the base, one entry an example."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from deepred_common.training.batches import places_to_predict
from deepred_common.training.objectives.protocol import LossInputs
from deepred_common.training_rows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReplyScores:
    """Figures of examples, each (examples,), in nats.

    A log-probability is a sum over the labels of the reply's own text and its end. What the template writes
    before that text is no part of it: an answer may be unlearnt, Qwen3's empty thought before it may not.

    own, other: log-probabilities of the first and the other reply; 0 where an example has no other one.
    own_labels, other_labels: how many labels these sum over.
    base_own, base_other: the same of the base; 0 where it was not run.
    nll: of the first reply, the mean negative log-probability of a label, the template's included.
    drift: of the first reply, the mean Kullback-Leibler divergence of the base from the model at a label (of
        what the template writes, the negative log-probability); 0 in rows of which it was not wanted.
    learns_wording: bool, as in LossInputs.
    """

    own: Tensor
    other: Tensor
    own_labels: Tensor
    other_labels: Tensor
    base_own: Tensor
    base_other: Tensor
    nll: Tensor
    drift: Tensor
    learns_wording: Tensor

    def of(self, examples: Tensor) -> ReplyScores:
        """The figures of some examples. examples: (examples,) bool."""
        return ReplyScores(**{field.name: getattr(self, field.name)[examples] for field in fields(self)})


def of_batch(inputs: LossInputs, needs_base: Tensor, needs_drift: Tensor) -> ReplyScores:
    """The ReplyScores of all examples of a batch, in order.

    needs_base: (rows,) bool, the rows that inputs.base_logits are of. needs_drift: (rows,) bool, those of
    them whose drift is wanted.
    """
    import torch

    places = places_to_predict(inputs.labels)
    targets = inputs.labels[:, 1:][:, places]
    counted = targets != IGNORED
    is_text = counted & (places + 1 >= inputs.decisions[:, None])
    log_p = _label_log_p(inputs.logits, targets, counted)
    base_log_p, divergence = torch.zeros_like(log_p), torch.zeros_like(log_p)
    if needs_base.any():
        if inputs.base_logits is None:
            raise ValueError("the base's logits are missing")
        base_log_p[needs_base] = _label_log_p(inputs.base_logits, targets[needs_base], counted[needs_base])
    if needs_drift.any():
        here = is_text & needs_drift[:, None]
        divergence = divergence.masked_scatter(here, _divergences(inputs, needs_base, here))
    lengths = counted.sum(1)
    drift = torch.where(is_text, divergence, -log_p).sum(1) / lengths
    is_first = inputs.other_of < 0
    examples = int(is_first.sum())
    second = inputs.other_of[examples:]

    def both(values: Tensor) -> tuple[Tensor, Tensor]:
        other = values.new_zeros(examples).scatter(0, second, values[examples:])
        return values[:examples], other

    own, other = both((log_p * is_text).sum(1))
    base_own, base_other = both((base_log_p * is_text).sum(1))
    own_labels, other_labels = both(is_text.sum(1))
    return ReplyScores(
        own=own,
        other=other,
        own_labels=own_labels,
        other_labels=other_labels,
        base_own=base_own,
        base_other=base_other,
        nll=(-log_p.sum(1) / lengths)[:examples],
        drift=torch.where(needs_drift, drift, 0.0)[:examples],
        learns_wording=inputs.learns_wording[:examples],
    )


def _label_log_p(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """(rows, n) in fp32: the log-probability of each label, 0 where there is none."""
    import torch
    from torch.nn.functional import cross_entropy

    losses = cross_entropy(logits[counted].float(), targets[counted], reduction="none")
    return torch.zeros(counted.shape, device=logits.device).masked_scatter(counted, -losses)


def _divergences(inputs: LossInputs, needs_base: Tensor, here: Tensor) -> Tensor:
    """KL(base || model) at the places `here`, (rows, n) bool, in the order of masked_scatter."""
    from torch.nn.functional import log_softmax

    assert inputs.base_logits is not None
    own = log_softmax(inputs.logits[here].float(), dim=-1)
    base = log_softmax(inputs.base_logits[here[needs_base]].float(), dim=-1)
    return (base.exp() * (base - own)).sum(-1)
