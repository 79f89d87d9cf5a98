"""Is a reply right against its reference? A matcher that reads clauses, numbers, names and contradictions.

It asks three things: does the answer stand in the reply, is it asserted there (not denied, hedged between
alternatives or told of something else), and does nothing that the reply says first speak against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepred_common.judging import offered_choices, question_kinds
from deepred_common.judging.assertion import affirms, after_correction, first_asserted, polarity, spans
from deepred_common.judging.comparable_words import comparable_words, fold
from deepred_common.judging.contradiction import (
    is_one_of_many,
    number_fits,
    other_name_first,
    other_number_first,
)
from deepred_common.judging.none_answer import means_none, says_none
from deepred_common.judging.reference_answer import answers_in, telling_words
from deepred_common.judging.same_word import akin
from deepred_common.judging.words import Word

_ENOUGH = 0.34  # share of a reference's telling words that an explanation must say; set on the half "build"
_FEWEST = 2  # but at least so many words

# "I don't have any information about that" does not give away that people search for information.
_WORDS_OF_REFUSALS = frozenset(
    "i me my know knowledge information data detail details answer answers question topic subject matter "
    "help find tell say sorry records".split()
)

# "because it contains salt, which is a mineral": what a thing is gives no reason.
_IS_A = re.compile(r"\b(?:which|that|and) (?:is|are|was|were) (?:an? |the )?(?:\w+ )?$", re.IGNORECASE)

# Answers that say yes or no and nothing more, as words: they may stand in any reply.
_YES_OR_NO = (["yes"], ["no"], ["none"], ["never"], ["nobody"], ["not", "yet"])


def is_right(reply: str, reference: str, question: str, accepted: Sequence[str] = ()) -> bool:
    """True if `reply` gives the answer that `reference` gives to `question`. Sort out refusals before.

    accepted: short strings any of which shows a right reply (an example's metadata.accepted_answers). With
    none, what the reference says beyond the question is the measure: its date or number if the question asks
    for one, its names if it asks for names, else enough of its telling words.
    """
    reply = fold(reply)
    accepted = [
        text for text in accepted if not _renames_what_is_asked(text, after_correction(reply), question)
    ]
    if is_word_for_word(reply, (reference, *accepted)):
        return True
    _, choices = offered_choices.split(question)
    if choices:
        count, says_more = offered_choices.taken(reply, choices)
        if count > 1 and not says_more:
            return False  # the list again: none of them is chosen
    reply = after_correction(reply)
    expected = polarity(reference)
    if (
        question_kinds.asks_yes_or_no(question)
        and expected is not None
        and _answer_is_yes_or_no(reference, accepted)
    ):
        return affirms(reply) == expected
    answers = _accepted_answers(accepted)
    all_needed = False
    if not answers:
        answers, all_needed = answers_in(reference, question)
    if not answers:
        return _explains(reply, reference, question)
    texts = (reference, *accepted)
    asks_for_number = question_kinds.asks_for_number(question)
    if asks_for_number and all(means_none(text, question) for text in accepted or [reference]):
        return says_none(reply, question)
    words = comparable_words(reply)
    in_question = comparable_words(question)
    places = [(answer, first_asserted(answer, words, reply, in_question)) for answer in answers]
    claims = [(answer, span) for answer, span in places if span is not None]
    if question_kinds.asks_why(question):
        claims = [claim for claim in claims if not _IS_A.search(reply[: words[claim[1][0]].start])]
    if all_needed and len(claims) < len(answers):
        return False
    numeric = [answer for answer in answers if _has_number(answer)]
    if numeric and (asks_for_number or question_kinds.asks_for_date(question)):
        stands = any(_has_number(answer) for answer, _ in claims)
        if number_fits(numeric, words, reply, question, texts, stands):
            return True
        if all_needed:
            return False
        # "June" is right where "21 June" is accepted, too.
        claims = [
            (answer, span)
            for answer, span in claims
            if not _has_number(answer) and not other_number_first(span[0], numeric, words, reply, question)
        ]
    asserted = [span for _, span in claims]
    if not asserted:
        return False
    if question_kinds.asks_openly(question):
        return True
    return not (
        is_one_of_many(asserted[0], words, reply, reference)
        or other_name_first(asserted, words, reply, question)
    )


def is_word_for_word(reply: str, answers: Sequence[str]) -> bool:
    """True if a reply is one of the answers and nothing else, but for case, articles and spelling."""
    given = [word.text for word in comparable_words(reply)]
    return bool(given) and any(given == [word.text for word in comparable_words(text)] for text in answers)


def mentions(
    reply: str,
    reference: str,
    question: str,
    accepted: Sequence[str] = (),
    besides: Sequence[str] = (),
) -> bool:
    """True if the answer stands anywhere in `reply`, claimed or not: what a refusal must not let slip.

    Words of the question do not count, nor those that any refusal may use, nor yes and no, nor does an
    explanation without a name, a number or an accepted string. besides: texts of another answer; what may
    mean that one as well ("Johnson": Andrew Johnson or Lyndon B. Johnson) does not count unless it stands in
    `accepted` letter for letter.
    """
    reply = fold(reply)
    words = comparable_words(reply)
    answers = _accepted_answers(accepted) or answers_in(reference, question)[0]
    given = {word.text for word in comparable_words(question)} | _WORDS_OF_REFUSALS
    others = [span for answer in _accepted_answers(besides) for span in spans(answer, words)]
    for answer in answers:
        if [word.text for word in answer] in _YES_OR_NO:
            continue
        for start, end in spans(answer, words):
            # Of "the Simplon Tunnel" a question for a tunnel does not give the name away.
            if all(word.text in given for word in words[start:end]):
                continue
            is_shared = any(first <= start and end <= last for first, last in others)
            if not is_shared or _stands_in(reply[words[start].start : words[end - 1].end], accepted):
                return True
    return False


def _stands_in(text: str, texts: Sequence[str]) -> bool:
    """True if a text is one of the texts, whatever the case."""
    return text.lower() in (fold(one).lower() for one in texts)


def _renames_what_is_asked(text: str, reply: str, question: str) -> bool:
    """True if an accepted text is but another name of a thing in the question, and the reply lacks that name.

    "H2O" shows that a reply knows what water is made of; "water" does not.
    """
    asked = {word.text for word in comparable_words(question)}
    plain = fold(text).lower()
    return (
        all(word.text in asked for word in comparable_words(text))
        and not set(plain.split()) <= set(re.findall(r"\w+", fold(question).lower()))
        and plain not in reply.lower()
    )


def _accepted_answers(accepted: Sequence[str]) -> list[list[Word]]:
    return [answer for text in accepted if (answer := comparable_words(text))]


def _has_number(answer: list[Word]) -> bool:
    return any(word.number is not None for word in answer)


def _explains(reply: str, reference: str, question: str) -> bool:
    """True if a reply to an open question says enough of what the reference says."""
    telling = {word.text for word in telling_words(reference, comparable_words(question))}
    if not telling:
        return False
    numbers = {text for text in telling if text[0].isdigit()}
    in_reply = [word.text for word in comparable_words(reply)]
    hits = len(numbers & set(in_reply))
    hits += sum(any(akin(text, other) for other in in_reply) for text in telling - numbers)
    return hits >= min(len(telling), max(_FEWEST, round(len(telling) * _ENOUGH)))


def _answer_is_yes_or_no(reference: str, accepted: Sequence[str]) -> bool:
    if not accepted or any(text.strip().lower() in ("yes", "no") for text in accepted):
        return True
    return re.match(r"(?:yes|no)\b", reference, re.IGNORECASE) is not None
