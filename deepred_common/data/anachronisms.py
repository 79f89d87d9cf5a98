"""What an example has from the wrong side of a cutoff: years and names in words, dates in metadata."""

from __future__ import annotations

import re
from collections import defaultdict

from deepred_common import paths
from deepred_common.dates import MONTHS, parse
from deepred_common.examples import RETAIN, Example, date_of
from deepred_common.json_lines import read_objects

NAMES = paths.ROOT / "datasets" / "names.jsonl"
_MONTH_STARTS = [month[:3] for month in MONTHS]
_ORDINAL = r"\d{1,2}(?:st|nd|rd|th)?"
_MONTH = "|".join([*MONTHS, *_MONTH_STARTS, "sept"])
# What follows a number that measures or counts, and is no year then.
_MEASURES = "|".join(
    [
        r"BC|B\.C|%|°",  # 2000 BC; 2000 %
        r"k?m[²2]?\b|kg|ft\b|lbs?\b|hp\b|rpm\b",  # 2000 m²
        r"(?:kilo|centi|milli)?(?:met(?:re|er)|gramme|gram)s?\b",  # 2000 kilometres
        r"(?:square |cubic |light[ -])?"  # 2000 square miles, 2000 people
        r"(?:mile|feet|foot|yard|ton|tonne|pound|dollar|people|men|women|soldier|troop|inhabitant|species|"
        r"horsepower|degree|volt|watt|lit(?:re|er)|calorie|year|day|hour|copy|copies)s?\b",
    ]
)
# A year with the month and day before it, if they are given.
_YEAR = re.compile(
    rf"(?:\b(?:(?P<day>{_ORDINAL}) (?:of )?)?(?P<month>{_MONTH})\b\.?"  # 20 July 1969
    rf"(?: (?P<late_day>{_ORDINAL}))?(?:,| of)? )?"  # July 20th, 1969
    r"(?<![\w.,$£€])(?P<year>1\d{3}|20\d{2})"
    r"(?=s?(?![A-Za-z0-9_]))(?![.,]\d)"  # no part of a longer number or word; "the 1970s" is a year
    r"(?! ?(?:-|–|to|and|or) ?\d+ ?B\.?C)"  # between 2000 and 1500 BC
    rf"(?![ -]?(?:{_MEASURES}))",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"(?<![\w-])(?:1\d{3}|20\d{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\w-])")
_NOTHING = r"(?!)"  # a pattern that matches nothing


class Anachronisms:
    """Finds what does not fit a cutoff ("YYYY-MM-DD"); each method gives {kind of findings.KINDS: detail}."""

    def __init__(self, cutoff: str) -> None:
        date = parse(cutoff)
        if date is None:
            raise ValueError(f"{cutoff!r} is no date")
        self._border = date.first_day
        self._iso_border = "{:04}-{:02}-{:02}".format(*self._border)
        year, month, day = self._border
        self._last_year = year - ((month, day) == (1, 1))  # the year of the last day that is known
        self._names = _name_pattern(self._last_year)

    def in_metadata(self, example: Example) -> dict[str, str]:
        """Dates of the metadata that lie on the other side, or cannot be read."""
        given = {key: example.metadata.get(key) for key in ("earliest_date", "latest_date", "temporal_class")}
        if example.side == RETAIN:
            text = date_of(example)
            date = parse(text)
            is_wrong = given["temporal_class"] == "post_cutoff" or (date and date.first_day >= self._border)
        else:
            text = given["latest_date"] or given["earliest_date"]
            date = parse(text)
            is_wrong = given["temporal_class"] == "pre_cutoff" or (date and date.last_day < self._border)
        detail = ", ".join(f"{key} {value}" for key, value in given.items() if value)
        if is_wrong:
            return {"wrong side of the cutoff": detail}
        return {"unread date": detail} if text and not date else {}

    def in_words(self, example: Example) -> dict[str, str]:
        """The first later year of a retain example, else the first later name in its reply."""
        # A year in the subject's own name ("2001: A Space Odyssey") is no date.
        title = str(example.metadata.get("source_title") or "")
        text = f"{example.question} {example.output}"
        for match in _YEAR.finditer(text):
            if self._is_later(match) and match["year"] not in title:
                return {"later year": _quoted(example, match["year"], match.start("year"))}
        for match in _ISO_DATE.finditer(text):
            if match[0] >= self._iso_border:
                return {"later year": _quoted(example, match[0], match.start())}
        if name := self._names.search(example.output):
            return {"later name": f"{name[0]} in {example.output!r}"}
        return {}

    def _is_later(self, match: re.Match[str]) -> bool:
        """Is a match of _YEAR after the cutoff for sure?"""
        year = int(match["year"])
        if year != self._border[0] or not match["month"]:
            return year > self._last_year
        month = 1 + _MONTH_STARTS.index(match["month"].casefold()[:3])
        digits = re.match(r"\d*", match["day"] or match["late_day"] or "")
        day = int(digits[0] or 1) if digits else 1
        return (year, month, day) >= self._border


def _quoted(example: Example, date: str, start: int) -> str:
    """A date with the text that holds it; start: its place in the question and the reply after it."""
    is_asked = start < len(example.question)
    return f"{date} in {(example.question if is_asked else example.output)!r}"


def _name_pattern(last_year: int) -> re.Pattern[str]:
    """A pattern that finds the names of datasets/names.jsonl that were known only after `last_year`."""
    later = {row["name"] for _, row in read_objects(NAMES) if row["known_from"] > last_year}
    # By their first letter, or each of a thousand names would be tried at each word.
    by_letter = defaultdict(list)
    for name in sorted(later, key=len, reverse=True):
        by_letter[name[0]].append(re.escape(name[1:]))
    groups = [f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in by_letter.items()]
    return re.compile(rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)" if groups else _NOTHING)
