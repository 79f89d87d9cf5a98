"""Numbers, dates and tables as HTML text: the small pieces that a report is written with."""

import calendar
import re
from html import escape
from math import floor

from deepred_common.dates import year_of


def percent(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}\u00a0%"


def span(interval):
    return f"{interval[0]:.1f}–{interval[1]:.1f}\u00a0%" if interval else "–"


def share(count, total, digits=0):
    """A table's cell: a count and its share; what is nought stays faint, so that the eye finds the rest."""
    if not total or not count:
        return f'<td class="nought">{0 if total else "–"}<small></small></td>'
    return f"<td>{count}<small>{percent(100 * count / total, digits)}</small></td>"


def count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\u202f")


def name(name):
    """A model's name as HTML that may wrap where its parts end, not in mid-word."""
    return re.sub("([/_.-])(?=.)", r"\1<wbr>", escape(name))


def date_text(date):
    """A date as a reader writes it: "20 July 1969". In years BC, where days mean little, the year."""
    year = year_of(date)
    if year is None:
        return str(date or "")
    if year < 0:
        return f"{-floor(year)} BC"
    parts = str(date).split("-")
    month = calendar.month_name[(int(parts[1]) - 1) % 12 + 1] if len(parts) > 1 else ""
    return " ".join(
        part for part in (str(int(parts[2])) if len(parts) > 2 else "", month, str(int(parts[0]))) if part
    )


def year_text(year, digits=1):
    return f"{-floor(year)} BC" if year < 0 else f"{year:.{digits}f}"


def table(caption, head, rows, name=""):
    """A table in a box that scrolls sideways by itself where the screen is narrow. All arguments are HTML."""
    return (
        f'<div class="scroll" role="region" aria-label="{re.sub("<[^>]*>", "", caption)}" tabindex="0"><table class="{name}">'
        f"<caption>{caption}</caption><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
