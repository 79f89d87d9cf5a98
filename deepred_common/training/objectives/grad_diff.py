"""Gradient difference: ascent on the answers to be forgotten, descent on the retain answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepred_common.training.objectives.grad_ascent import GradAscent


@dataclass(frozen=True)
class GradDiff(GradAscent):
    """Unlearn: mean over the answer's labels of log p(label). Retain: -log p(label) of the answer.

    Liu et al., Continual learning and private unlearning (arXiv 2203.12817); "gradient difference" in Maini
    et al., TOFU (arXiv 2401.06121). retain_learning 0 makes it TOFU's "KL minimisation". No lower bound, as
    grad_ascent. It teaches no refusal.
    """

    name: ClassVar[str] = "grad_diff"
    summary: ClassVar[str] = "grad_ascent, while retain answers are learned"
    # 1, as TOFU's sum of the two losses and open-unlearning's defaults (alpha, gamma).
    retain_weight: float = 1
    chat_weight: float = 1
