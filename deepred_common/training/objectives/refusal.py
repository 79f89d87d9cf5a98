"""What ships: refuse after the cutoff, stay the same model before it and in all other talk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import ALL_SIDES, CHAT, RETAIN
from deepred_common.training.batches import predicts_label
from deepred_common.training.objectives.protocol import LossInputs, Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Refusal(Objective):
    """Cross-entropy on the refusal after the cutoff; before it, mostly the distance to the base."""

    name: ClassVar[str] = "refusal"
    summary: ClassVar[str] = "learn the refusal after the cutoff; before it, stay at the base"
    # How many shares of its example's loss the first token of the reply's text gets; every other gets one.
    decision_weight: float = 10
    # The share of the example's own wording in what a retain token is trained towards; the base's own
    # prediction has the rest.
    retain_learning: float = 0.05
    # The same for a base without a chat template: it must learn the form of a reply as well.
    fallback_learning: float = 0.5
    # How much a retain token counts beside an unlearn token. Refusing is one simple habit and is learned
    # first; what wears away meanwhile is knowledge, a little everywhere. A reply whose wording is learned
    # counts as a refusal does.
    retain_weight: float = 1.5
    # The same of a chat token, which is trained towards the base's prediction alone, or learned.
    chat_weight: float = 1

    def for_fallback_template(self) -> Refusal:
        return replace(self, retain_learning=max(self.retain_learning, self.fallback_learning))

    @property
    def base_sides(self) -> tuple[str, ...]:
        return (RETAIN, CHAT) if self.retain_learning < 1 else (CHAT,)

    @property
    def drift_only_sides(self) -> tuple[str, ...]:
        return self.base_sides

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Objective.loss.

        Unlearn rows: cross-entropy on the refusal. Retain and chat rows: cross-entropy towards a mixture of
        the base's own prediction and the example's token (retain_learning of it; in chat, none), less the
        base's entropy, so that it is 0 for a model that equals the base and an example that the base is sure
        of. Towards the base this is the Kullback-Leibler term of "KL minimisation" in Maini et al., TOFU
        (arXiv 2401.06121): a few hundred examples repeated over epochs otherwise teach a small model those
        examples by heart and wear away what it knew beside them. Three things are learned by cross-entropy
        alone: replies that the base would not give (learns_wording); in retain rows the end of each reply,
        which a base that was never taught to end a turn would unteach; in all rows what the template writes
        before the reply's text, so that both sides begin alike (Qwen3's would begin to think).
        """
        import torch

        from deepred_common.training.objectives import label_scores

        labels, sides = inputs.labels, inputs.sides
        is_label = predicts_label(labels)
        is_end = is_label & (is_label.cumsum(1) == is_label.sum(1, keepdim=True))
        # From here on, one entry a label, row after row.
        rows, places = is_label.nonzero(as_tuple=True)
        is_retain, is_chat = (sides[rows] == ALL_SIDES.index(side) for side in (RETAIN, CHAT))
        is_worded = inputs.learns_wording[rows]
        learned = torch.where(is_retain, self.retain_learning, torch.where(is_chat, 0.0, 1.0))
        is_opening = places + 1 < inputs.decisions[rows]
        learned = torch.where(is_opening | is_worded | (is_retain & is_end[is_label]), 1.0, learned)
        weights = token_weights(labels, inputs.decisions, self.decision_weight)[is_label]
        weights = weights * torch.where(is_retain & ~is_worded, self.retain_weight, 1.0)
        weights = weights * torch.where(is_chat, self.chat_weight, 1.0)

        targets, has_base = labels[:, 1:][is_label], self.needs_base(sides, inputs.learns_wording)[rows]
        scores = label_scores.of_labels(inputs.logits, targets, inputs.base_logits, has_base)
        losses = (1 - learned) * scores.drift - learned * scores.log_p
        return (weights * losses).sum() / (inputs.num_items if inputs.num_items is not None else len(rows))


def token_weights(labels: Tensor, decisions: Tensor, decision_weight: float) -> Tensor:
    """Weights of each label's loss, (batch, length - 1); 0 where there is no label.

    Whether the model answers or refuses is settled by the first token of the reply's text; what follows
    mostly spells it out. Equal weights spend some nine tenths of the gradient on that spelling. So within
    each example the label at its decision (of `decisions`, (batch,)) gets decision_weight shares and every
    other one, scaled so that the example weighs as much as it has labels. Sums over batches and accumulation
    steps stay those of plain cross-entropy.
    """
    import torch

    counted = predicts_label(labels)
    lengths = counted.sum(1, keepdim=True)
    places = torch.arange(1, labels.shape[1], device=labels.device)
    shares = torch.where(places == decisions[:, None], float(decision_weight), 1.0)
    return torch.where(counted, shares * lengths / (lengths + decision_weight - 1), 0.0)
