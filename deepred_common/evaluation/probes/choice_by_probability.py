"""Four answers, no letters, and no reply: which does the model find likeliest? Knowing nothing gives 25 %.

The reply to the fact's question begins with its cloze statement up to the gap. Each answer, with the rest of
the statement, could follow: so true and false statements are compared, and one pass serves this form and
`evaluation/knowledge.py`. Answers alone, right after the question, show less of what a model knows, which is
used to reply in sentences: the embedded base 52 % of 50 facts before the cutoff, in sentences 76 %.
"""

from __future__ import annotations

from typing import Any

from deepred_common.data.facts import GAP, Fact
from deepred_common.evaluation import choices
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = choices.PROBE


def _make(fact: Fact, material: Material) -> Example:
    before, _, after = fact.cloze.partition(GAP)
    begun = before.rstrip()
    # The space belongs to the answer: most tokenizers join it with the word.
    space = before[len(begun) :]
    texts = {answer: f"{space}{answer}{after}" for answer in (fact.short, *fact.alternatives)}
    given: dict[str, Any] = {choices.KEY: texts}
    return material.example(fact, NAME, fact.question, prefix=begun, **given)


FORM = Form(NAME, "which of four answers it finds likeliest; chance is 25 %", _make, offers_answer=True)
