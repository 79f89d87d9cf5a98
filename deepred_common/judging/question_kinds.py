"""What a question asks for, by its wording: a date, a number, yes or no, names, or an explanation."""

from __future__ import annotations

import re

# An explanation is asked for, rather than a name, a number or a date.
_OPEN = re.compile(
    r"(?:what (?:is|are|was|were|happened|does|do|did)\b(?!.*\b(?:name|capital|called|title|currency|largest|"
    r"smallest|"
    r"longest|first|year|date|stand for)\b)"
    r"|why|how(?! (?:many|much|far|high|tall|long|old|big|deep|fast|often))|tell me|describe|explain|"
    # Of a person named, in questions without capitals, too; "who was the first …" asks for a name.
    r"(?-i:[Ww]ho (?:is|was|were) [A-Z])|(?-i:who (?:is|was|were) (?!(?:the|an?) )))",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"^(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should)\b", re.IGNORECASE
)
_NUMBER = re.compile(
    r"\b(?:how (?:many|much|far|high|tall|long|old|big|deep|fast|heavy|wide|large|hot|cold|often)|what "
    r"(?:percentage|"
    r"share|number|temperature|fraction|age)|which number)\b",
    re.IGNORECASE,
)
_DATE = re.compile(r"^when\b|\b(?:what|which) (?:year|date|day|month|century|decade)\b", re.IGNORECASE)
_CENTURY = re.compile(r"\bcentury\b", re.IGNORECASE)
_DAY = re.compile(r"\b(?:date|day)\b", re.IGNORECASE)
_SEVERAL = re.compile(
    r"\b(?:two|three|four|five|six|seven)\b|\bwhich \w+ [a-z]+s\b|\bwhat (?:are|were) the\b", re.IGNORECASE
)
_PERSON = re.compile(
    r"(?:who|whom|which (?:\w+ ){1,3}?(?:discovered|invented|wrote|led|painted|composed|founded))\b",
    re.IGNORECASE,
)


def asks_openly(question: str) -> bool:
    """True if it asks for an explanation."""
    return _OPEN.match(question) is not None


def asks_why(question: str) -> bool:
    """True if it asks for a reason."""
    return question[:4].lower() == "why "


def asks_yes_or_no(question: str) -> bool:
    """True if yes or no answers it."""
    return _YES_NO.match(question) is not None


def asks_for_number(question: str) -> bool:
    """True if it asks for a quantity."""
    return _NUMBER.search(question) is not None


def asks_for_date(question: str) -> bool:
    """True if it asks for a date of any precision."""
    return _DATE.search(question) is not None


def asks_for_century(question: str) -> bool:
    """True if a question for a date wants a century."""
    return _CENTURY.search(question) is not None


def asks_for_day(question: str) -> bool:
    """True if a question for a date wants the day."""
    return _DAY.search(question) is not None


def asks_for_several(question: str) -> bool:
    """True if it asks for more than one thing."""
    return _SEVERAL.search(question) is not None


def asks_for_person(question: str) -> bool:
    """True if it asks who did something."""
    return _PERSON.match(question) is not None
