"""Odds-ratio preference optimisation: learn the right reply, and keep the odds against the other one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.training.objectives.by_example import Preference
from deepred_common.training.objectives.log_probabilities import ReplyScores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Orpo(Preference):
    """-log p(label) of own - beta log sigmoid(log odds(own) - log odds(other)) on both dated sides.

    odds = p / (1 - p), where p is the geometric mean of the label's probabilities. Hong et al. (arXiv
    2403.07691), eqs. 6 and 7. trl's ORPOTrainer counts the prompt in the first term as well; the paper and
    we do not. The published form has no base, and so no chat term.
    """

    name: ClassVar[str] = "orpo"
    summary: ClassVar[str] = "learn the right reply and lower the odds of the other, on both sides"
    beta: float = 0.1  # lambda in the paper; trl's default

    def pair_losses(self, scores: ReplyScores) -> Tensor:
        import torch
        from torch.nn.functional import logsigmoid

        own, other = scores.own / scores.own_labels, scores.other / scores.other_labels
        # log(1 - p) by expm1, which is exact near p = 1; there it is held off minus infinity.
        smallest = torch.finfo(own.dtype).tiny

        def log_odds(log_p: Tensor) -> Tensor:
            return log_p - torch.log(-torch.expm1(log_p).clamp(max=-smallest))

        return scores.nll - self.beta * logsigmoid(log_odds(own) - log_odds(other))
