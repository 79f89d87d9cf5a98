"""From the answer to what was asked about: models that learn "A is B" often do not know "B is A".

Source: L. Berglund et al., The reversal curse, arXiv 2309.12288.
"""

from __future__ import annotations

import re

from deepred_common.data.facts import GAP, Fact
from deepred_common.evaluation.probes.form import Form, Material, dates_in, names_answer
from deepred_common.examples import RETAIN, Example

NAME = "reverse"


def _make(fact: Fact, material: Material) -> Example | None:
    """None where the statement does not name the subject, or the answer is part of it or a number."""
    subject = re.sub(r"\s*\([^()]*\)$", "", fact.subject)
    statement = fact.cloze.replace(GAP, fact.short)
    if fact.cloze.count(subject) != 1 or dates_in(fact.short) or names_answer(subject, fact):
        return None
    text = f"Complete the sentence: {statement.replace(subject, GAP)}"
    if subject.lower() in text.lower():
        return None
    output = subject if material.side == RETAIN else None
    return material.example(
        fact,
        NAME,
        text,
        output=output,
        question=text,
        accepted_answers=[subject],
        original_answer=statement,
    )


FORM = Form(NAME, "from the answer to what the question is about", _make)
