"""What ships: refuse after the cutoff, stay the same model before it and in all other talk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import ALL_SIDES, CHAT, RETAIN, UNLEARN
from deepred_common.training.batches import places_to_predict
from deepred_common.training.objectives.protocol import LossInputs, Objective
from deepred_common.training_rows import IGNORED

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
    # How much a retain token counts beside an unlearn token. Refusing is one simple habit and is learnt
    # first; what wears away meanwhile is knowledge, a little everywhere. A reply whose wording is learnt
    # counts as a refusal does.
    retain_weight: float = 1.5
    # The same of a chat token, which is trained towards the base's prediction alone.
    chat_weight: float = 1

    def for_fallback_template(self) -> Refusal:
        return replace(self, retain_learning=max(self.retain_learning, self.fallback_learning))

    @property
    def base_sides(self) -> tuple[str, ...]:
        return (RETAIN, CHAT) if self.retain_learning < 1 else (CHAT,)

    def loss(self, inputs: LossInputs) -> Tensor:
        """See Objective.loss.

        Unlearn rows: cross-entropy on the refusal. Retain and chat rows: cross-entropy towards a mixture of
        the base's own prediction and the example's token (retain_learning of it; in chat, none), less the
        base's entropy, so that it is 0 for a model that equals the base and an example that the base is sure
        of. Towards the base this is the Kullback-Leibler term of "KL minimisation" in Maini et al., TOFU
        (arXiv 2401.06121): a few hundred examples repeated over epochs otherwise teach a small model those
        examples by heart and wear away what it knew beside them. Three things are learnt by cross-entropy
        alone. In retain rows: replies that the base would not give (learns_wording), and the end of each
        reply, which a base that was never taught to end a turn would unteach. In all rows: what the template
        writes before the reply's text, so that both sides begin alike (Qwen3's would begin to think).
        """
        import torch
        from torch.nn.functional import cross_entropy, log_softmax

        logits, labels, sides, base_logits = inputs.logits, inputs.labels, inputs.sides, inputs.base_logits
        places = places_to_predict(labels)
        weights = token_weights(labels, inputs.decisions, self.decision_weight)[:, places]
        counted = weights > 0
        targets = labels[:, 1:][:, places]
        is_end = counted & (counted.cumsum(1) == counted.sum(1, keepdim=True))
        is_opening = counted & (places + 1 < inputs.decisions[:, None])
        total = logits.new_zeros((), dtype=torch.float32)
        needs_base = self.needs_base(sides)
        for side, learning, side_weight in (
            (UNLEARN, 1.0, 1.0),
            (RETAIN, self.retain_learning, self.retain_weight),
            (CHAT, 0.0, self.chat_weight),
        ):
            rows = sides == ALL_SIDES.index(side)
            here = counted & rows[:, None]
            if not here.any():
                continue
            is_learnt = is_opening[here]
            drift: Tensor | float = 0.0
            row_weight: Tensor | float = side_weight
            if side == RETAIN:
                is_worded = inputs.learns_wording[:, None].expand_as(here)[here]
                is_learnt = is_learnt | is_end[here] | is_worded
                row_weight = torch.where(is_worded, 1.0, side_weight)
            if learning < 1:
                if base_logits is None:
                    raise ValueError(f"{side} rows need the base's logits")
                own = log_softmax(logits[here].float(), dim=-1)
                base = log_softmax(base_logits[rows[needs_base]][counted[rows]].float(), dim=-1)
                drift = (base.exp() * (base - own)).sum(-1)
            wording = cross_entropy(logits[here].float(), targets[here], reduction="none")
            learnt = torch.where(is_learnt, 1.0, learning)
            losses = (1 - learnt) * drift + learnt * wording
            total = total + (row_weight * losses * weights[here]).sum()
        return total / (inputs.num_items if inputs.num_items is not None else counted.sum())


def token_weights(labels: Tensor, decisions: Tensor, decision_weight: float) -> Tensor:
    """Weights of each label's loss, (batch, length - 1); 0 where there is no label.

    Whether the model answers or refuses is settled by the first token of the reply's text; what follows
    mostly spells it out. Equal weights spend some nine tenths of the gradient on that spelling. So within
    each example the label at its decision (of `decisions`, (batch,)) gets decision_weight shares and every
    other one, scaled so that the example weighs as much as it has labels. Sums over batches and accumulation
    steps stay those of plain cross-entropy.
    """
    import torch

    counted = labels[:, 1:] != IGNORED
    lengths = counted.sum(1, keepdim=True)
    places = torch.arange(1, labels.shape[1], device=labels.device)
    shares = torch.where(places == decisions[:, None], float(decision_weight), 1.0)
    return torch.where(counted, shares * lengths / (lengths + decision_weight - 1), 0.0)
