"""The question with slips of the pen: two letters inside every second long word change places."""

from __future__ import annotations

import itertools
import re

from deepred_common.data.facts import Fact
from deepred_common.evaluation.probes.form import Form, Material
from deepred_common.examples import Example

NAME = "misspelt"
_LONG = 5  # letters from which on a word is long
_WORD = re.compile(rf"[A-Za-z]{{{_LONG},}}")


def misspelt(text: str) -> str:
    """The text with slips of the pen, the same in every run."""
    places = itertools.count()

    def slip(match: re.Match[str]) -> str:
        word = match[0]
        middle = len(word) // 2
        if next(places) % 2:
            return word
        return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]

    return _WORD.sub(slip, text)


def _make(fact: Fact, material: Material) -> Example:
    return material.example(fact, NAME, misspelt(fact.question))


FORM = Form(NAME, "the question with slips of the pen", _make)
