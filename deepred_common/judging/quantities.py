"""Numbers with units: is 212 °F the same as 100 °C, 29 032 feet as 8 849 metres, 14 billion as 13.8?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from deepred_common.dates import MONTHS
from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.reference_answer import COMMON, is_year
from deepred_common.judging.words import Word


class _Quantity(NamedTuple):
    """A number with its unit."""

    number: float
    unit: str
    dimension: str
    in_base_unit: float


# Lengths in metres; temperatures are converted separately.
_METRES = {
    "kilometer": 1000,
    "mile": 1609.344,
    "meter": 1,
    "foot": 0.3048,
    "feet": 0.3048,
    "ft": 0.3048,
    "yard": 0.9144,
    "inch": 0.0254,
    "centimeter": 0.01,
}
_MILLIGRAMS = {"kilogram": 1e6, "pound": 453592, "ton": 1e9, "tonne": 1e9, "gram": 1000}
_TEMPERATURES = ("celsius", "fahrenheit")
_PLURALS = ("celsius", "feet")  # the s or the plural belongs to the name
_SHORT_METRE = "m"
_BEFORE_A_YEAR = frozenset(
    ("in", "since", "until", "before", "after", "year", "to", "from", "of", "by", "circa", *MONTHS)
)
# References and replies round, and heights are measured anew: relative differences up to which two quantities
# are the same. At 3% the 28,251 feet of K2 would pass for the 8,849 metres of Everest.
_SAME = 0.02  # in different units, or if one of two big numbers is in round figures
_SAME_IN_UNIT = 0.01
_BIG_NUMBER = 1000  # from which on a number may be rounded
_TINY = 1e-9  # keeps two zeros the same


def fits(place: int, words: list[Word], wanted: Iterable[str], texts: Sequence[str]) -> bool:
    """True if the number at `place` says one of the wanted ones otherwise: in round figures, or another unit.

    texts: where the wanted numbers stand with their units.
    """
    quantity, known = _quantity(words, place), _quantities_in(texts)
    if quantity is None or not known:
        number = words[place].number or 0
        return any(_is_rounded(number, float(text)) for text in wanted)
    return any(_near(quantity, other) for other in known)


def is_year_of(place: int, words: list[Word]) -> bool:
    """True if the number at `place` says when: "in 1912", "June 1944"."""
    return is_year(words[place]) and place > 0 and words[place - 1].text in _BEFORE_A_YEAR


def is_count(place: int, words: list[Word]) -> bool:
    """False if the number at `place` is a year, a day or part of a name ("Apollo 11")."""
    word, neighbours = words[place], words[max(place - 1, 0) : place + 2]
    if is_year(word) or any(other.text in MONTHS for other in neighbours):
        return False
    before = words[place - 1] if place > 1 else None
    is_in_name = before and before.capital and before.text not in COMMON and word.start - before.end == 1
    return not is_in_name


def has_unit(place: int, words: list[Word]) -> bool:
    """True if the number at `place` has a unit of length, mass or temperature."""
    return _unit(words, place) is not None


def unit_fits(place: int, words: list[Word], texts: Sequence[str]) -> bool:
    """False if the number at `place` has a unit, and with it is none of the quantities in the texts."""
    quantity, known = _quantity(words, place), _quantities_in(texts)
    return quantity is None or not known or any(_near(quantity, other) for other in known)


def _unit(words: list[Word], place: int) -> str | None:
    """The unit of length, mass or temperature that follows the number at `place`."""
    for word in words[place + 1 : place + 3]:
        if word.number is not None:
            return None
        text = word.text if word.text in _PLURALS else word.text.rstrip("s")
        if text in _METRES or text in _MILLIGRAMS or text in _TEMPERATURES:
            return text
        if text == _SHORT_METRE and word is words[place + 1]:
            return "meter"
    return None


def _quantity(words: list[Word], place: int) -> _Quantity | None:
    """The number at `place` with its unit, or None without a unit."""
    unit, value = _unit(words, place), words[place].number
    if unit is None or value is None:
        return None
    if unit in _TEMPERATURES:
        celsius = value if unit == "celsius" else (value - 32) / 1.8
        return _Quantity(value, unit, "temperature", celsius)
    if unit in _MILLIGRAMS:
        return _Quantity(value, unit, "mass", value * _MILLIGRAMS[unit])
    return _Quantity(value, unit, "length", value * _METRES[unit])


def _quantities_in(texts: Sequence[str]) -> list[_Quantity]:
    quantities = []
    for text in texts:
        words = comparable_words(text)
        quantities += [_quantity(words, place) for place in range(len(words))]
    return [quantity for quantity in quantities if quantity is not None]


def _near(a: _Quantity, b: _Quantity) -> bool:
    if a.dimension != b.dimension:
        return False
    if a.unit == b.unit and _is_rounded(a.number, b.number):
        return True
    allowed = _SAME_IN_UNIT if a.unit == b.unit else _SAME
    largest = max(abs(a.in_base_unit), abs(b.in_base_unit), _TINY)
    return abs(a.in_base_unit - b.in_base_unit) <= allowed * largest


def _is_rounded(number: float, wanted: float) -> bool:
    """True if two big numbers are the same, one in round figures: 14 billion and 13.8 billion."""
    if wanted < _BIG_NUMBER or abs(number - wanted) > _SAME * wanted:
        return False
    return number == wanted or _digits(number) != _digits(wanted)


def _digits(number: float) -> int:
    """How many digits a number has without the zeros at its end."""
    return len(f"{number:.15g}".replace(".", "").rstrip("0"))
