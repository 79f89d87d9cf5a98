"""Four answers to choose from. A model that knows nothing and guesses is right in a quarter of them."""

from __future__ import annotations

from deepred_common.data.data_lines import CHOICE, choice_question
from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example


def _make(fact: Fact, material: Material) -> Example:
    text = choice_question(fact, material.seed)
    return material.example(fact, CHOICE, text, question=text)


FORM = Form(CHOICE, "four answers to choose from; guessing gives 25 %", _make, offers_answer=True)
