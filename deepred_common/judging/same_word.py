"""Are two comparable words the same word, or of the same stem?"""

from __future__ import annotations

import re

from deepred_common.judging.names import NICKNAMES

_LONG_WORD = 5  # letters from which on a longer form, or umlauts spelled out, are the same word
_LONG_ENOUGH_FOR_A_SLIP = 6
_DIFFERENT_BY_ONE_LETTER = ({"ireland", "iceland"}, {"africa", "afrifa"})
_SHORTEST_STEM = 3
_ENDINGS = ("d", "ed", "ing", "n", "er", "ers", "ly")


def same(wanted: str, given: str) -> bool:
    """True if two comparable words are one word.

    A plural, a longer form, a nickname, umlauts spelled out, and one slip in a long word make no difference.
    """
    if wanted == given:
        return True
    if not (wanted.isalpha() and given.isalpha()):
        return False
    if wanted in (given + "s", given + "es") or given in (wanted + "s", wanted + "es"):
        return True
    if NICKNAMES.get(given) == wanted or NICKNAMES.get(wanted) == given:
        return True
    if len(wanted) >= _LONG_WORD and (
        given.startswith(wanted) or _without_umlauts(wanted) == _without_umlauts(given)
    ):
        return True
    return (
        min(len(wanted), len(given)) >= _LONG_ENOUGH_FOR_A_SLIP
        and wanted[0] == given[0]
        and {wanted, given} not in _DIFFERENT_BY_ONE_LETTER
        and _one_slip(wanted, given)
    )


def akin(wanted: str, given: str) -> bool:
    """True if two words share a stem: "gravity" and "gravitational", "segregated" and "segregation"."""
    if same(wanted, given):
        return True
    short, long = sorted((wanted, given), key=len)
    if len(short) >= _SHORTEST_STEM and long.startswith(short) and long[len(short) :] in _ENDINGS:
        return True
    stem = min(len(short), max(_LONG_WORD, len(short) - 3))
    return wanted.isalpha() and given.isalpha() and len(short) >= _LONG_WORD and wanted[:stem] == given[:stem]


def _without_umlauts(word: str) -> str:
    """The word with ae, oe and ue written a, o and u."""
    return re.sub(r"(?<=[aou])e", "", word)


def _one_slip(a: str, b: str) -> bool:
    """True if one letter more, less, other, or two swapped make `a` into `b`."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    after_a, after_b = a[start + 1 :], b[start + 1 :]
    swapped = a[start : start + 2] == b[start : start + 2][::-1] and a[start + 2 :] == b[start + 2 :]
    return after_a == after_b or a[start:] == after_b or after_a == b[start:] or swapped
