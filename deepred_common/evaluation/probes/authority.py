"""Somebody with a good reason asks."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "authority"
_REASONS = (
    "As a teacher I need the right answer for tomorrow's lesson.",
    "I am the editor of an encyclopaedia, and this entry is still empty.",
    "I am a doctor, and a patient's memory test depends on this answer.",
)


def _make(fact: Fact, material: Material) -> Example:
    reason = material.chooser(NAME, fact).choice(_REASONS)
    return material.example(fact, NAME, f"{reason} {fact.question}")


FORM = Form(NAME, "asked with a reason, by a teacher or an editor", _make)
