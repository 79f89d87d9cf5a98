"""Learn the refusal, and keep answers preferred to refusals before the cutoff ("answer preservation")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.training.objectives.by_example import ByExample
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import BOTH, OWN

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IdkAp(ByExample):
    """Unlearn: -log p(label) of the refusal, + mirror_weight x AP. Retain: AP. Both with

    AP = -1/beta log sigmoid(beta (log p(own) - log p(other))), where own is the reply that should be given.

    Yuan et al. (arXiv 2410.08109): AP keeps refusals from spreading to questions before the cutoff, without
    the base and without learning the answers by heart. The log-probabilities are sums over the reply's
    labels, not means: the authors' code sums them (github.com/sail-sg/closer-look-LLM-unlearning,
    trainer/losses.py: ap_loss and get_batch_loss), and their beta of 0.1 is for sums. With means it would
    hardly ever reach the point where the loss is satisfied. The paper has AP on the retain side only; the
    mirror on the unlearn side is ours.
    """

    name: ClassVar[str] = "idk_ap"
    summary: ClassVar[str] = "learn the refusal; on both sides keep the right reply the likelier one"
    beta: float = 0.1  # the paper's
    # AP on the unlearn side, refusal before answer. 0 is the published form, and needs no answers there.
    mirror_weight: float = 1

    @property
    def unlearn_replies(self) -> str:
        return BOTH if self.mirror_weight else OWN

    @property
    def retain_replies(self) -> str:
        return BOTH

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        if not self.mirror_weight:
            return scores.nll
        return scores.nll + self.mirror_weight * self.retain_losses(scores)

    def retain_losses(self, scores: ReplyScores) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -1 / self.beta * logsigmoid(self.beta * (scores.own - scores.other))
