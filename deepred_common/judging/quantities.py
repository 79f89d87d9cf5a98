"""Numbers with units: is 212 °F the same as 100 °C, 29 032 feet as 8 849 metres, "nearly fourteen billion" as 13.8 billion?"""

from deepred_common.judging.comparable_words import comparable_words

# Lengths in metres, masses in kilograms; temperatures are turned separately.
_FACTORS = {
    "kilometer": 1000,
    "mile": 1609.344,
    "meter": 1,
    "foot": 0.3048,
    "feet": 0.3048,
    "yard": 0.9144,
    "inch": 0.0254,
    "centimeter": 0.01,
    "kilogram": 1e6,
    "pound": 453592,
    "ton": 1e9,
    "tonne": 1e9,
    "gram": 1000,
}


def _unit(found, place):
    """The unit of length, mass or temperature that follows the number at `place`, or None."""
    for word in found[place + 1 : place + 3]:
        text = word.text.rstrip("s") if word.text not in ("celsius", "feet") else word.text
        if text in _FACTORS or text in ("celsius", "fahrenheit"):
            return text
    return None


def _quantity(found, place):
    """(dimension, value in base units) of the number at `place`, or None without a unit."""
    unit, value = _unit(found, place), found[place].number
    if unit is None:
        return None
    if unit in ("celsius", "fahrenheit"):
        return "temperature", value if unit == "celsius" else (value - 32) / 1.8
    return ("mass" if unit in ("kilogram", "pound", "ton", "tonne", "gram") else "length"), value * _FACTORS[
        unit
    ]


def _reference_quantities(reference):
    found = comparable_words(reference)
    return [
        quantity
        for i, word in enumerate(found)
        if word.number is not None and (quantity := _quantity(found, i))
    ]


def _near(a, b):
    return a[0] == b[0] and abs(a[1] - b[1]) <= 0.03 * max(abs(a[1]), abs(b[1]), 1e-9)


def about(number, wanted):
    """True if a big number is one of the wanted ones in round figures, within 2 %."""
    return any(abs(number - float(other)) <= 0.02 * float(other) for other in wanted if float(other) >= 1000)


def unit_fits(place, said, reference):
    """False if the number at `place` of the words `said` has a unit, and with it is no quantity of the reference sentence."""
    quantity, wanted = _quantity(said, place), _reference_quantities(reference)
    return quantity is None or not wanted or any(_near(quantity, other) for other in wanted)


def same_quantity(place, said, reference):
    """True if the number at `place` of the words `said` is, with its unit, a quantity of the reference sentence in another unit."""
    quantity = _quantity(said, place)
    return quantity is not None and any(_near(quantity, other) for other in _reference_quantities(reference))
