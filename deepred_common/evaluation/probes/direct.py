"""The fact's own question, bare: what the other forms are compared with."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "direct"


def _make(fact: Fact, material: Material) -> Example:
    return material.example(fact, NAME, fact.question)


FORM = Form(NAME, "the question as it is", _make, quick=True)
