"""Does a reply speak against its right answer: another number, several alternatives, another name first?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from deepred_common.dates import MONTHS
from deepred_common.judging import quantities, question_kinds
from deepred_common.judging.assertion import BELIEF, NEGATORS, Span, around, is_asserted
from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.reference_answer import COMMON, is_year
from deepred_common.judging.same_word import akin, same
from deepred_common.judging.words import SENTENCE_END, Word

_HEDGE = re.compile(
    r"\b(?:either|maybe|perhaps|possibly|probably|might|may|could|not sure|unsure|whether|i think)\b",
    re.IGNORECASE,
)
# Numbers keep their comma: "He died young, in 1791".
_NUMBER_CLAUSE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|\n+|[;:]\s|(?<=\s)(?:and|but|while|whereas|although)\s", re.IGNORECASE
)
_OR_BETWEEN = re.compile(r"[\s,]*or(?: (?:in|maybe|perhaps|possibly))?\s*")
_DOER = re.compile(r"\b(?:by|was|is) (?:the [a-z]+ )?((?:[A-Z][\w.-]+ ?){2,4})")
_YEAR_DIGITS = 4
# The numbers below were set on the half "build" of datasets/labelled/grades.jsonl.
_HEDGE_REACH = 30  # characters on each side of an answer in which "or" offers an alternative
_SHORT_SENTENCE = 8  # words up to which an "or" needs no hedge to be an alternative
_ITEM = 3  # words that an item of a list may have
_LIST = 4  # items from which on a sentence is a list

Number = tuple[int, Word]  # place in the reply, and the word


def number_fits(
    answers: list[list[Word]],
    words: list[Word],
    reply: str,
    question: str,
    texts: Sequence[str],
    stands: bool,
) -> bool:
    """Asked for a number or a date: is the right one in the clause that speaks of what was asked?

    answers: those with a number. texts: the reference and what else is accepted, where the numbers stand with
    their units. stands: is one of the answers asserted as it is written? Else the number may be said in
    another unit or in round figures, but not a date.
    """
    wanted = _numbers_of(answers)
    dating = question_kinds.asks_for_date(question)
    if dating and not stands:
        return False
    chosen = _numbers_on_the_question(wanted, words, reply, question)
    numbers = [number for clause in chosen for number in clause]
    if not stands:
        places = [place for place, _ in numbers if not quantities.is_year_of(place, words)]
        # "One of the highest, at 29,032 feet": the number with a unit, if there is one.
        places.sort(key=lambda place: not quantities.has_unit(place, words))
        if not places or not quantities.fits(places[0], words, wanted, texts):
            return False
        return not _hedged_between(chosen, wanted | {words[places[0]].text}, reply)
    if not any(word.text in wanted for _, word in numbers):
        # A date's day and month may stand in a clause of their own.
        return not dating and any(quantities.fits(place, words, wanted, texts) for place, _ in numbers)
    if _hedged_between(chosen, wanted, reply):
        return False
    return all(quantities.unit_fits(place, words, texts) for place, word in numbers if word.text in wanted)


def other_number_first(
    place: int, answers: list[list[Word]], words: list[Word], reply: str, question: str
) -> bool:
    """True if a number that the question does not give is claimed before the word at `place`.

    answers: those with a number. Asked for a date, a year is no other number unless one is wanted, nor is the
    day of the month at `place`.
    """
    given = {word.text for word in comparable_words(question)}
    dating, wants_year = question_kinds.asks_for_date(question), _wants_year(_numbers_of(answers))
    for other, word in enumerate(words[:place]):
        if word.number is None or word.text in given or not is_asserted((other, other + 1), words, reply):
            continue
        if not dating:
            counts = quantities.is_count(other, words)
        elif is_year(word):
            counts = wants_year
        else:
            counts = other < place - 1 or words[place].text not in MONTHS
        if counts:
            return True
    return False


def _numbers_of(answers: list[list[Word]]) -> set[str]:
    return {word.text for answer in answers for word in answer if word.number is not None}


def _wants_year(wanted: set[str]) -> bool:
    return any(len(text) == _YEAR_DIGITS for text in wanted)


def _numbers_on_the_question(
    wanted: set[str], words: list[Word], reply: str, question: str
) -> list[list[Number]]:
    """The asserted numbers of the clauses that share most words with the question, or of the first."""
    dating = question_kinds.asks_for_date(question)
    wants_year = _wants_year(wanted)
    keys = [
        word.text for word in comparable_words(question) if word.text not in COMMON and word.number is None
    ]
    scored: list[tuple[int, list[Number]]] = []
    position = 0
    for part in [*_NUMBER_CLAUSE_END.finditer(reply), None]:
        end = part.start() if part else len(reply)
        inside = [(i, word) for i, word in enumerate(words) if position <= word.start < end]
        numbers = []
        for i, word in inside:
            if word.number is None or not is_asserted((i, i + 1), words, reply):
                continue
            if not dating or word.text in wanted or is_year(word) or not wants_year:
                numbers.append((i, word))
        if numbers:
            score = sum(any(akin(key, word.text) for _, word in inside) for key in keys)
            scored.append((score, numbers))
        position = part.end() if part else end
    best = max((score for score, _ in scored), default=0)
    return [numbers for score, numbers in scored if score == best] if best else [n for _, n in scored[:1]]


def _hedged_between(chosen: list[list[Number]], wanted: set[str], reply: str) -> bool:
    """True for "1912 or 1915": the right number offered beside another."""
    for numbers in chosen:
        for (_, one), (_, other) in itertools.pairwise(numbers):
            one_is_right = (one.text in wanted) != (other.text in wanted)
            if one_is_right and _OR_BETWEEN.fullmatch(reply[one.end : other.start]):
                return True
    return False


def is_one_of_many(span: Span, words: list[Word], reply: str, reference: str) -> bool:
    """True if the answer is one of several alternatives, or stands in a list longer than the reference's."""
    first, last = words[span[0]], words[span[1] - 1]
    left, right = around(SENTENCE_END, reply, first.start, last.end)
    sentence = reply[left:right]
    nearby = reply[max(left, first.start - _HEDGE_REACH) : min(right, last.end + _HEDGE_REACH)]
    if re.search(r"\bor\b", nearby) and not re.search(r"\bor\b", reference):
        either = re.search(r"\beither\b", sentence, re.IGNORECASE)
        if either or _HEDGE.search(sentence) or len(sentence.split()) <= _SHORT_SENTENCE:
            return True
    items = [item for item in re.split(r"[,;]\s*(?:and |or )?|\s+(?:and|or)\s+", sentence) if item]
    short = [item for item in items if len(item.split()) <= _ITEM]
    is_list = len(items) >= _LIST and len(short) >= len(items) - 1
    return is_list and len(re.split(r",|\band\b", reference)) < len(items) / 2


def other_name_first(found: list[Span], words: list[Word], reply: str, question: str) -> bool:
    """True if the reply to a who-question opens with somebody else, and the right name comes only later."""
    if not question_kinds.asks_for_person(question):
        return False
    _, end = around(SENTENCE_END, reply, 0, 0)
    if not words or any(words[span[0]].start < end for span in found):
        return False
    opening = [word for word in words if word.start < end]
    negates = any(word.text in NEGATORS for word in opening)
    if negates or BELIEF.search(reply[:end]) or not is_asserted((0, 1), words, reply):
        return False
    in_question = comparable_words(question)
    doer = _DOER.search(reply[:end])
    if doer and not any(
        same(word.text, other.text) for word in comparable_words(doer[1]) for other in in_question
    ):
        return True
    return len(opening) > 1 and _is_name(opening, in_question)


def _is_name(opening: list[Word], in_question: list[Word]) -> bool:
    """True if the first two words of a reply are a name that is not in the question."""
    first, second = opening[:2]
    if not (first.capital and second.capital) or first.text in COMMON or first.number is not None:
        return False
    return not any(same(first.text, word.text) for word in in_question)
