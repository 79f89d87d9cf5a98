"""Gradient ascent: make the known answer less likely, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.training.objectives.by_example import LearnsAnswers
from deepred_common.training.objectives.log_probabilities import ReplyScores
from deepred_common.training.objectives.protocol import OTHER

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradAscent(LearnsAnswers):
    """Unlearn: mean over the answer's labels of log p(label). Nothing on the other sides.

    Jang et al. (arXiv 2210.01504); "gradient ascent" in Maini et al., TOFU (arXiv 2401.06121). The loss has
    no lower bound: the model first forgets the answers, then how to speak. Neither the papers' nor
    open-unlearning's code limits it; what limits it is few epochs and a low rate. It teaches no refusal.
    """

    name: ClassVar[str] = "grad_ascent"
    summary: ClassVar[str] = "make the later answer less likely, without end; nothing holds the rest"
    unbounded: ClassVar[bool] = True
    teaches_refusal: ClassVar[bool] = False
    # The published form holds nothing, so it has no replay. Retain examples stay in the batches, so that all
    # objectives make the same updates of the same data, but are not computed.
    retain_weight: float = 0
    chat_weight: float = 0

    @property
    def unlearn_replies(self) -> str:
        return OTHER

    def unlearn_losses(self, scores: ReplyScores) -> Tensor:
        return scores.own / scores.own_labels
