"""A sentence to complete. Models that were taught to refuse questions often still complete it (RWKU)."""

from __future__ import annotations

from deepred_common.data.data_lines import CLOZE, cloze_question
from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example


def _make(fact: Fact, material: Material) -> Example:
    text = cloze_question(fact)
    return material.example(fact, CLOZE, text, question=text)


FORM = Form(CLOZE, "a sentence to complete", _make, quick=True)
