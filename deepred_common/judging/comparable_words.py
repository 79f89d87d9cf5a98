"""Text to comparable words: one spelling for numbers, dates, accents, aliases and units.

"forty-six" and 46, "XIV" and "the Fourteenth", 1944-06-16 and "June 16th, 1944", "44 BC" and "44 B.C.E.",
Gödel and Goedel come out alike. Nothing here knows what is right or wrong.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata

from deepred_common.dates import MONTHS
from deepred_common.judging.names import with_first_names
from deepred_common.judging.number_words import with_figures
from deepred_common.judging.words import Word, plain_signs

_MONTH_SHORT = {month[:3]: month for month in MONTHS} | {"sept": "september"}
_ROMAN = re.compile(r"(?=[XVI]{2,})(X{0,3})(IX|IV|V?I{0,3})$")
_ROMAN_DIGITS = {"X": 10, "V": 5, "I": 1}
_ARTICLES = ("a", "an", "the")
_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})  # NFKD leaves these whole
_ERAS = {"bce": "bc", "ce": "ad"}
# What may stand between "June" (or "Jun") and "6th".
_BEFORE_DAY = re.compile(r"[ -](?:the )?", re.IGNORECASE)
_BEFORE_DAY_SHORT = re.compile(r"\.?[ -](?:the )?", re.IGNORECASE)
_LAST_DAY = 31
# Eras with points after a year or a century, dates in figures, numbers with and without commas and endings,
# signs, words.
_PIECE = re.compile(
    r"(?i:(?:(?<=\d )|(?<=century ))(?:b\.c(?:\.e)?|c\.e|a\.d)\b|\ba\.d\b(?=\.? \d)|\bno[ -]one\b(?!-))|"
    r"\d{1,2}/\d{1,2}/\d{4}|\d{4}-\d{2}-\d{2}|\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|"
    r"\d+(?:st|nd|rd|th)?(?![a-zA-Z\d])|%|(?:°|\bdegrees? )\s?[CF]\b|[A-Za-z\d]+(?:'[a-z]{2,})?|[^\W\d_]+"
)


def fold(text: str) -> str:
    """One kind of apostrophe, quote and dash, no accents. The case stays."""
    decomposed = unicodedata.normalize("NFKD", plain_signs(text).translate(_LETTERS))
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign))


def comparable_words(text: str) -> list[Word]:
    """The Words of a text, in order, articles left out. Spans refer to fold(text)."""
    text = fold(text)
    words: list[Word] = []
    for match in _PIECE.finditer(text):
        capital = match[0][0].isupper()
        words += [
            Word(form, capital, match.start(), match.end()) for form in _forms(match[0], text, match.start())
        ]
    return with_first_names(_in_one_order(with_figures(words), text))


def _forms(piece: str, text: str, start: int) -> list[str]:
    """The comparable forms of a piece at `start` of the text: none for an article, three for a date."""
    low = piece.lower()
    if date := re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", piece):
        year, month, day = (int(part) for part in date.groups())
        return _date_forms(day, month, date[1]) or [piece]
    if date := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", piece):
        day, month, year = (int(part) for part in date.groups())
        # The month comes first only where it cannot be the day.
        if month > 12:
            day, month = month, day
        return _date_forms(day, month, str(year)) or [piece]
    if piece[0].isdigit() and re.fullmatch(r"[\d,.]+(?:st|nd|rd|th)?", piece):
        number = re.sub(r"st|nd|rd|th|,", "", piece)
        return [re.sub(r"\.0+$", "", number) if "." in number else str(int(number))]
    if piece == "%":
        return ["percent"]
    if re.fullmatch(r"(?:°|degrees? )\s?[CF]", piece):
        return ["celsius" if piece.endswith("C") else "fahrenheit"]
    if re.fullmatch(r"no[ -]one", low):
        return ["nobody"]
    if "." in piece or piece in ("BCE", "CE"):
        era = low.replace(".", "")
        return [_ERAS.get(era, era)]
    if low in _ARTICLES:
        return []
    if piece.isupper() and _ROMAN.fullmatch(piece) and re.search(r"[A-Z][a-z]+ $", text[:start]):
        return [str(_roman_value(piece))]
    low = re.sub(r"'s$", "", low)
    if piece[0].isupper():
        low = _MONTH_SHORT.get(low, low)
    return [part for part in low.split("'") if part]


def _in_one_order(words: list[Word], text: str) -> list[Word]:
    """The words with "June 6" and "the 6th of June" as 6 and june, "AD 79" as 79 and ad.

    Both words get the span of the whole.
    """
    ordered: list[Word] = []
    place = 0
    while place < len(words):
        one, other = words[place], words[place + 1] if place + 1 < len(words) else None
        third = words[place + 2] if place + 2 < len(words) else None
        dated = ordered and _is_day(ordered[-1]) and text[ordered[-1].end : one.start] == " "
        if other and not dated and one.text in MONTHS and _is_day(other) and _day_follows(one, other, text):
            ordered += _with_one_span(other, one)
            place += 2
        elif other and third and _is_day(one) and other.text == "of" and third.text in MONTHS:
            ordered += _with_one_span(one, third)
            place += 3
        elif other and one.text == "ad" and one.capital and other.text.isdigit():
            ordered += _with_one_span(other, one)
            place += 2
        else:
            ordered.append(one)
            place += 1
    return ordered


def _is_day(word: Word) -> bool:
    return word.text.isdigit() and 1 <= int(word.text) <= _LAST_DAY


def _day_follows(month: Word, day: Word, text: str) -> bool:
    """True for "June 6", "Jun. 6" and "June the 6th"."""
    is_short = month.end - month.start < len(month.text)
    between = _BEFORE_DAY_SHORT if is_short else _BEFORE_DAY
    return between.fullmatch(text, month.end, day.start) is not None


def _with_one_span(*words: Word) -> list[Word]:
    start, end = min(word.start for word in words), max(word.end for word in words)
    return [dataclasses.replace(word, start=start, end=end) for word in words]


def _date_forms(day: int, month: int, year: str) -> list[str]:
    """Day, month name and year; empty if there is no such month."""
    return [str(day), MONTHS[month - 1], year] if 1 <= month <= 12 else []


def _roman_value(numeral: str) -> int:
    total = 0
    for place, digit in enumerate(numeral):
        subtracted = digit == "I" and numeral[place + 1 : place + 2] in ("V", "X")
        total += -1 if subtracted else _ROMAN_DIGITS[digit]
    return total
