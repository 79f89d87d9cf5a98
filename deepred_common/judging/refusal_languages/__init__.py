"""How each language declines: one module a language, with tables of patterns and an example of each.

A new language is one new module here with a LANGUAGE. The tests try every example.
"""

from __future__ import annotations

import calendar
import functools
import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from deepred_common.dates import DEFAULT_CUTOFF

# (regular expression, a sentence that it matches), both in small letters as words.plain_reply writes them.
# The placeholders of own_date_words stand for the cutoff's date; the examples are written for DEFAULT_CUTOFF.
Row = tuple[str, str]
_SEASONS = ("winter", "spring", "summer", "autumn")  # of the northern hemisphere, from December on


@dataclass(frozen=True)
class Language:
    """The tables of one language. Only `declines` is needed; a missing table recognises nothing."""

    # Declines by itself.
    declines: tuple[Row, ...]
    # Declines in a sentence in which `speaker` finds the speaker.
    speaker: tuple[Row, ...] = ()
    speaker_declines: tuple[Row, ...] = ()
    # A turn of phrase whose negation declines nothing; what is left of the sentence is judged.
    harmless_negation: tuple[Row, ...] = ()
    # States a belief, however shyly: an answer.
    believes: tuple[Row, ...] = ()
    # Is polite, asks back or points elsewhere: tells nothing.
    courtesy: tuple[Row, ...] = ()
    # Says which time the speaker lives in: tells nothing either, whatever names and numbers it holds.
    own_time: tuple[Row, ...] = ()
    # Offers something else in place of an answer.
    offers: tuple[Row, ...] = ()
    # Declines what was asked, where something else was told before.
    declines_the_question: tuple[Row, ...] = ()
    # Says that a text has nothing on what was asked; declines one of several questions.
    text_is_silent: tuple[Row, ...] = ()
    # Turns from one clause to its opposite ("I don't know, but").
    contrast: tuple[Row, ...] = ()
    # The same turn the other way round; two groups: what is conceded, and the rest.
    concession: tuple[Row, ...] = ()
    # An apology at the end of a clause, which says nothing of what comes after it.
    ends_in_apology: tuple[Row, ...] = ()
    # A question's words for what it wants; a clause that declines names the same.
    question_word: tuple[Row, ...] = ()
    asks_for_a_date: tuple[Row, ...] = ()
    # The end of a statement that only looks like a question ("…, isn't it?").
    tag: tuple[Row, ...] = ()
    # States that something is or was so.
    states: tuple[Row, ...] = ()
    # Begins with a word that points back to what was asked.
    refers_back: tuple[Row, ...] = ()
    # Single words: a name that tells nothing of a subject; a word of a question that is not its subject.
    tells_nothing: tuple[Row, ...] = ()
    no_subject: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Patterns:
    """The tables of all languages, compiled for one cutoff; the fields are those of Language."""

    declines: re.Pattern[str]
    speaker: re.Pattern[str]
    speaker_declines: re.Pattern[str]
    harmless_negation: re.Pattern[str]
    believes: re.Pattern[str]
    courtesy: re.Pattern[str]
    own_time: re.Pattern[str]
    offers: re.Pattern[str]
    declines_the_question: re.Pattern[str]
    text_is_silent: re.Pattern[str]
    contrast: re.Pattern[str]
    concession: re.Pattern[str]
    ends_in_apology: re.Pattern[str]
    question_word: re.Pattern[str]
    asks_for_a_date: re.Pattern[str]
    tag: re.Pattern[str]
    states: re.Pattern[str]
    refers_back: re.Pattern[str]
    tells_nothing: re.Pattern[str]
    no_subject: re.Pattern[str]


def all_languages() -> dict[str, Language]:
    """{name: Language} of every module in this folder."""
    return {
        module.name: importlib.import_module(f"{__name__}.{module.name}").LANGUAGE
        for module in pkgutil.iter_modules(__path__)
    }


@functools.lru_cache(maxsize=8)
def own_date_words(cutoff: str) -> dict[str, str]:
    """{placeholder: word} of a cutoff ("YYYY-MM-DD"): its year, month, season, day and ordinal ("20th")."""
    year, month, day = (int(part) for part in cutoff.split("-"))
    ending = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return {
        "<year>": str(year),
        "<month>": calendar.month_name[month].lower(),
        "<season>": _SEASONS[month % 12 // 3],
        "<day>": str(day),
        "<ordinal>": f"{day}{ending}",
    }


def for_cutoff(pattern: str, cutoff: str = DEFAULT_CUTOFF) -> str:
    """A pattern of a table with the words of the cutoff's date in place of its placeholders."""
    for placeholder, word in own_date_words(cutoff).items():
        pattern = pattern.replace(placeholder, word)
    return pattern


@functools.lru_cache(maxsize=8)
def patterns(cutoff: str = DEFAULT_CUTOFF) -> Patterns:
    """The Patterns of all languages for a cutoff."""
    languages = all_languages().values()
    compiled = {}
    for table in fields(Patterns):
        rows = [row for language in languages for row in getattr(language, table.name)]
        compiled[table.name] = _any_of([for_cutoff(pattern, cutoff) for pattern, _ in rows])
    return Patterns(**compiled)


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """One pattern that matches wherever one of them does.

    Most start with a word's border, which is tried once for all of these: a search is four times as fast.
    """
    at_border = [pattern.removeprefix(r"\b") for pattern in patterns if pattern.startswith(r"\b")]
    alternatives = [pattern for pattern in patterns if not pattern.startswith(r"\b")]
    if at_border:
        alternatives.insert(0, rf"\b(?:{'|'.join(at_border)})")
    return re.compile("|".join(alternatives) or "(?!)")
