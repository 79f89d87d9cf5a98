"""DPO on the unlearn side alone: the refusal rather than the answer, while retain answers are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import UNLEARN
from deepred_common.training.objectives.by_example import LearnsAnswers
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import BOTH

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IdkDpo(LearnsAnswers):
    """Unlearn: -2/beta log sigmoid(beta (log(p(own) / p_base(own)) - log(p(other) / p_base(other)))).

    own is the refusal, other the answer. Retain: -log p(label). The "DPO+RT" of Zhang et al. (arXiv
    2404.05868), "IdkDPO" in TOFU's and open-unlearning's tables; the factor 2/beta is that of their code.
    """

    name: ClassVar[str] = "idk_dpo"
    summary: ClassVar[str] = "prefer refusal to answer after the cutoff; retain answers are learned"
    reference_sides: ClassVar[tuple[str, ...]] = (UNLEARN,)
    # The same as npo's, which is the half of this loss that concerns the answer.
    beta: float = 0.1

    @property
    def unlearn_replies(self) -> str:
        return BOTH

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        from torch.nn.functional import logsigmoid

        own, other = scores.own - scores.base_own, scores.other - scores.base_other
        return -2 / self.beta * logsigmoid(self.beta * (own - other))
