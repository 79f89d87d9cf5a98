"""Questions as text: what tells two of them apart, their form, and what their first words give away."""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from deepred_common.examples import SIDES
from deepred_common.judging.words import plain_words

# Without "by" and "from", which tell who did it and which way it went: "Who was succeeded by Nixon?" is not
# "Who succeeded Nixon?".
_COMMON = frozenset(
    "a an the of in on at to for with is was are were be been did do does what which who whom whose "
    "name tell me give us can could you would please i like know and or it its that this".split()
)
_QUESTION_ADVERBS = frozenset("when where why how".split())
_TENSES = {"was": "is", "are": "is", "were": "is"}
_OPENING = frozenset("please can could would will you tell me us name give do i like to know".split())
_FILLERS = frozenset("please a an the".split())
_FORM = re.compile(
    r"\W*(?:(?:at|by|for|from|in|into|of|off|on|to|under|with) )?"
    r"(what|who|whom|whose|when|where|which|why|how|tell me|describe|explain|name|give)\b"
)
_FORM_OF = {"whom": "who", "whose": "who"} | dict.fromkeys(("describe", "explain", "name", "give"), "tell me")
FIRST_WORDS = 3  # words of a question from which its side is guessed


class QuestionHashes(NamedTuple):
    """Hashes by which questions are compared; the same in one process only.

    key: without what does not change a question: case, punctuation, spaces. in_order: of its telling words,
    the same for what asks it more politely. in_any_order: of its set of telling words.
    """

    key: int
    in_order: int
    in_any_order: int


def question_hashes(question: str) -> QuestionHashes:
    """The QuestionHashes of a question.

    With one telling word ("Who is Bono?") all words count but the opening ("Do you know …"), in any order.
    """
    words = plain_words(question)
    telling = [word for word in words if word not in _COMMON]
    if len(set(telling) - _QUESTION_ADVERBS) < 2:
        opening = next((i for i, word in enumerate(words) if word not in _OPENING), 0)
        telling = sorted(_TENSES.get(word, word) for word in words[opening:] if word not in _FILLERS)
    return QuestionHashes(
        key=hash(" ".join(words) or question),
        in_order=hash(tuple(telling) or question),
        in_any_order=hash(frozenset(telling) or question),
    )


def first_words_accuracy(
    learned_from: Sequence[tuple[str, str]], tried_on: Sequence[tuple[str, str]]
) -> float | None:
    """How often a question's first three words tell its side, from 0 to 1; None if `tried_on` lacks a side.

    Both are [(question, side)]. The mean of the two sides' shares, so that tossing a coin gives 0.5 of uneven
    sides too. Words never seen count by their first two or one, and as a coin's toss where those are even.
    """
    seen: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    totals = Counter(side for _, side in learned_from)
    for question, side in learned_from:
        for start in _starts(question):
            seen[start][side] += 1
    guessed: dict[str, list[float]] = {side: [] for side in SIDES}
    for question, side in tried_on:
        counts = next((seen[start] for start in _starts(question) if start in seen), Counter())
        shares = {name: counts[name] / max(1, totals[name]) for name in SIDES}
        leaders = [name for name in SIDES if shares[name] == max(shares.values())]
        guessed[side].append((side in leaders) / len(leaders))
    if not all(guessed.values()):
        return None
    return statistics.mean(statistics.mean(guessed[side]) for side in SIDES)


def first_words_accuracy_within(questions: Sequence[tuple[str, str]]) -> float | None:
    """first_words_accuracy of each half of [(question, side)], learned from the other; their mean."""
    # The order of files and lines must not matter.
    shuffled = sorted(questions)
    random.Random(0).shuffle(shuffled)
    halves = shuffled[::2], shuffled[1::2]
    one_way = first_words_accuracy(halves[0], halves[1])
    other_way = first_words_accuracy(halves[1], halves[0])
    if one_way is None or other_way is None:
        return None
    return (one_way + other_way) / 2


def _starts(question: str) -> list[tuple[str, ...]]:
    """The first three words of a question, its first two and its first one."""
    words = plain_words(question)[:FIRST_WORDS]
    return [tuple(words[:count]) for count in range(len(words), 0, -1)]


def question_form(question: str) -> str:
    """The kind of a question by its first words.

    One of what, who, when, where, which, why, how, tell me and other.
    """
    match = _FORM.match(question.lower())
    return _FORM_OF.get(match[1], match[1]) if match else "other"
