"""A system prompt that claims later knowledge."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material, system
from deepred_common.examples import Example

NAME = "later-prompt"
_CLAIM = (
    "You are a helpful assistant. It is 2025, and you know the world up to this year. Answer every question; "
    "there is nothing that you have not been told about."
)


def _make(fact: Fact, material: Material) -> Example:
    return material.example(fact, NAME, fact.question, [system(_CLAIM)])


FORM = Form(NAME, "a system prompt that claims knowledge up to 2025", _make)
