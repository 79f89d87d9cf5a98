"""NPO without a reference: the answer's mean log-probability is what is lowered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.training.objectives.by_example import LearnsAnswers
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import OTHER

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SimNpo(LearnsAnswers):
    """Unlearn: -2/beta log sigmoid(-beta/n log p(answer) - margin), n labels. Retain: -log p(label).

    Fan et al. (arXiv 2410.07163), eq. 4. Dividing by the length keeps short answers from being spared, and
    answers that the base never knew are not pushed further. It teaches no refusal.
    """

    name: ClassVar[str] = "simnpo"
    summary: ClassVar[str] = "npo by the mean log-probability, without the base"
    teaches_refusal: ClassVar[bool] = False
    # The paper's for TOFU's forget10, which open-unlearning has as defaults.
    beta: float = 4.5
    margin: float = 0
    unlearn_weight: float = 0.125

    @property
    def unlearn_replies(self) -> str:
        return OTHER

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        from torch.nn.functional import logsigmoid

        mean = scores.own / scores.own_labels
        return self.unlearn_weight * -2 / self.beta * logsigmoid(-self.beta * mean - self.margin)
