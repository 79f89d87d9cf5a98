"""All objectives, in the order in which they are listed. A new one is a new line here."""

from __future__ import annotations

from deepred_common.training.objectives.dpo import Dpo
from deepred_common.training.objectives.grad_ascent import GradAscent
from deepred_common.training.objectives.grad_diff import GradDiff
from deepred_common.training.objectives.idk_ap import IdkAp
from deepred_common.training.objectives.idk_dpo import IdkDpo
from deepred_common.training.objectives.npo import Npo
from deepred_common.training.objectives.orpo import Orpo
from deepred_common.training.objectives.protocol import Objective
from deepred_common.training.objectives.refusal import Refusal
from deepred_common.training.objectives.sft import Sft
from deepred_common.training.objectives.simnpo import SimNpo

OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Refusal(),
        Sft(),
        GradAscent(),
        GradDiff(),
        Npo(),
        SimNpo(),
        Dpo(),
        IdkDpo(),
        IdkAp(),
        Orpo(),
    )
}
