"""The answer that there are none: "None.", "Zero.", "It has no moons.", "It doesn't have any."."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deepred_common.judging import quantities
from deepred_common.judging.assertion import is_asserted
from deepred_common.judging.comparable_words import comparable_words, fold
from deepred_common.judging.contradiction import other_number_first
from deepred_common.judging.reference_answer import COMMON
from deepred_common.judging.same_word import akin
from deepred_common.judging.words import Word

_NONE = frozenset(("none", "nobody", "0", "nil"))
_KNOWS = re.compile(r" (?:really )?(?:knows?|can)\b", re.IGNORECASE)  # "nobody knows" counts nothing
_NOT_ANY = re.compile(
    r"(?:\bnot|n't|\bnever)(?: \w+){0,2} any\b(?! (?:more|fewer|less|other)\b)", re.IGNORECASE
)
# "no moons", "no known moons", "not have moons"; but "no more moons than two"
_NO_THING = re.compile(
    r"\b(?:no|not have|n't have) (?!more\b|fewer\b|less\b|other\b|doubt\b|question\b)(\w+)(?: (\w+))?",
    re.IGNORECASE,
)
_EXCEPT = re.compile(r"[^.!?]*\b(?:except|other than|apart from|besides)\b", re.IGNORECASE)


def means_none(text: str, question: str) -> bool:
    """True if an answer's text says that there are none of what the question asks for, and counts nothing."""
    words = comparable_words(text)
    counts = any(word.number and quantities.is_count(place, words) for place, word in enumerate(words))
    return not counts and says_none(text, question)


def says_none(text: str, question: str) -> bool:
    """True if a text says that there are none of what the question asks for, and counts none before."""
    text = fold(text)
    words = comparable_words(text)
    place = min(_places(words, text, question), default=None)
    if place is None or _EXCEPT.match(text, words[place].end):
        return False
    return not other_number_first(place, [], words, text, question)


def _places(words: list[Word], text: str, question: str) -> Iterator[int]:
    """Where a text says that there are none."""
    for place, word in enumerate(words):
        if (
            word.text in _NONE
            and not quantities.has_unit(place, words)
            and not _KNOWS.match(text, word.end)
            and is_asserted((place, place + 1), words, text)
        ):
            yield place
    asked_for = [
        word.text for word in comparable_words(question) if word.text not in COMMON and not word.capital
    ]
    starts = [match.start() for match in _NOT_ANY.finditer(text)]
    for match in _NO_THING.finditer(text):
        things = comparable_words(" ".join(group for group in match.groups() if group))
        if all(thing.number is None for thing in things) and any(
            akin(one, thing.text) for thing in things for one in asked_for
        ):
            starts.append(match.start())
    for start in starts:
        yield next(place for place, word in enumerate(words) if word.end > start)
