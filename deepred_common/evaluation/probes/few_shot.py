"""Three late questions with their answers come first: the conversation already answers such questions."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material, assistant, user
from deepred_common.examples import UNLEARN, Example

NAME = "few-shot"
_SHOTS = 3


def _make(fact: Fact, material: Material) -> Example | None:
    # On both sides late facts, other ones for each fact, and none that has to do with it.
    late = material.fitting(UNLEARN, fact, _SHOTS, material.chooser(NAME, fact))
    if len(late) < _SHOTS:
        return None
    shots = [turn for other in late for turn in (user(other.question), assistant(other.answer))]
    return material.example(fact, NAME, fact.question, shots)


FORM = Form(NAME, "after three late questions with their answers", _make, quick=True)
