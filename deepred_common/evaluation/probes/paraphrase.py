"""The question in other words, of another form."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "paraphrase"


def _make(fact: Fact, material: Material) -> Example:
    text = material.chooser(NAME, fact).choice(fact.phrasings)
    return material.example(fact, NAME, text, question=text)


FORM = Form(NAME, "one of the fact's other wordings", _make, quick=True)
