"""Dates as data give them ("1969-07-20", "1969-07", "1969", "-44" for 44 BC), and the days or year they mean.

One grammar for all who read a date. Data in the wild carry times of day, spaces and single digits
("1969-7-2"), whose meaning is plain, so these are accepted. What is no day of the calendar is no date. The
bank of facts is stricter: it holds only dates in the form that `str` of a Date gives.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass

DEFAULT_CUTOFF = "1969-07-20"  # the day of the first Moon landing
MONTHS = [month.lower() for month in calendar.month_name[1:]]

Day = tuple[int, int, int]  # year, month, day; tuples compare as the days do

# A sign for BC, then year, month and day, as far as they are known. After a day a time may follow.
_DATE = re.compile(r"\s*(-?\d{1,4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ].*)?)?)?\s*")
_LEAP_YEAR = 4  # stands for every year before Christ, when the calendar was another


@dataclass(frozen=True)
class Date:
    """A day, a month or a year; the year is negative before Christ."""

    year: int
    month: int | None = None
    day: int | None = None

    @property
    def first_day(self) -> Day:
        """The first day that this date may mean."""
        return self.year, self.month or 1, self.day or 1

    @property
    def last_day(self) -> Day:
        """The last day that this date may mean."""
        month = self.month or 12
        return self.year, month, self.day or _days_in_month(self.year, month)

    @property
    def as_year(self) -> float:
        """The year with a fraction: the middle of a month or year, which is nearest on average."""
        if self.month is None:
            return self.year + 0.5
        into_month = 0.5 if self.day is None else (self.day - 1) / 31
        return self.year + (self.month - 1 + into_month) / 12

    def __str__(self) -> str:
        parts = [str(self.year)] + [f"{part:02}" for part in (self.month, self.day) if part is not None]
        return "-".join(parts)


def parse(text: object) -> Date | None:
    """The Date that a text (or a bare number, a year) gives; None if it is none."""
    match = _DATE.fullmatch(str(text))
    if not match:
        return None
    year, month, day = (None if part is None else int(part) for part in match.groups())
    if not year:
        return None
    if month is not None and not 1 <= month <= 12:
        return None
    if month is not None and day is not None and not 1 <= day <= _days_in_month(year, month):
        return None
    return Date(year, month, day)


def year_of(text: object) -> float | None:
    """The date as a year with a fraction (1969-07-20 is 1969.55); None if it is no date."""
    date = parse(text)
    return None if date is None else date.as_year


def _days_in_month(year: int, month: int) -> int:
    return calendar.monthrange(year if year > 0 else _LEAP_YEAR, month)[1]
