"""The report of an evaluation: one HTML file that a browser opens from disk. It loads nothing else.

Python works out the data of each section (html_sections, html_curve). The templates beside this file make
HTML of them, and Jinja2 escapes every text. The script at the end of the page draws the lists of single
questions from JSON in the page. It draws a few at a time, since 15 000 table rows at once stall a browser.
A policy in the head of the page forbids any other script.

A new section is a template `templates/<id>.html.j2`, a function that gives its data, and a line in SECTIONS.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepred_common.conversation import shown_in
from deepred_common.evaluation import comparison
from deepred_common.evaluation.results_schema import ResultRow, Results
from deepred_common.files import json_text, write_text
from deepred_common.foreign_text import whole_characters
from deepred_common.reporting import (
    html_chat,
    html_curve,
    html_discrimination,
    html_knowledge,
    html_present,
    html_probes,
    html_relearning,
    html_sampling,
    html_sections,
    number_text,
)
from deepred_common.reporting.report import Report

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
ROWS_AT_ONCE = 200  # questions that the page's script draws before it asks for a click


@dataclass(frozen=True)
class Section:
    """A part of the page.

    id: its anchor, and the name of its template. link: its name in the navigation; None for no link.
    data: what its template gets as `section`; None leaves the section out.
    """

    id: str
    link: str | None
    data: Callable[[Report], Any]


# The page from top to bottom, and so the navigation from left to right.
SECTIONS = (
    Section("figures", "Figures", html_sections.figures),
    Section("compared", None, html_sections.compared),
    Section("verdicts", "Verdicts", html_sections.verdict_bars),
    Section("probes", "Forms", html_probes.probes),
    Section("knowledge", "Knowledge", html_knowledge.knowledge),
    Section("relearning", "Relearning", html_relearning.relearning),
    Section("chat", "Chat", html_chat.chat),
    Section("curve", "Curve", html_curve.curve),
    Section("discrimination", "Discrimination", html_discrimination.discrimination),
    Section("present", "Present tense", html_present.present),
    Section("sampling", "Samples", html_sampling.sampled_replies),
    Section("breakdown", "Breakdown", html_sections.breakdown),
    Section("flips", "Differences", html_sections.differences),
    Section("lines", "Questions", html_sections.every_question),
    Section("foot", "Settings", html_sections.settings),
)


def write_report(path: Path, results: Results, others: Sequence[Results] = ()) -> None:
    """Write the report of `results` beside `others` to `path`, whole or not at all."""
    write_text(path, page(results, others))


def page(results: Results, others: Sequence[Results] = ()) -> str:
    """The report as one HTML text.

    others: further results on the same questions (baselines, another quantisation). Each becomes a column, a
    row of bars, and a list of the questions on which the two differ.
    """
    from markupsafe import Markup

    report = Report.of(results, others)
    shown = [(section, data) for section in SECTIONS if (data := section.data(report)) is not None]
    script = (FOLDER / "html_page.js").read_text(encoding="utf-8")
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=report.names[0],
            header=html_sections.header(report),
            sections=shown,
            policy=_policy(script),
            style=Markup((FOLDER / "html_page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            data=Markup(_data(report)),
        )
    )
    return str(whole_characters(text))


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "interval", "counted", "breakable", "date_text", "year_text", "p_value"):
        environment.filters[name] = getattr(number_text, name)
    return environment


def _policy(script: str) -> str:
    """The content security policy: nothing may be loaded, and only this script may run."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )


_KEYS = (
    "instruction",
    "side",
    "reference",
    "true_answer",
    "field",
    "reply",
    "verdict",
    "error",
    "probe",
    "prefix",
)


def _data(report: Report) -> str:
    """Questions and differences as JSON for the script. "<" is escaped, so no text can end the element."""
    rows = [_row_values(row, number) for number, row in enumerate(report.results["results"])]
    others = [
        {"label": name, **found["groups"]}
        for name, found in zip(report.names[1:], report.differences, strict=True)
    ]
    data = {
        "step": ROWS_AT_ONCE,
        "keys": [*_KEYS, "id", "date", "cut", "right", "turns"],
        "rows": rows,
        "others": others,
    }
    return json_text(data, separators=(",", ":")).replace("<", "\\u003c")


def _row_values(row: ResultRow, number: int) -> list[Any]:
    """The values of one question, in the order of the keys. number: stands in where the row has no id."""
    cut = row.get("finish") == "length"
    date = _row_date(row.get("date"))
    turns = shown_in(row) if row.get("earlier") else None  # else the instruction is all that was shown
    return [
        *(row.get(key) for key in _KEYS),
        row.get("id", number),
        date,
        cut,
        comparison.is_right(row),
        turns,
    ]


def _row_date(date: str | None) -> str | None:
    """A date as the data have it, since "1912-01-01" may stand for the year; but "-0700-01-01" is 700 BC."""
    if date is None:
        return None
    return number_text.date_text(date) if str(date).startswith("-") else str(date)
