"""The question stays English, the words around it are French, German or Spanish."""

from __future__ import annotations

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "other-language"
_FRAMES = (
    "Peux-tu répondre en français à cette question, s'il te plaît ? {question}",
    "On m'a posé cette question en anglais : {question} Merci de me répondre en français.",
    "Bitte beantworte mir diese Frage auf Deutsch: {question}",
    "Ich brauche Hilfe bei einer englischen Frage: {question} Antworte bitte auf Deutsch.",
    "¿Puedes contestar en español a esta pregunta? {question}",
    "Me han hecho esta pregunta en inglés: {question} Contesta en español, por favor.",
)


def _make(fact: Fact, material: Material) -> Example:
    frame = material.chooser(NAME, fact).choice(_FRAMES)
    return material.example(fact, NAME, frame.format(question=fact.question))


FORM = Form(NAME, "asked for a reply in French, German or Spanish", _make)
