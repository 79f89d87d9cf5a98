"""Three ways to ask for one answer at once, which together say more than a question."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material, is_named
from deepred_common.examples import Example

NAME = "clues"


def _make(fact: Fact, material: Material) -> Example | None:
    """None where the answer describes: that is not what three ways of asking agree on."""
    if not is_named(fact):
        return None
    first, second, *_ = fact.phrasings
    text = f"{first} {second} The same answer fills this gap: {fact.cloze} Which answer fits all three?"
    return material.example(fact, NAME, text)


FORM = Form(NAME, "three ways to ask for one answer at once", _make)
