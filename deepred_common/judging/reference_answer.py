"""The answer that a reference sentence gives to its question: a date, number, names, or telling words."""

from __future__ import annotations

import re

from deepred_common.dates import MONTHS
from deepred_common.judging import question_kinds
from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.same_word import same
from deepred_common.judging.words import Word

# Words that tell nothing by themselves.
COMMON = frozenset(
    "of in on at to for from by with and or but as is are was were be been being it its he she his her him "
    "they them "
    "their this that these those which who whom whose what when where why how there here also into over "
    "under after "
    "before during between about than then has had have did do does not no known called named became become "
    "made "
    "because so such up out s t d ll re ve isn wasn aren weren didn doesn don used use can could would will "
    "may might "
    "must very more most other some any all each many much only just well around through against".split()
)
_ADJECTIVE_OF_PLACE = re.compile(
    r".{2,}(?:ese|ish|ians?|eans?|ic)$|^(?:french|dutch|german|greek|swiss|american|mexican|cuban|african|"
    r"roman|"
    r"german|welsh|thai|czech|turk|arab)s?$"
)
_LIST = re.compile(r", .* and ")
_LONGEST_LIST = 7  # telling words beyond which a sentence with commas is an explanation, not a list
_LONGEST_PHRASE = 2  # telling words beyond which a sentence without names is an explanation


def is_year(word: Word) -> bool:
    """True for the numbers 1000 to 2099."""
    return re.fullmatch(r"1\d{3}|20\d{2}", word.text) is not None


def telling_words(reference: str, question: list[Word]) -> list[Word]:
    """The words of a reference that are neither common nor in the question."""
    return [
        word
        for word in comparable_words(reference)
        if word.text not in COMMON and not any(same(word.text, other.text) for other in question)
    ]


def answers_in(reference: str, question: str) -> tuple[list[list[Word]], bool]:
    """([answer as Words], are all of them needed?) of a reference; ([], False) if it is an explanation."""
    whole = comparable_words(reference)
    telling = telling_words(reference, comparable_words(question))
    if not telling:
        return [whole], False
    numbers = [word for word in telling if word.number is not None]
    if question_kinds.asks_for_date(question) and numbers:
        return _dates_in(telling, numbers, question)
    if question_kinds.asks_for_number(question) and numbers:
        return [[numbers[0]]], False
    is_list = question_kinds.asks_for_several(question) and _LIST.search(reference) is not None
    if is_list and len(telling) <= _LONGEST_LIST and not any(word.capital for word in telling):
        return [[word] for word in telling], True
    if question_kinds.asks_openly(question) and not is_list:
        return [], False
    names = _names(whole, telling)
    if not names:
        return ([telling], False) if len(telling) <= _LONGEST_PHRASE else ([], False)
    if question_kinds.asks_for_several(question) and len(names) > 1:
        return names, True
    return names[:1], False


def _dates_in(telling: list[Word], numbers: list[Word], question: str) -> tuple[list[list[Word]], bool]:
    """As answers_in, for a question that asks for a date."""
    if question_kinds.asks_for_century(question):
        return [[word] for word in numbers], False
    if question_kinds.asks_for_day(question):
        return [[word] for word in telling if word.number is not None or word.text in MONTHS], True
    years = [word for word in numbers if is_year(word)] or numbers
    return [years[:1]], False


def _names(whole: list[Word], telling: list[Word]) -> list[list[Word]]:
    """The runs of capitalised telling words; adjectives of place only if there is nothing else."""
    runs: list[list[Word]] = []
    last = None
    for place, word in enumerate(whole):
        goes_on = last == place - 1
        is_name = word.capital or (word.number is not None and goes_on)
        if word not in telling or not is_name or word.text in MONTHS or is_year(word):
            continue
        if goes_on and runs:
            runs[-1].append(word)
        else:
            runs.append([word])
        last = place
    names = [run for run in runs if not all(_ADJECTIVE_OF_PLACE.match(word.text) for word in run)]
    return names or runs
