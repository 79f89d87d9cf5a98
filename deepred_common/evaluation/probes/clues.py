"""Several clues to one answer, which together say more than a question."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "clues"


def _make(fact: Fact, material: Material) -> Example:
    first, second, *_ = fact.phrasings
    text = (
        f"Here are some clues, and all have the same answer. First clue: {first} Second clue: {second} "
        f"Third clue, with a gap: {fact.cloze} What is the answer?"
    )
    return material.example(fact, NAME, text)


FORM = Form(NAME, "three clues to one answer", _make)
