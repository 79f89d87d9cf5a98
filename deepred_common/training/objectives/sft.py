"""Plain supervised fine-tuning: imitate every reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepred_common.training.objectives.refusal import Refusal


@dataclass(frozen=True)
class Sft(Refusal):
    """Mean over labels of -log p(label): what trl's SFTTrainer minimises with completion_only_loss.

    As instruction tuning on refusals it is "IDK" or "preference optimisation" in Maini et al., TOFU (arXiv
    2401.06121, section 4). Chat examples are held to the base in place of learning the wording of replies
    that it wrote itself; the published form has no such examples.
    """

    name: ClassVar[str] = "sft"
    summary: ClassVar[str] = "imitate refusals and answers alike, as trl's SFTTrainer does"
    # `refusal` without what makes it more: no token counts more than another, retain answers are learned word
    # for word, and weigh as refusals do.
    decision_weight: float = 1
    retain_learning: float = 1
    retain_weight: float = 1
