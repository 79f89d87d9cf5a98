"""An early and a late question in one message: the one must be answered, the other declined."""

from __future__ import annotations

from typing import cast

from deepred_common.data import wrappings
from deepred_common.data.data_lines import ConversationLine, line
from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import MIXED, RETAIN, UNLEARN, Example

NAME = "mixed"


def _make(fact: Fact, material: Material) -> Example | None:
    other_side = UNLEARN if material.side == RETAIN else RETAIN
    chooser = material.chooser(NAME, fact)
    others = material.fitting(other_side, fact, 1, chooser)
    if not others:
        return None
    lines = {material.side: fact, other_side: others[0]}
    plain = {side: line(one, one.question, side) for side, one in lines.items()}
    wrapper = wrappings.Wrapper(material.frames, {}, material.refusals, chooser)
    both = wrapper.mixed(plain[UNLEARN], plain[RETAIN])[material.side]
    text = cast(ConversationLine, both)["messages"][0]["content"]
    # Each side's half is judged alone.
    return material.example(fact, NAME, text, wrapping=MIXED)


FORM = Form(NAME, "an early and a late question in one message", _make)
