"""Negative preference optimisation: gradient ascent that slows down as the answer is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import UNLEARN
from deepred_common.training.objectives.by_example import LearnsAnswers
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import OTHER

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Npo(LearnsAnswers):
    """Unlearn: -2/beta log sigmoid(-beta log(p(answer) / p_base(answer))). Retain: -log p(label).

    Zhang et al. (arXiv 2404.05868), eq. 3, with the retain term of their "NPO+RT". Log-probabilities are sums
    over the answer, as in the paper and in open-unlearning. It teaches no refusal.
    """

    name: ClassVar[str] = "npo"
    summary: ClassVar[str] = "make the later answer less likely than the base does, with an end"
    reference_sides: ClassVar[tuple[str, ...]] = (UNLEARN,)
    teaches_refusal: ClassVar[bool] = False
    # How fast the push ends; at 0 it is gradient ascent. The paper's for TOFU.
    beta: float = 0.1

    @property
    def unlearn_replies(self) -> str:
        return OTHER

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -2 / self.beta * logsigmoid(-self.beta * (scores.own - scores.base_own))
