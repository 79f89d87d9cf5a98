"""Numbers with units: is 212 °F the same as 100 °C, 29 032 feet as 8 849 metres, 14 billion as 13.8?"""

from __future__ import annotations

from collections.abc import Iterable

from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.words import Word

Quantity = tuple[str, float]  # dimension, and the value in its base unit

# Lengths in metres; temperatures are converted separately.
_METRES = {
    "kilometer": 1000,
    "mile": 1609.344,
    "meter": 1,
    "foot": 0.3048,
    "feet": 0.3048,
    "yard": 0.9144,
    "inch": 0.0254,
    "centimeter": 0.01,
}
_MILLIGRAMS = {"kilogram": 1e6, "pound": 453592, "ton": 1e9, "tonne": 1e9, "gram": 1000}
_TEMPERATURES = ("celsius", "fahrenheit")
_PLURALS = ("celsius", "feet")  # the s or the plural belongs to the name
# References and replies round; set on the half "build" of datasets/labelled/grades.jsonl.
_SAME_QUANTITY = 0.03  # relative difference up to which two quantities are the same
_SAME_NUMBER = 0.02  # and two big numbers without a unit
_BIG_NUMBER = 1000  # from which on a number may be rounded
_TINY = 1e-9  # keeps two zeros the same


def about(number: float, wanted: Iterable[str]) -> bool:
    """True if a big number is one of the wanted ones in round figures."""
    values = [float(text) for text in wanted]
    return any(abs(number - value) <= _SAME_NUMBER * value for value in values if value >= _BIG_NUMBER)


def unit_fits(place: int, words: list[Word], reference: str) -> bool:
    """False if the number at `place` has a unit, and with it is none of the reference's quantities."""
    quantity, wanted = _quantity(words, place), _quantities_in(reference)
    return quantity is None or not wanted or any(_near(quantity, other) for other in wanted)


def same_quantity(place: int, words: list[Word], reference: str) -> bool:
    """True if the number at `place` with its unit is one of the reference's quantities, in any unit."""
    quantity = _quantity(words, place)
    return quantity is not None and any(_near(quantity, other) for other in _quantities_in(reference))


def _unit(words: list[Word], place: int) -> str | None:
    """The unit of length, mass or temperature that follows the number at `place`."""
    for word in words[place + 1 : place + 3]:
        text = word.text if word.text in _PLURALS else word.text.rstrip("s")
        if text in _METRES or text in _MILLIGRAMS or text in _TEMPERATURES:
            return text
    return None


def _quantity(words: list[Word], place: int) -> Quantity | None:
    """The number at `place` with its unit, or None without a unit."""
    unit, value = _unit(words, place), words[place].number
    if unit is None or value is None:
        return None
    if unit in _TEMPERATURES:
        return "temperature", value if unit == "celsius" else (value - 32) / 1.8
    if unit in _MILLIGRAMS:
        return "mass", value * _MILLIGRAMS[unit]
    return "length", value * _METRES[unit]


def _quantities_in(reference: str) -> list[Quantity]:
    words = comparable_words(reference)
    quantities = [_quantity(words, place) for place in range(len(words))]
    return [quantity for quantity in quantities if quantity is not None]


def _near(a: Quantity, b: Quantity) -> bool:
    return a[0] == b[0] and abs(a[1] - b[1]) <= _SAME_QUANTITY * max(abs(a[1]), abs(b[1]), _TINY)
