"""Which fact of the bank goes where: to training, to validation or to test, for one cutoff."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from deepred_common.data import facts
from deepred_common.data.facts import Fact
from deepred_common.examples import SIDES

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# Of the split that the shipped data are built with: it says which facts no shipped training file holds.
SHIPPED_SEED = 42
SHARES = {VALIDATION: 0.12, TEST: 0.1}  # of each side's facts; the rest is trained on
_SHORTEST_NAME = 4  # letters; a shorter subject ("Ur") would be found in words that do not mean it

_WORD = re.compile(r"\w+")

Split = dict[str, dict[str, list[Fact]]]  # {TRAIN, VALIDATION or TEST: {side: facts}}


class _Placed(NamedTuple):
    """A fact and its side of the cutoff."""

    fact: Fact
    side: str


def split(bank: Iterable[Fact], cutoff: str, seed: int) -> Split:
    """{TRAIN, VALIDATION or TEST: {side: [Fact]}} for a cutoff ("YYYY-MM-DD").

    Facts that share a subject or a pair stay together. Facts whose date does not tell their side are left
    out; so are training facts that name a subject held out. Validation is of facts that even the small
    embedded base knows, as far as there are any: keeping and forgetting show only in what was known. Test
    facts are drawn from all.
    """
    placed = [_Placed(fact, side) for fact in bank if (side := facts.side(fact, cutoff))]
    groups = _groups(placed)
    random.Random(f"{seed} split").shuffle(groups)
    totals = Counter(one.side for one in placed)
    parts: Split = {part: {side: [] for side in SIDES} for part in (TRAIN, VALIDATION, TEST)}

    def put(group: list[_Placed], part: str) -> None:
        for fact, side in group:
            parts[part][side].append(fact)

    def fits(group: list[_Placed], part: str) -> bool:
        """Is there room for a group in validation or test?"""
        for side, count in Counter(one.side for one in group).items():
            if len(parts[part][side]) + count > SHARES[part] * totals[side]:
                return False
        return True

    not_in_test = []
    for group in groups:
        if fits(group, TEST):
            put(group, TEST)
        else:
            not_in_test.append(group)
    known_first = sorted(not_in_test, key=lambda group: not all(fact.is_known for fact, _ in group))
    for group in known_first:
        put(group, VALIDATION if fits(group, VALIDATION) else TRAIN)

    held_out = [fact.subject for part in SHARES for side in SIDES for fact in parts[part][side]]
    names_held_out = name_finder(held_out)
    for side in SIDES:
        parts[TRAIN][side] = [
            fact
            for fact in parts[TRAIN][side]
            if not names_held_out(" ".join([fact.question, *fact.phrasings, fact.answer]))
        ]
    return parts


def groups_of(facts: Sequence[Fact]) -> list[int]:
    """The number of each fact's group, from 0: facts that share a subject or a pair have the same."""
    # The side plays no part in what belongs together.
    groups = _groups([_Placed(fact, "") for fact in facts])
    number = {fact.id: place for place, group in enumerate(groups) for fact, _ in group}
    return [number[fact.id] for fact in facts]


def _groups(placed: list[_Placed]) -> list[list[_Placed]]:
    """The facts in groups that must not part, in an order that follows from the bank alone.

    What stands in brackets makes no other subject, nor do further words: "Kindle" and "Amazon Kindle" are
    one.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    names = {_bare(fact.subject).casefold() for fact, _ in placed if _is_name(_bare(fact.subject))}
    for fact, _ in placed:
        subject = _bare(fact.subject).casefold()
        linked = [("subject", name) for name in _runs(subject) & names]
        if fact.pair:
            linked.append(("pair", fact.pair))
        for key in linked:
            parent[root(key)] = root(("subject", subject))
    groups = defaultdict(list)
    for one in placed:
        groups[root(("subject", _bare(one.fact.subject).casefold()))].append(one)
    return sorted(groups.values(), key=lambda group: min(fact.id for fact, _ in group))


def name_finder(subjects: Iterable[str]) -> Callable[[str], list[str]]:
    """A function that gives those of the subjects that a text names.

    A name of several words is found in any case, a single word only as it is written. Common nouns are no
    names.
    """
    # By the longest word of the name, which is the rarest in texts.
    by_word: dict[str, list[tuple[str, int, str]]] = defaultdict(list)  # {word: [(name, its place, subject)]}
    for subject in set(subjects):
        name = _without_article(_bare(subject))
        if len(name) >= _SHORTEST_NAME and _is_name(name) and (words := list(_WORD.finditer(name))):
            longest = max(words, key=lambda word: len(word[0]))
            by_word[longest[0].lower()].append((name, longest.start(), subject))

    def named(text: str) -> list[str]:
        return [
            subject
            for word in _WORD.finditer(text)
            for name, place, subject in by_word.get(word[0].lower(), ())
            if _stands_at(name, text, word.start() - place)
        ]

    return named


def _stands_at(name: str, text: str, start: int) -> bool:
    """Does a name stand in a text from `start` on, as a whole?"""
    if start < 0:
        return False
    standing = text[start : start + len(name)]
    if (standing.lower() != name.lower()) if " " in name else (standing != name):
        return False
    around = text[max(start - 1, 0) : start] + text[start + len(name) : start + len(name) + 1]
    return not _WORD.search(around)


def _without_article(name: str) -> str:
    """ "Suez Crisis", of "the Suez Crisis"; but "The Who", of which a single word would be left, as it is."""
    rest = re.sub(r"^(?:the|an?) ", "", name, flags=re.IGNORECASE)
    return rest if " " in rest else name


def plain_name(subject: str) -> str:
    """A subject by which the same one is found again: without brackets, article and capital letters."""
    return re.sub(r"^(?:the|an?) ", "", _bare(subject).casefold())


def _bare(subject: str) -> str:
    """A subject without the brackets that only tell it from another: Metropolis, of "Metropolis (film)"."""
    return re.sub(r"\s*\([^()]*\)$", "", subject)


def _is_name(subject: str) -> bool:
    """False of a common noun: a book printed on paper is not about the subject "paper"."""
    return " " in subject or subject != subject.lower()


def _runs(subject: str) -> set[str]:
    """All runs of words in it: "Amazon Kindle" is about what "Kindle" is about."""
    words = subject.split()
    runs = set()
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            runs.add(" ".join(words[start:end]))
    return runs
