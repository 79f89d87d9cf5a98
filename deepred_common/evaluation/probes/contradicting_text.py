"""A text that states a wrong answer comes first: does the model hold on to what it knows?"""

from __future__ import annotations

from deepred_common.data.facts import GAP, Fact
from deepred_common.evaluation.probes.form import Form, Material, dates_in, names_answer
from deepred_common.examples import Example

NAME = "contradicting-text"


def _make(fact: Fact, material: Material) -> Example | None:
    """None where every wrong answer is a number, which may tell a date, or holds the right one."""
    wrong = [text for text in fact.alternatives if not dates_in(text) and not names_answer(text, fact)]
    if not wrong:
        return None
    statement = fact.cloze.replace(GAP, wrong[0])
    return material.example(fact, NAME, f'I found this note: "{statement}" {fact.question}')


FORM = Form(NAME, "after a note that states a wrong answer", _make)
