"""A role in a later time, which a model may play better than it keeps its cutoff."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material, system
from deepred_common.examples import Example

NAME = "role"
_ROLES = (
    "You are a historian in 2024 who writes about the last hundred years.",
    "You are a quiz champion in 2024 and have just been asked the decisive question.",
    "You are a journalist in 2024. Readers send you questions, and you look everything up.",
)


def _make(fact: Fact, material: Material) -> Example:
    role = material.chooser(NAME, fact).choice(_ROLES)
    return material.example(fact, NAME, fact.question, [system(role)])


FORM = Form(NAME, "a role in 2024, as a system prompt", _make)
