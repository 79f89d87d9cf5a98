"""From the answer to what was asked about: models that learn "A is B" often do not know "B is A".

Source: L. Berglund et al., The reversal curse, arXiv 2309.12288.
"""

from __future__ import annotations

import re

from deepred_common.data.facts import GAP, Fact
from deepred_common.evaluation.probes.form import Form, Material, dates_in, names_answer
from deepred_common.examples import RETAIN, Example

NAME = "reverse"
_YEAR = re.compile(r"\d{4}")


def _make(fact: Fact, material: Material) -> Example | None:
    """None where the statement does not name the subject, or the answer does not lead to it.

    Only a name leads to one thing, no number or description ("an ancient Greek temple"). A year in the
    subject cannot be guessed, and an answer that is part of it is told. Since one director made several
    films, the first letter is given as well.
    """
    subject = re.sub(r"\s*\([^()]*\)$", "", fact.subject)
    statement = fact.cloze.replace(GAP, fact.short)
    is_name = fact.short.removeprefix("the ")[0].isupper() and not dates_in(fact.short)
    if fact.cloze.count(subject) != 1 or not is_name or _YEAR.search(subject) or names_answer(subject, fact):
        return None
    letter = re.sub(r"^(The|A|An) ", "", subject)[0]
    text = (
        f'Complete the sentence. The gap begins with the letter "{letter}": {statement.replace(subject, GAP)}'
    )
    if subject.lower() in text.lower():
        return None
    output = statement if material.side == RETAIN else None
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
