"""What a line holds from the other side of a cutoff: years and well-known names in its words, and the dates of its metadata."""

import datetime
import re
from collections import defaultdict

from deepred_common import paths
from deepred_common.dates import MONTHS, parse
from deepred_common.examples import RETAIN, date_of, read_objects

NAMES = paths.ROOT / "datasets" / "names.jsonl"
_ORDINAL = r"\d{1,2}(?:st|nd|rd|th)?"
_MONTH = "|".join([*MONTHS, *(month[:3] for month in MONTHS), "sept"])
# A year with the month and day before it, if they are told. What is measured or counted in so many is no year.
_YEAR = re.compile(
    rf"(?:\b(?:(?P<day>{_ORDINAL}) (?:of )?)?(?P<month>{_MONTH})\b\.?(?: (?P<late_day>{_ORDINAL}))?(?:,| of)? )?"
    r"(?<![\w.,$£€])(?P<year>1\d{3}|20\d{2})(?=s?(?![A-Za-z0-9_]))(?![.,]\d)(?! ?(?:-|–|to|and|or) ?\d+ ?B\.?C)"
    r"(?![ -]?(?:BC|B\.C|%|°|k?m[²2]?\b|kg|ft\b|lbs?\b|hp\b|rpm\b|(?:kilo|centi|milli)?(?:met(?:re|er)|gramme|gram)s?\b|"
    r"(?:square |cubic |light[ -])?(?:mile|feet|foot|yard|ton|tonne|pound|dollar|people|men|women|soldier|"
    r"troop|inhabitant|species|horsepower|degree|volt|watt|lit(?:re|er)|calorie|year|day|hour|"
    r"copy|copies)s?\b))",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"(?<![\w-])(?:1\d{3}|20\d{2})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?![\w-])")


class Anachronisms:
    """Finds what does not fit a cutoff ("YYYY-MM-DD"); each method gives {kind of finding (checks.KINDS): detail}."""

    def __init__(self, cutoff):
        self._cutoff = day = datetime.date.fromisoformat(cutoff)
        self._last_year = day.year - (
            (day.month, day.day) == (1, 1)
        )  # of the day before, which 0001-01-01 has none of
        later = {row["name"] for _, row in read_objects(NAMES) if row["known_from"] > self._last_year}
        # By their first letter, or each of a thousand names would be tried at each word.
        names = defaultdict(list)
        for name in sorted(later, key=len, reverse=True):
            names[name[0]].append(re.escape(name[1:]))
        letters = [f"{re.escape(letter)}(?:{'|'.join(rest)})" for letter, rest in names.items()]
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(letters)})(?!\w)" if letters else r"(?!)")

    def dated(self, example):
        """Dates of a line's metadata that lie on the other side, or cannot be read."""
        known = {key: example.metadata.get(key) for key in ("earliest_date", "latest_date", "temporal_class")}
        border = (self._cutoff.year, self._cutoff.month, self._cutoff.day)
        if example.side == RETAIN:
            date = date_of(example)
            parsed = parse(date)
            wrong = known["temporal_class"] == "post_cutoff" or (parsed and parsed.first_day >= border)
        else:
            date = known["latest_date"] or known["earliest_date"]
            parsed = parse(date)
            wrong = known["temporal_class"] == "pre_cutoff" or (parsed and parsed.last_day < border)
        if wrong or (date and not parsed):
            return {
                "own date" if wrong else "date": ", ".join(
                    f"{key} {value}" for key, value in known.items() if value
                )
            }
        return {}

    def told(self, example):
        """The first later year, else the first later name, that a retain line tells."""
        # A year in the subject's own name ("2001: A Space Odyssey") is no date.
        named, text = (
            str(example.metadata.get("source_title") or ""),
            f"{example.instruction} {example.output}",
        )
        years = [
            found["year"]
            for found in _YEAR.finditer(text)
            if self._is_later(found) and found["year"] not in named
        ]
        years += [found[0] for found in _ISO_DATE.finditer(text) if found[0] >= self._cutoff.isoformat()]
        if years:
            return {"later year": f"{years[0]} in {example.output!r}"}
        if name := self._names.search(example.output):
            return {"later name": f"{name[0]} in {example.output!r}"}
        return {}

    def _is_later(self, found):
        """Is a match of _YEAR after the cutoff for sure?"""
        year = int(found["year"])
        if year != self._cutoff.year or not found["month"]:
            return year > self._last_year
        month = [name[:3] for name in MONTHS].index(found["month"].casefold()[:3])
        day = re.match(r"\d*", found["day"] or found["late_day"] or "")[0]
        return (1 + month, int(day or 1)) >= (self._cutoff.month, self._cutoff.day)
