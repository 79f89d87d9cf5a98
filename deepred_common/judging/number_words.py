"""Number words, alone or in a row, as figures: "one hundred and five" is 105, "3.5 million" is 3500000."""

from __future__ import annotations

from deepred_common.judging.words import Word

_UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FIRST_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_TENTH_ORDINALS = "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth"
_ORDINALS = {word: value for value, word in enumerate(_FIRST_ORDINALS.split(), 1)} | {
    word: 10 * value for value, word in enumerate(_TENTH_ORDINALS.split(), 2)
}
_GROUPS = {"dozen": 12, "pair": 2, "couple": 2}
# What a number read so far ends with.
_START, _UNIT, _TEN, _SCALE, _FIGURE, _AND, _DONE = "start", "unit", "ten", "scale", "figure", "and", "done"


def with_figures(words: list[Word]) -> list[Word]:
    """The words with each run of number words replaced by one word in figures."""
    out: list[Word] = []
    place = 0
    while place < len(words):
        value, end = _number_at(words, place)
        if end > place:
            text = str(int(value)) if value == int(value) else str(value)
            out.append(Word(text, words[place].capital, words[place].start, words[end - 1].end))
            place = end
        else:
            out.append(words[place])
            place += 1
    return out


def _number_at(words: list[Word], place: int) -> tuple[float, int]:
    """(value, place after it) of the number words from `place` on; the same place if there are none."""
    total: float = 0  # what stands before the last thousand, million and so on
    part: float | None = None  # what is read since
    last = _START
    while place < len(words) and last != _DONE:
        text = words[place].text
        following = words[place + 1].text if place + 1 < len(words) else ""
        # "nineteen forty-five" is two numbers to arithmetic and one year to a reader.
        if text in _TENS and part is not None and 10 <= part < 20 and last == _UNIT and total == 0:
            part, last = part * 100 + _TENS[text], _TEN
        elif text in _TENS and last in (_START, _SCALE, _AND):
            part, last = (part or 0) + _TENS[text], _TEN
        elif text in _UNITS and (last in (_START, _SCALE, _AND) or (last == _TEN and _UNITS[text] < 10)):
            part, last = (part or 0) + _UNITS[text], _UNIT
        elif text in _SCALES and last in (_START, _UNIT, _TEN, _FIGURE, _SCALE):
            if text == "hundred" and last != _FIGURE:
                part = (part or 1) * 100
            else:
                total, part = total + (part if part is not None else 1) * _SCALES[text], None
            last = _SCALE
        elif last == _START and words[place].number is not None and following in _SCALES:
            part, last = words[place].number, _FIGURE
        elif text == "and" and last == _SCALE and (following in _UNITS or following in _TENS):
            last = _AND
        elif text in _ORDINALS and (
            last in (_START, _AND, _SCALE) or (last == _TEN and _ORDINALS[text] < 10)
        ):
            part, last = (part or 0) + _ORDINALS[text], _DONE
        elif text in _GROUPS and last in (_START, _UNIT):
            part, last = (part or 1) * _GROUPS[text], _DONE
        else:
            break
        place += 1
    return total + (part or 0), place
