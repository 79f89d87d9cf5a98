"""Direct preference optimisation on both sides: the refusal after the cutoff, the answer before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepred_common.examples import RETAIN, UNLEARN
from deepred_common.training.objectives.by_example import Preference
from deepred_common.training.objectives.log_probabilities import ReplyScores

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dpo(Preference):
    """-log sigmoid(beta (log(p(own) / p_base(own)) - log(p(other) / p_base(other)))) on both dated sides.

    Rafailov et al. (arXiv 2305.18290), eq. 7, which is trl's DPOTrainer with its defaults. Unlearn examples
    prefer their refusal to the answer, retain examples their answer to a refusal. The published form has
    neither a retain nor a chat term.
    """

    name: ClassVar[str] = "dpo"
    summary: ClassVar[str] = "prefer refusal to answer after the cutoff, answer to refusal before it"
    reference_sides: ClassVar[tuple[str, ...]] = (UNLEARN, RETAIN)
    # How much a step away from the base costs. The paper's and trl's.
    beta: float = 0.1

    def pair_losses(self, scores: ReplyScores) -> Tensor:
        from torch.nn.functional import logsigmoid

        own, other = scores.own - scores.base_own, scores.other - scores.base_other
        return -logsigmoid(self.beta * (own - other))
