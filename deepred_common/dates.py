"""Dates as data write them, and what year or days they mean."""

import calendar
import re


def year_of(date):
    """A data line's date ("1969-11-10", "1912-04", "1912", "-44-03-15" for BC) as a year with fraction; None if there is none.

    A month counts from its middle, a year from its middle: on average that is nearest to the day that is not known.
    """
    found = re.fullmatch(r"(-?)(\d{1,4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", str(date or "").strip())
    if not found:
        return None
    sign, year, month, day = found.groups()
    part = 0.5 if month is None else (int(month) - 1 + (0.5 if day is None else (int(day) - 1) / 31)) / 12
    return (-int(year) if sign else int(year)) + part


_DATE = re.compile(r"(-?\d{1,4})(?:-(\d\d))?(?:-(\d\d))?")


def span(date):
    """(first day, last day) of a date as (year, month, day): of a year or month, its own. ValueError if it is none."""
    found = _DATE.fullmatch(date)
    if not found or not int(found[1]):
        raise ValueError(f"{date!r} is no date")
    year, month, day = (None if part is None else int(part) for part in found.groups())
    if month is None:
        return (year, 1, 1), (year, 12, 31)
    # A leap year for all that lies before Christ: its calendar was another.
    last = calendar.monthrange(max(year, 4) if year > 0 else 4, month)[1]
    if day is None:
        return (year, month, 1), (year, month, last)
    if not 1 <= day <= last:
        raise ValueError(f"{date!r} is no day of the calendar")
    return (year, month, day), (year, month, day)


# A date as data write it: a time of day, a missing zero and spaces around it do not matter.
_OWN_DATE = re.compile(r"\s*(-?\d{1,4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ].*)?)?)?\s*")


def _day(date, end):
    """The first (end 0) or last (end 1) day of a date of the data as (year, month, day); None if it is none."""
    found = _OWN_DATE.fullmatch(str(date))
    try:
        return (
            span("-".join([found[1], *(f"{int(part):02}" for part in found.groups()[1:] if part)]))[end]
            if found
            else None
        )
    except ValueError:
        return None
