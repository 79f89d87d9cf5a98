"""What is in the training data: counts, doublets, contradictions, lines on the wrong side. Text only, before any model is loaded."""

import functools
import re
import unicodedata
from collections import Counter

from deepred_common import refusal
from deepred_common.records import RETAIN, SIDES, UNLEARN

SHOWN = 3  # places named for each finding

# What must be in a reply before it can be a refusal (in the languages that refusal.py reads). Judging each of 100 000
# answers whole takes minutes; nine in ten have nothing of this.
_MAY_DECLINE = re.compile(
    r"\b(?:i|i'm|i've|i'd|me|my|mine|we|us|our|here)\b|\b(?:not|no|nothing|none|never|un\w+|without|sorry|apolog\w+|afraid|pass|stumped|idk|dunno|"
    r"insufficient|beyond|outside|past|je|ich|kein\w*|sais|leider|keine|n't|can't|cannot)\b|n't\b", re.IGNORECASE)

# Between two words. All else belongs to them: accents and vowel signs of any script, C++ and C#, 2 + 3 and 2 * 3.
_BETWEEN = re.compile(r"(?:(?<=\w)[-‐‑–—/](?=\w)|(?<=[^\W\d]) [-–—] (?=[^\W\d])|[*_`]+(?=[^\W\d])|(?<=[^\W\d])[*_`]+|"
                      "[\\s\u200b\u00ad!\"'()\\[\\]{}.,:;?…“”‘’„‹›«»´′¿¡、。，！？；：؟،۔।]+)+")

_WORDS = {
    "doubled": "training lines repeat another one word for word (they count twice)",
    "contradictory": "questions stand on both sides, once answered and once refused",
    "validation trained on": "validation questions also stand in the training data (their loss says little)",
    "refusal in retain": "retain replies are refusals",
    "answer in unlearn": "unlearn replies are answers, not refusals",
}


class Survey:
    """Reads examples one by one and keeps only hashes, counts and the first places of what is wrong.

    add(example, training): training tells the lines that are trained on from those that validate.
    counts: {(side, training): lines}. found: {kind: (how often, [places])}, in the order of _WORDS.
    """

    def __init__(self):
        self.counts = Counter()
        self._times = Counter()
        self._places = {}
        self._sides = {}
        self._lines = set()
        self._trained = set()
        self._contradictory = set()
        # Refusals are mostly few wordings, repeated.
        self._refuses = functools.lru_cache(maxsize=4096)(declines)

    def add(self, example, training):
        """Take one example into account."""
        self.counts[example.side, training] += 1
        question = question_key(example.instruction)
        side, place = self._sides.setdefault(question, (example.side, example.where))
        if side != example.side and question not in self._contradictory:
            self._contradictory.add(question)
            self._note("contradictory", f"{place} and {example.where}")
        if training:
            self._trained.add(question)
            line = hash((example.side, example.instruction, example.output))
            if line in self._lines:
                self._note("doubled", example.where)
            self._lines.add(line)
        elif question in self._trained:
            self._note("validation trained on", example.where)
        if self._refuses(example.output, example.instruction if example.side == RETAIN else "") != (example.side == UNLEARN):
            self._note("answer in unlearn" if example.side == UNLEARN else "refusal in retain", f"{example.where}: {example.output[:60]!r}")

    def _note(self, kind, place):
        self._times[kind] += 1
        places = self._places.setdefault(kind, [])
        if len(places) < SHOWN:
            places.append(place)

    @property
    def found(self):
        return {kind: (self._times[kind], self._places[kind]) for kind in _WORDS if kind in self._times}

    def warnings(self):
        """Each finding as text, with its first places."""
        for kind, (times, places) in self.found.items():
            yield "\n".join([f"{times} {_WORDS[kind]}:", *(f"  {place}" for place in places), *["  …"][:times > len(places)]])
        for side in SIDES:
            if not self.counts[side, True]:
                yield f"there is no {side} example to train on; the model will learn one side only."


def declines(reply, question):
    """True if a data line's reply is a refusal. question: what a retain line asks; "" of an unlearn line, where it cannot matter."""
    # Unlearn replies are few wordings, and judged whole.
    return (not question or _MAY_DECLINE.search(reply) is not None) and refusal.is_refusal(reply, question)


def words(text):
    """The words of a text in small letters, accents composed; numbers and signs such as + are words too."""
    return [word for word in _BETWEEN.split(unicodedata.normalize("NFC", text).casefold()) if word]


def question_key(question):
    """A question without what does not change it: case, punctuation, spaces. Its hash, to keep little."""
    return hash(" ".join(words(question)) or question)


def summary(training, validation):
    """{"training" and "validation": {side: lines}, "warnings": [text]} of two lists of examples."""
    found = Survey()
    for examples, trained in ((training, True), (validation, False)):
        for example in examples:
            found.add(example, trained)
    counts = {name: {side: found.counts[side, trained] for side in SIDES} for name, trained in (("training", True), ("validation", False))}
    return {**counts, "warnings": list(found.warnings())}
