"""Text to comparable words: one spelling for numbers, dates, accents, aliases and units.

"forty-six" and 46, "XIV" and "the Fourteenth", 1944-06-16 and "June 16th, 1944", Gödel and Goedel come out
alike. Nothing here knows what is right or wrong.
"""

from __future__ import annotations

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
# Dates in figures, numbers with and without commas and endings, signs, words.
_PIECE = re.compile(
    r"\d{1,2}/\d{1,2}/\d{4}|\d{4}-\d{2}-\d{2}|\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|"
    r"\d+(?:st|nd|rd|th)?(?![a-zA-Z\d])|%|°\s?[CF]\b|[A-Za-z\d]+(?:'[a-z]{2,})?|[^\W\d_]+"
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
    return with_first_names(with_figures(words))


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
    if piece.startswith("°"):
        return ["celsius" if piece.endswith("C") else "fahrenheit"]
    if low in _ARTICLES:
        return []
    if piece.isupper() and _ROMAN.fullmatch(piece) and re.search(r"[A-Z][a-z]+ $", text[:start]):
        return [str(_roman_value(piece))]
    low = re.sub(r"'s$", "", low)
    if piece[0].isupper():
        low = _MONTH_SHORT.get(low, low)
    return [part for part in low.split("'") if part]


def _date_forms(day: int, month: int, year: str) -> list[str]:
    """Day, month name and year; empty if there is no such month."""
    return [str(day), MONTHS[month - 1], year] if 1 <= month <= 12 else []


def _roman_value(numeral: str) -> int:
    total = 0
    for place, digit in enumerate(numeral):
        subtracted = digit == "I" and numeral[place + 1 : place + 2] in ("V", "X")
        total += -1 if subtracted else _ROMAN_DIGITS[digit]
    return total
