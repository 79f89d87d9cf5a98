"""Numbers, dates and names as a report shows them: short texts, which the templates use as filters."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Sequence
from math import floor
from typing import TYPE_CHECKING

from deepred_common import dates, stats
from deepred_common.evaluation import metrics
from deepred_common.evaluation.results_schema import ResultRow

if TYPE_CHECKING:
    from markupsafe import Markup

NO_VALUE = "–"
_NBSP = "\u00a0"


def percent(value: float | None, digits: int = 1) -> str:
    """A number of percent ("75.0 %"); a dash for None."""
    return NO_VALUE if value is None else f"{value:.{digits}f}{_NBSP}%"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval in percent ("64.5-83.2 %", with a dash between); a dash for None."""
    return f"{bounds[0]:.1f}–{bounds[1]:.1f}{_NBSP}%" if bounds else NO_VALUE


def counted(number: int, noun: str) -> str:
    """A count with its noun: "1 question", "15 000 questions"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


def breakable(name: str) -> Markup:
    """A model's name that may wrap where its parts end, and nowhere else."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[/_.-])(?=.)", name))


def date_text(text: object) -> str:
    """A date as people write it: "20 July 1969". Of dates BC only the year: their days mean little."""
    date = dates.parse(text)
    if date is None:
        return str(text or "")
    if date.year < 0:
        return year_text(date.as_year)
    day = f"{date.day} " if date.day else ""
    month = f"{calendar.month_name[date.month]} " if date.month else ""
    return f"{day}{month}{date.year}"


def year_text(year: float, digits: int = 1) -> str:
    """A year with a fraction: "1969.5", or "44 BC"."""
    return f"{-floor(year)} BC" if year < 0 else f"{year:.{digits}f}"


def beyond_facts(curve: stats.Curve, rows: Iterable[ResultRow]) -> str:
    """ "after 2020" or "before 1900" if a curve's cutoff lies past all facts that it is fitted to; else "".

    There the curve goes on as its formula does, and no question was asked.
    """
    years = [year for year, _ in metrics.curve_facts(rows)]
    if not years or curve.cutoff is None:
        return ""
    first, last = floor(min(years)), floor(max(years))
    if floor(curve.cutoff) > last:
        return f"after {year_text(last, 0)}"
    return f"before {year_text(first, 0)}" if floor(curve.cutoff) < first else ""


def p_value(value: float) -> str:
    """A p-value as papers print it."""
    return f"p{_NBSP}<{_NBSP}0.001" if value < 0.001 else f"p{_NBSP}={_NBSP}{value:.3f}"
