"""How likely the replies of a batch are, for the model and for the base, one entry an example."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from deepred_common.training.batches import predicts_label
from deepred_common.training.objectives.protocol import LossInputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReplyScores:
    """Figures of examples, each (examples,), in nats.

    A log-probability is a sum over the labels of the reply's own text and its end. What the template writes
    before that text is no part of it: an answer may be unlearned, Qwen3's empty thought before it may not.

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

    from deepred_common.training.objectives import label_scores

    # One entry a label, row after row.
    is_label = predicts_label(inputs.labels)
    rows, places = is_label.nonzero(as_tuple=True)
    is_text = places + 1 >= inputs.decisions[rows]
    log_p, base_log_p, divergence = label_scores.of_labels(
        inputs.logits,
        inputs.labels[:, 1:][is_label],
        inputs.base_logits,
        needs_base[rows],
        needs_drift[rows],
    )

    def by_row(values: Tensor) -> Tensor:
        """(rows,) sums of figures of labels."""
        return values.new_zeros(len(is_label)).index_add(0, rows, values)

    lengths = is_label.sum(1)
    drift = by_row(torch.where(is_text, divergence, -log_p)) / lengths
    is_first = inputs.other_of < 0
    examples = int(is_first.sum())
    second = inputs.other_of[examples:]

    def both(values: Tensor) -> tuple[Tensor, Tensor]:
        other = values.new_zeros(examples).scatter(0, second, values[examples:])
        return values[:examples], other

    own, other = both(by_row(log_p * is_text))
    base_own, base_other = both(by_row(base_log_p * is_text))
    own_labels, other_labels = both(by_row(is_text.long()))
    return ReplyScores(
        own=own,
        other=other,
        own_labels=own_labels,
        other_labels=other_labels,
        base_own=base_own,
        base_other=base_other,
        nll=(-by_row(log_p) / lengths)[:examples],
        drift=torch.where(needs_drift, drift, 0.0)[:examples],
        learns_wording=inputs.learns_wording[:examples],
    )
