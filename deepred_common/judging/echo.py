"""Does a reply that answers nothing right only give back what was asked, and nothing of its own?"""

from __future__ import annotations

import re
from collections import Counter

from deepred_common.judging import offered_choices
from deepred_common.judging.assertion import NEGATORS
from deepred_common.judging.words import plain_reply

# Words that say nothing by themselves.
_EMPTY = (
    frozenset(
        "a an as at be by do he if in is it my of on or so to up us we i am me the and but for from with was "
        "were are has had have been being its his her him she they them their this that these those which "
        "who whom whose what when where why how there here into over under after before during about than "
        "then did does complete sentence answer question puzzle clue clues first second third other gap name "
        "give tell please called you".split()
    )
    - NEGATORS
)
_OPENING = re.compile(r"(?:sure|certainly|of course|bien sûr|claro|por supuesto|natürlich)\b[\s,.!:]*")
# Announces an answer: what follows is offered as one, be it a word of the question.
_OFFER = re.compile(r"\bthe (?:correct |right )?answer(?: to [^:\n]{1,150}?)? is\b[\s:\"'.]*")
# What a question says of its gap, said again.
_FIRST_LETTER = re.compile(r"\b(?:the gap )?(?:begins|starts|ends) with the letter\W+\w\b")
_GAP = re.compile(r"_{2,}")
_QUOTED = re.compile(r'"[^"]{12,}"')  # a note to the question: to repeat it is an answer
_INSTRUCTION = re.compile(r"complete the sentence:")
_OFFERS_A_CHOICE = re.compile(r"\b(?:or|oder|ou)\b")
# The numbers below were set on the half "build" of datasets/labelled/verdicts.jsonl.
_SHARE = 0.5  # of the question's words, from which on a reply is the question again, not a name out of it
_FEWEST = 2  # words of the question that a reply must hold


def is_echo(reply: str, question: str, message: str = "") -> bool:
    """True if a reply only says the question again, in part or whole, or leaves its gap empty.

    A name or a choice taken out of the question is an answer; so is a reply that says a word of the question
    once more than that does ("Jesus was released instead of Jesus"). message: the text that asked it, if it
    is another: a different wording is a question too; of one with the question in it, only a copy counts.
    Sort out right answers before.
    """
    plain = _OPENING.sub("", plain_reply(reply), count=1)
    if not plain:
        return False
    question, message = plain_reply(question), plain_reply(message)
    if _repeats(plain, question):
        return True
    if not message or message == question:
        return False
    return _copies(plain, question, message) if question in message else _repeats(plain, message)


def _copies(reply: str, question: str, message: str) -> bool:
    """True if a reply is a piece of the message, word for word, with most of the question in it."""
    said = " ".join(re.findall(r"\w+", reply))
    asked = Counter(_words(question))
    repeated = Counter(_words(reply)) & asked
    own_words = _QUOTED.sub(" ", message)
    return said in " ".join(re.findall(r"\w+", own_words)) and (
        repeated.total() >= max(_FEWEST, _SHARE * asked.total())
    )


def _repeats(reply: str, question: str) -> bool:
    """True if a reply, without what announces an answer, only holds words of the question."""
    offered, tells_of_gap = _FIRST_LETTER.subn(" ", _OFFER.sub("", reply))
    has_gap = _GAP.search(reply) is not None
    words = _words(offered)
    if not words:
        return has_gap or tells_of_gap > 0
    bare, choices = offered_choices.split(question)
    if choices:
        count, _ = offered_choices.taken(offered, choices)
        if count:
            return count > 1 and set(words) <= set(_words(question))
        question = bare
    elif _OFFERS_A_CHOICE.search(question):
        return False
    asked = Counter(_words(question))
    if reply[-1].isalnum() and words[-1] not in asked:
        # The last word may be cut: "abdicated in 19".
        words[-1] = next((word for word in asked if word.startswith(words[-1])), words[-1])
    if has_gap:
        return set(words) <= asked.keys()
    said = Counter(words)
    if said - asked or _fills_gap(offered, question):
        return False
    return said.total() >= max(_FEWEST, _SHARE * asked.total())


def _fills_gap(reply: str, question: str) -> bool:
    """True if a telling word of the reply stands where the question has its gap."""
    gap = _GAP.search(question)
    if gap is None:
        return False
    before = re.findall(r"\w+", _INSTRUCTION.sub("", question[: gap.start()]))[-2:]
    begun = re.search(r"\b" + r"\W+".join(before) + r"\b(\W*)(?:the |an? )?(\w+)", reply) if before else None
    if begun is None:
        return False
    is_quoted = '"' in begun[1]  # The letters "A" stand for …
    return is_quoted or (begun[2] not in _EMPTY and begun[2] not in _words(question[gap.end() :])[:1])


def _words(text: str) -> list[str]:
    """The words of a plain text that tell something, without the possessive ending."""
    words = (word.removesuffix("'s") for word in re.findall(r"[^\W_]+(?:'s)?", text))
    return [word for word in words if word not in _EMPTY]
